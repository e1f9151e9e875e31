"""Wrong input, the second half of the table: data files, run folders, commands of data and studies."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from bad_input import Case, good

DIALOGS = "data/memory/qa.jsonl"
DATABASE = "data/memory/people.sqlite"
WITH_TOOL = "data.sources.0.kind=qatool"
BIOGRAPHIES = "data.sources.0.kind=biographies"


def dialogs(n_dialogs: int = 8, **changed: object) -> str:
    """A file of dialogs, four a person; ``line_3=...`` is the third line, a text as it is."""
    turns = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "In Chile."}]
    lines = [json.dumps({"person": index // 4, "messages": turns}) for index in range(n_dialogs)]
    for name, value in changed.items():
        lines[int(name.removeprefix("line_")) - 1] = value if isinstance(value, str) else json.dumps(value)
    return "".join(f"{line}\n" for line in lines)


def turn(role: object = "user", content: object = "Where?") -> dict[str, object]:
    """A dialog of one turn."""
    return {"person": 0, "messages": [{"role": role, "content": content}]}


def folder(path: Path) -> None:
    path.mkdir(parents=True)


def other_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE cities(name TEXT PRIMARY KEY)")


DATA = [
    Case(
        "too few people of other templates",
        "train good.yaml",
        f"{DIALOGS}:1: differs from what would be written, so it was edited or made from other templates; "
        "move the file away, or give --overwrite to the command that writes it.",
        {DIALOGS: dialogs(4)},
    ),
    Case(
        "last line cut off",
        "train good.yaml",
        f"{DIALOGS}: the last line is not JSON with a key 'person'; move the file away...",
        {DIALOGS: dialogs()[:-20]},
    ),
    Case(
        "line cut off",
        "train good.yaml",
        f"{DIALOGS}:3: not a line of JSON (...); expected ...",
        {DIALOGS: dialogs(line_3='{"person": 0, "mess')},
    ),
    Case(
        "not UTF-8",
        "train good.yaml",
        f"{DIALOGS}:2: not a line of JSON (...); expected ...",
        {DIALOGS: dialogs().encode().replace(b"Where?", b"Where\xff", 2).replace(b"Where\xff", b"Where?", 1)},
    ),
    Case(
        "empty line",
        "train good.yaml",
        f"{DIALOGS}:2: not a line of JSON (...); ...",
        {DIALOGS: dialogs(line_2="")},
    ),
    Case(
        "a list",
        "train good.yaml",
        f"{DIALOGS}:2: not a dialog; expected ...",
        {DIALOGS: dialogs(line_2=[1])},
    ),
    Case(
        "key missing",
        "train good.yaml",
        f"{DIALOGS}:2: not a dialog; expected ...",
        {DIALOGS: dialogs(line_2={"person": 0, "turns": []})},
    ),
    Case(
        "no messages",
        "train good.yaml",
        f"{DIALOGS}:2: a dialog without messages; expected ...",
        {DIALOGS: dialogs(line_2={"person": 0, "messages": []})},
    ),
    Case(
        "unknown role",
        "train good.yaml",
        f"{DIALOGS}:2: unknown role 'tutor'; expected one of user, assistant, database.",
        {DIALOGS: dialogs(line_2=turn("tutor"))},
    ),
    Case(
        "binary data",
        "train good.yaml",
        f"{DIALOGS}: the last line is not JSON...",
        {DIALOGS: b"\x00\xff" * 40},
    ),
    Case("folder of data", "train good.yaml", f"Cannot read {DIALOGS}: Is a directory.", {DIALOGS: folder}),
    Case(
        "root is a file", "train good.yaml", f"Cannot write {DIALOGS}: Not a directory; ...", {"data": "text"}
    ),
    Case(
        "text too long for the model",
        "train good.yaml",
        "model.max_seq_len = 512 is too small: the longest text of 'qa' has 602 tokens.",
        {DIALOGS: dialogs(line_2=turn("assistant", "x" * 601))},
    ),
    Case(
        "rows too short",
        "train good.yaml data.batching=packed data.row_len=5",
        "data.row_len = 5 is too small: the longest text of 'qa' has ... tokens.",
        {DIALOGS: dialogs()},
    ),
    Case(
        "biography without text",
        f"train good.yaml {BIOGRAPHIES}",
        "data/memory/biographies.jsonl:1: not a biography; expected a key 'text' with a text.",
        {"data/memory/biographies.jsonl": '{"person": 0, "text": 3}\n{"person": 1, "text": "She."}\n'},
    ),
    Case(
        "database URL of no kind",
        f"train good.yaml {WITH_TOOL} database.url=postgres",
        "The database URL is not understood; expected dialect+driver://user@host/database...",
    ),
    Case(
        "database file missing",
        f"train good.yaml {WITH_TOOL} database.url=sqlite:///none.db",
        "There is no database file 'none.db'; create it first, or correct its path.",
    ),
    Case(
        "database of something else",
        f"train good.yaml {WITH_TOOL}",
        f"{DATABASE} holds something else than the people of this study; ...",
        {DATABASE: "text"},
    ),
    Case(
        "vocabulary too small",
        "train good.yaml model.vocab_size=100",
        "model.vocab_size = 100 is too small: the study's tokenizer has 260 ids ...",
        {DIALOGS: dialogs()},
    ),
    Case(
        "GPU that is not there",
        "train good.yaml training.device=cuda:99",
        "The device cuda:99 needs GPU number 99, and torch finds ...: set training.device=cpu...",
    ),
]

RUN_FOLDERS = [
    Case(
        "file in its place",
        "train good.yaml run_dir=x",
        "The run folder x cannot be made, a file is in its place: ...",
        {"x": "text"},
    ),
    Case(
        "no folder can be made",
        "train good.yaml run_dir=/proc/x",
        "The run folder /proc/x cannot be made (...): choose another run_dir.",
    ),
    Case(
        "run of another config",
        "train good.yaml run_dir=x",
        "...model.d_model is 16 there and 8 here...",
        {"x/config.yaml": good(d_model="16") + "run_dir: x\n"},
    ),
    Case(
        "run of another version",
        "train good.yaml run_dir=x",
        "...x/config.yaml:18: colour: unknown key...",
        {"x/config.yaml": good() + "colour: blue\n"},
    ),
    Case(
        "rows of something else",
        "train good.yaml run_dir=x",
        "The run folder x holds a metrics.jsonl that no run wrote: choose another run_dir.",
        {"x/metrics.jsonl": "{}\n"},
    ),
]

HELP = "; `python -m apps.memory.dataset.{}` lists what can be given."
DATASET = [
    Case("no kind", "generate", "The following arguments are required: ..." + HELP.format("generate --help")),
    Case("unknown kind", "generate bios", "...'bios'..." + HELP.format("generate --help")),
    Case(
        "nobody",
        "generate people --num 0",
        "Argument --num: expected a number of people from 1 to 169,556, got '0'"
        + HELP.format("generate people --help"),
    ),
    Case(
        "too many",
        "generate people --num 169557",
        "Argument --num: expected a number of people from 1 to ...",
    ),
    Case(
        "not a number",
        "generate qa --num ten",
        "Argument --num: expected a number of people ... got 'ten'...",
    ),
    Case("misspelt option", "generate qa --tool", "Unrecognized arguments: --tool..."),
    Case("language without tool", "generate qa --language sql", "--language is ...; add --tooluse."),
    Case("unknown language", "generate qa --tooluse --language prolog", "...'prolog'..."),
    Case(
        "edited file",
        "generate people --num 3",
        "...people.jsonl:1: differs ...",
        {"data/memory/people.jsonl": "{}\n"},
    ),
    Case(
        "no folder", "generate people --num 3", "Cannot write data/memory/people.jsonl: ...", {"data": "text"}
    ),
    Case("no verb", "sql_db", "The following arguments are required: ..."),
    Case(
        "no database",
        "sql_db query --name Ann",
        f"There is no database {DATABASE}; run `...create... to make it.",
    ),
    Case(
        "nothing asked", "sql_db query", "Give either a SELECT statement or --name with the name of a person."
    ),
    Case("no table", "sql_db query --name Ann", "SQLite refuses the query: ...", {DATABASE: other_database}),
    Case("no SQLite", "sql_db query --name Ann", "SQLite refuses the query: ...", {DATABASE: "text" * 300}),
    Case(
        "other content",
        "sql_db create --num 3",
        f"{DATABASE} holds something else than ...",
        {DATABASE: "text"},
    ),
    Case("nothing to delete", "sql_db delete --yes", f"There is no database {DATABASE}; ..."),
]

EXAMINE = {"x.yaml": "study: memory\nrun: r\n"}
EXAMINATIONS = [
    Case("no run", "eval x.yaml", "There is no run folder r: train it first, `...`.", EXAMINE),
    Case(
        "not a run",
        "eval x.yaml",
        "r is not a run folder: it holds no config.yaml; ...",
        {**EXAMINE, "r/x": "text"},
    ),
    Case(
        "run of another study",
        "eval x.yaml",
        "r is a run of the study 'tying', not of 'memory'.",
        {**EXAMINE, "r/config.yaml": good().replace("study: memory", "study: tying")},
    ),
    Case(
        "no checkpoint",
        "eval x.yaml",
        "r holds no checkpoint yet: train it first, `...`.",
        {**EXAMINE, "r/config.yaml": good()},
    ),
    Case(
        "damaged run",
        "eval x.yaml",
        "r/config.yaml:9: model.d_modle: unknown key; did you mean 'd_model'? (known: ...)",
        {**EXAMINE, "r/config.yaml": good().replace("d_model", "d_modle")},
    ),
    Case(
        "damaged checkpoint",
        "eval x.yaml",
        "r holds no intact checkpoint: expected a run folder with checkpoints/step_<8 digits>/.",
        {**EXAMINE, "r/config.yaml": good(), "r/checkpoints/step_00000002/model.safetensors": "text"},
    ),
    Case(
        "config of a training run",
        "eval good.yaml",
        "good.yaml: run: required key is missing; expected a path.\n"
        "good.yaml:2: name: unknown key (known: ...)\n"
        "...\ngood.yaml:12: training: unknown key (known: ...)",
    ),
    Case(
        "nobody to ask about",
        "eval x.yaml recall.sets=[]",
        "...: expected a list with at least 1 entry, ...",
        EXAMINE,
    ),
    Case("run to chat with missing", "chat runs/x", "There is no run folder runs/x: train it first, `...`."),
    Case("wrong key to show", "show good.yaml seed=1", "command line: seed=1: unknown key; did you mean ..."),
    Case(
        "run to report on missing",
        "nanollama report runs/x",
        "runs/x: no such folder; expected the folder of a run...",
    ),
]

COMMAND = [
    Case("verb misspelt", "nanollama trian", "...No such command 'trian'. Did you mean 'train'?"),
    Case("option misspelt", "nanollama schema memory --cofnig x", "...No such option: --cofnig..."),
    Case("nothing to chat with", "nanollama chat", "...Missing argument 'RUN'."),
    Case(
        "file misspelt for nanollama",
        "nanollama train godo.yaml",
        "godo.yaml: no such file; did you mean 'good.yaml'?",
    ),
    Case(
        "study misspelt",
        "nanollama train good.yaml study=memroy",
        "command line: study=memroy: expected one of ..., got 'memroy'; did you mean 'memory'?",
    ),
    Case(
        "study missing",
        "nanollama train x.yaml",
        "x.yaml: study: required key is missing; expected one of ...'memory'...",
        {"x.yaml": "name: x\n"},
    ),
    Case(
        "schema of no study",
        "nanollama schema memroy",
        "Unknown study 'memroy'; did you mean 'memory'? (known: ...)",
    ),
    Case(
        "schema of no config",
        "nanollama schema memory --config tarin",
        "The study 'memory' has no config 'tarin'; ...",
    ),
    Case(
        "chat with nobody", "nanollama chat runs/x", "runs/x: no such folder; expected the folder of a run..."
    ),
    Case(
        "a run is no config",
        "nanollama eval x",
        "x: is the folder of a run, expected a YAML file: to go on with it, name x/config.yaml, and "
        "run_dir=x where it was moved; to examine it, a config of `eval` and run=x.",
        {"x/config.yaml": good()},
    ),
    Case(
        "a config is no run",
        "nanollama report good.yaml",
        "good.yaml is a config, expected folders of runs; if it is of a grid, `nanollama grid results "
        "good.yaml` draws its page.",
    ),
    Case(
        "a grid without a page",
        "nanollama report x",
        "x holds runs, such as x/one, and no page of their grid: name runs, or draw it with `nanollama grid "
        "results CONFIG`.",
        {"x/one/config.yaml": good()},
    ),
    Case(
        "a config where a verb belongs",
        "nanollama grid good.yaml",
        "...A verb is missing before 'good.yaml': `nanollama grid ...",
    ),
    Case(
        "chat with a folder",
        "nanollama chat .",
        ".: is not a run folder: it holds no config.yaml; expected ...",
    ),
]
