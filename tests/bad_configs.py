"""Wrong input, the first half of the table: files that are no configs, wrong configs, wrong arguments."""

from __future__ import annotations

from bad_input import GOOD, Case, good

PATHS = [
    Case(
        "nothing typed",
        "train",
        "usage: python -m apps.memory.train [config=]PATH [key=value ...] [--dry-run] [--help]\n"
        "`python -m apps.memory.train --help` lists the keys.",
    ),
    Case("file misspelt", "train godo.yaml", "godo.yaml: no such file; did you mean 'good.yaml'?"),
    Case(
        "folder misspelt",
        "train conf/good.yaml",
        "conf/good.yaml: no such file; the folder 'conf' does not exist.",
    ),
    Case("folder", "train .", ".: is a folder, expected a YAML file (configs there: good.yaml)."),
    Case("file as folder", "train good.yaml/x", "good.yaml/x: cannot be read: ..."),
    Case(
        "override first",
        "train seed=1",
        "command line: no config given; expected `[config=]PATH [key=value ...]`.",
    ),
    Case(
        "two configs",
        "train good.yaml config=good.yaml",
        "command line: two configs given, 'good.yaml' and 'good.yaml'; expected one.",
    ),
    Case(
        "empty", "train x.yaml", "x.yaml: is empty; expected keys and values (`key: value`).", {"x.yaml": ""}
    ),
    Case(
        "picture",
        "train x.yaml",
        "x.yaml: is not UTF-8 text (byte 0x89 at offset 0); expected a YAML file.",
        {"x.yaml": b"\x89PNG"},
    ),
    Case(
        "list",
        "train x.yaml",
        "x.yaml: expected keys and values (`key: value`) at the top, got a list.",
        {"x.yaml": "- 1\n"},
    ),
    Case("data", "train x.jsonl", "x.jsonl:2:1: is not valid YAML: ...", {"x.jsonl": '{"a": 1}\n{"a": 2}\n'}),
    Case("tab", "train x.yaml", "x.yaml:2:1: is not valid YAML: ...", {"x.yaml": "model:\n\td_model: 3\n"}),
    Case("open bracket", "train x.yaml", "x.yaml:2:1: is not valid YAML: ...", {"x.yaml": "name: [a\n"}),
    Case("no base", "train x.yaml", "x.yaml:1: base: y.yaml: no such file...", {"x.yaml": "base: y.yaml\n"}),
    Case(
        "circle of bases",
        "train x.yaml",
        "y.yaml:1: base: 'x.yaml' leads back to a file that builds on it.",
        {"x.yaml": "base: y.yaml\n", "y.yaml": "base: x.yaml\n"},
    ),
    Case(
        "huge",
        "train x.yaml",
        "x.yaml: is larger than 1 MiB; expected a YAML file...",
        {"x.yaml": "a" * 2_000_000},
    ),
]

CONFIGS = [
    Case(
        "everything at once",
        "train x.yaml training.n_steps=many",
        "x.yaml:2: name: expected a text with at most 100 characters and matching `...`, got 3.\n"
        "x.yaml:4: data.n_people: expected an integer >= 1 and <= 169556, got 0.\n"
        "x.yaml:9: model.d_modle: unknown key; did you mean 'd_model'? (known: ...)\n"
        "x.yaml:18: colour: unknown key (known: ...)\n"
        "command line: training.n_steps=many: expected an integer >= 1 and <= 99999999, got 'many'.",
        {"x.yaml": good(name="3", n_people="0").replace("d_model", "d_modle") + "colour: blue\n"},
    ),
    Case(
        "keys missing",
        "train x.yaml",
        "x.yaml: name: required key is missing; expected a text...\n"
        "x.yaml: model: required key is missing; expected a section...\n"
        "x.yaml: training: required key is missing; expected a section.\n"
        "x.yaml: data: required key is missing; expected a section.",
        {"x.yaml": "study: memory\n"},
    ),
    Case(
        "key twice",
        "train x.yaml",
        "x.yaml:18: name: duplicate key (first in line 2); keep one of them.",
        {"x.yaml": good() + "name: again\n"},
    ),
    Case(
        "text for a number",
        "train x.yaml",
        "x.yaml:9: model.d_model: expected an integer >= 1, got '8'.",
        {"x.yaml": good(d_model="'8'")},
    ),
    Case(
        "impossible sizes",
        "train x.yaml",
        "x.yaml:7: model: d_model = 9 is not a multiple of n_heads = 2.",
        {"x.yaml": good(d_model="9")},
    ),
    Case(
        "wrong in a base",
        "train x.yaml",
        "y.yaml:13: training.n_steps: expected an integer >= 1 and <= 99999999, got -1.",
        {"x.yaml": "base: y.yaml\nname: near\n", "y.yaml": good(n_steps="-1")},
    ),
    Case(
        "other study",
        "train x.yaml",
        "x.yaml:1: study: expected 'memory', got 'tying': it is a config of another study; ...",
        {"x.yaml": good(study="tying")},
    ),
    Case(
        "section is a value",
        "train x.yaml",
        "x.yaml:18: database: expected a section, got 'sqlite'.",
        {"x.yaml": good() + "database: sqlite\n"},
    ),
    Case(
        "too many people to ask about",
        "train x.yaml",
        "x.yaml: recall.n_people = 200000 people ... leaves 169554 never shown.",
        {"x.yaml": GOOD.replace("recall:\n  n_people: 2", "recall:\n  n_people: 200000")},
    ),
]


def overridden(argument: str, answer: str, name: str = "") -> Case:
    """The right config with one wrong argument, which the answer names."""
    return Case(name or argument, f"train good.yaml {argument}", f"command line: {argument}: {answer}")


OVERRIDES = [
    overridden(
        "training.n_steps", "expected `key=value` with a dotted key, such as `training.n_steps=VALUE`."
    ),
    overridden("training..seed=1", "expected `key=value` with a dotted key, such as `model.d_model=32`."),
    overridden("name=", "has no value; write `name=null` if nothing is meant."),
    overridden("name=[a", "is not valid YAML: ..."),
    overridden("--seed=1", "unknown option, keys are set by `key=value`; did you mean 'seed=1'?"),
    overridden("seed=1", "unknown key; did you mean 'training.seed'? (known: study, name, ...)"),
    overridden("modle.d_model=4", "modle: unknown key; did you mean 'model'? (known: study, name, ...)"),
    overridden(
        "training.learning_rate=1e-3", "unknown key; did you mean 'training.optimizer.learning_rate'? ..."
    ),
    overridden("name.first=a", "'name' is 'good' (good.yaml:2), not a section with a key 'first'."),
    overridden("data.sources.1.kind=qa", "'data.sources' is a list; expected an index from 0 to 0, got '1'."),
    overridden("data.sources.0.kind=quiz", "expected one of 'qa', 'qatool', ..., got 'quiz'."),
    overridden("data.sources.0.weight=0", "expected a number > 0, got 0."),
    overridden("data.sources=[]", "expected a list with at least 1 entry, each a section, got []."),
    overridden("data.batching=pakced", "expected one of ..., got 'pakced'; did you mean 'packed'?"),
    overridden("training.n_steps=1e4", "expected an integer >= 1 and <= 99999999, got 10000.0."),
    overridden(
        "model.n_layers=999999999999999999999",
        "expected an integer >= 1 and <= 10000, got 999999999999999999999.",
    ),
    overridden("training.n_steps=0", "expected an integer >= 1 and <= 99999999, got 0."),
    overridden("training.max_minutes=.inf", "expected a number > 0 or null, got Infinity."),
    overridden(
        "training.precision=fp8", "expected one of 'auto', 'float32', 'bfloat16', 'float16', got 'fp8'."
    ),
    overridden("training.device=gpu", "expected auto, cpu, cuda or cuda:N, such as cuda:0, got 'gpu'."),
    overridden("training.compile=1", "expected true or false, got 1."),
    overridden("training.optimizer=adam", "expected a section, got 'adam'."),
    overridden(
        "training.optimizer.betas=[0.9]", "training.optimizer.betas.1: entry is missing; expected a number..."
    ),
    overridden(
        "training.optimizer.betas=[2,0]", "training.optimizer.betas.0: expected a number >= 0 and < 1, got 2."
    ),
    overridden("training.optimizer.warmup=2", "unknown key; did you mean 'warmup_steps'? (known: ...)"),
    overridden("model.implementation=bert", "expected one of 'transformer'..., 'hugging_face', got 'bert'."),
    overridden("model.dropout=1", "expected a number >= 0 and < 1, got 1."),
    overridden("recall.sets=[everybody]", "recall.sets.0: expected one of ..., got 'everybody'."),
    overridden(
        "data_root=$NOWHERE/data", "the environment variable 'NOWHERE' in '$NOWHERE/data' is not defined."
    ),
    overridden("run_dir=''", "expected a path, got ''."),
    overridden("name=../good", "expected a text ... matching `...`, got '../good'."),
    overridden("training.n_accumulation=9", "n_accumulation is 9, expected at most batch_size (4)."),
    overridden("recall.n_people=169556", "recall.n_people = 169556 people of the set 'unseen' are asked ..."),
    overridden("training.lr=3", "unknown key; did you mean 'training.optimizer.learning_rate'? ..."),
    Case(
        "grid to train",
        "train good.yaml grid={seeds:2} expect=[]",
        "command line: grid={seeds:2}: grid: this config describes many runs, and here one is expected; "
        "`nanollama grid run good.yaml` runs them all.",
    ),
]
