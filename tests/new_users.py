"""What new users type, right and wrong, in the order of a first hour, and what each has to print.

All are typed one after another in one folder, which holds ``good.yaml`` (memory, two steps), the same as
``my config.yaml`` with a space, ``text.txt``, a folder ``empty``, and the studies. ``runs/words`` is a run of
another study, ``runs/stopped`` one without result and checkpoints. In an answer, ``...`` is anything.
"""

from __future__ import annotations

MEMORY = "apps/memory/config"
EXAMINE = f"nanollama eval {MEMORY}/eval.yaml"
GRID = f"{MEMORY}/local_grid.yaml"

TYPED: list[tuple[str, int, str]] = [
    # The first look
    ("nanollama", 2, "Usage: nanollama...train...eval...report"),
    ("nanollama help", 0, "Usage: nanollama...train...eval...report"),
    ("nanollama -h", 0, "Usage: nanollama...train...eval...report"),
    ("nanollama --version", 0, "0."),
    ("nanollama help train", 0, "Usage: nanollama train...CONFIG"),
    ("nanollama train --help", 0, "Usage: nanollama train...CONFIG"),
    ("nanollama train", 2, "Usage: nanollama train...CONFIG"),
    ("python -m apps.memory.train", 2, "usage: ...--help` lists the keys."),
    ("python -m apps.gssm.show", 2, "usage: ...--help` lists the keys."),
    # Verbs
    ("nanollama tarin good.yaml", 2, "No such command 'tarin'. Did you mean 'train'?"),
    ("nanollama run good.yaml", 2, "No such command 'run': it is `nanollama train` here."),
    ("nanollama ls", 2, "No such command 'ls': it is `nanollama runs list` here."),
    ("nanollama evaluate runs/x", 2, "No such command 'evaluate'. Did you mean 'eval'?"),
    ("nanollama good.yaml", 2, "A verb is missing before 'good.yaml', such as `nanollama train CONFIG`."),
    ("nanollama data good.yaml", 2, "A verb is missing before 'good.yaml': `nanollama data show good.yaml`."),
    ("nanollama new mine", 2, "A verb is missing before 'mine': `nanollama new study mine`."),
    ("nanollama export runs/x out", 2, "...`nanollama export hf runs/x out`."),
    (f"nanollama grid {GRID}", 2, f"...`nanollama grid run|status|retry|logs|results|record {GRID}`."),
    # Configs
    ("nanollama train godo.yaml", 2, "godo.yaml: no such file; did you mean 'good.yaml'?"),
    ("nanollama train debug", 2, f"debug: no such file; did you mean ...'{MEMORY}/debug.yaml'"),
    ("nanollama train conf/good.yaml", 2, "conf/good.yaml: no such file; the folder 'conf' does not exist."),
    ("nanollama train text.txt", 2, "text.txt: expected keys and values (`key: value`) at the top, ..."),
    ("nanollama train empty", 2, "empty: is a folder, expected a YAML file..."),
    ("nanollama train expect.yaml", 2, "expect.yaml: study: required key is missing; expected one of ..."),
    (f"nanollama train {MEMORY}/eval.yaml", 2, "...name: required key is missing...run: unknown key..."),
    (f"nanollama train {GRID}", 2, f"...many runs, ...`nanollama grid run {GRID}` runs them all."),
    (
        "python -m apps.memory.train apps/composition/config/debug.yaml",
        2,
        "apps/composition/config/debug.yaml:3: study: expected 'memory', got 'composition': it is a config "
        "of another study; ...",
    ),
    ("nanollama train 'my config.yaml' --dry-run", 0, "study: memory...name: good"),
    ("nanollama train größe.yaml --dry-run", 2, "größe.yaml: no such file..."),
    # Keys
    (
        "nanollama train good.yaml --lr 0.1",
        2,
        "--lr: unknown option, keys are set by `key=value`, such as...",
    ),
    ("nanollama train good.yaml --training.n_steps=5", 2, "...did you mean 'training.n_steps=5'?"),
    ("nanollama train good.yaml training.lr=0.1", 2, "...mean 'training.optimizer.learning_rate'?..."),
    ("nanollama train good.yaml n_steps=5", 2, "...unknown key; did you mean 'training.n_steps'?..."),
    (
        "nanollama train good.yaml training.n_steps 5",
        2,
        "...`key=value`..., such as `training.n_steps=VALUE`.",
    ),
    ("nanollama train good.yaml training.n_steps= 5", 2, "command line: training.n_steps=: has no value..."),
    ("nanollama train good.yaml training.n_steps=-5", 2, "...n_steps=-5: expected an integer >= 1 ..."),
    ("nanollama train good.yaml training.n_steps=2.5", 2, "...expected an integer ..., got 2.5."),
    ("nanollama train good.yaml training.device=gpu", 2, "...expected auto, cpu, cuda or cuda:N, ..."),
    ("nanollama train good.yaml device=cpu", 2, "...did you mean 'training.device'?..."),
    (
        "nanollama train good.yaml training.device=cuda:9",
        2,
        "The device cuda:9 ...: set training.device=cpu...",
    ),
    ("nanollama train good.yaml model.n_heads=3", 2, "...d_model = 8 is not a multiple of n_heads = 3."),
    ("nanollama train good.yaml name='größe 1'", 2, "...expected a text with ..., got 'größe 1'."),
    # A run
    ("nanollama data show good.yaml", 0, "row 0..."),
    ("nanollama train good.yaml run_dir=text.txt", 2, "The run folder text.txt cannot be made, a file is..."),
    (
        "nanollama train good.yaml run_dir=/proc/x",
        2,
        "The run folder /proc/x cannot be made (...): choose...",
    ),
    (
        "nanollama train good.yaml run_dir='runs/größe 1'",
        0,
        "finished after 2 steps...next: ...nanollama report...",
    ),
    ("nanollama train good.yaml", 0, "finished after 2 steps...next: ...nanollama report runs/good"),
    ("nanollama train good.yaml", 0, "runs/good is finished: nothing to do (overwrite=true starts anew)."),
    ("nanollama train runs/good", 2, "runs/good: is the folder of a run, expected a YAML file: to go on..."),
    ("nanollama train runs/good/config.yaml", 0, "runs/good is finished: nothing to do..."),
    (
        "nanollama train good.yaml training.seed=1",
        2,
        "...another config, training.seed is 0 there and 1 here...",
    ),
    # Examine it
    (
        "nanollama eval runs/good",
        2,
        "runs/good: is the folder of a run...a config of `eval` and run=runs/good.",
    ),
    (f"{EXAMINE} run=runs/x", 2, "There is no run folder runs/x: train it first, ..."),
    (f"{EXAMINE} run=runs/stopped", 2, "runs/stopped holds no checkpoint yet: train it first, ..."),
    (f"{EXAMINE} run=runs/words", 2, "runs/words is a run of the study 'composition', not of 'memory'."),
    (
        f"{EXAMINE} run=runs/good/checkpoints/step_00000099",
        2,
        "There is no checkpoint runs/good/checkpoints/step_00000099: the run has those of steps 2.",
    ),
    (f"{EXAMINE} run=runs/good device=cuda:9", 2, "The device cuda:9 needs...: set device=cpu, or ..."),
    ("nanollama chat", 2, "Missing argument 'RUN'."),
    ("nanollama chat runs/x", 2, "runs/x: no such folder; expected the folder of a run, such as runs/..."),
    ("nanollama chat good.yaml", 2, "good.yaml: is a file; did you mean 'runs/good'?"),
    ("nanollama chat runs/good", 0, "...answers by heart...question ...answer"),
    ("nanollama chat runs/good Who?", 2, "Who?: expected `key=value`; questions are typed once ..."),
    ("nanollama chat runs/words", 2, "The study 'composition' has no 'chat'; it has ..."),
    # Look at it
    ("nanollama report", 2, "...The following arguments are required: RUN; ..."),
    ("nanollama report attention --help", 0, "usage: nanollama report attention RUN..."),
    ("nanollama report runs/x", 2, "runs/x: no such folder; expected the folder of a run, ..."),
    ("nanollama report runs/godo", 2, "runs/godo: no such folder; did you mean 'runs/good'?"),
    ("nanollama report good", 2, "good: no such folder; did you mean 'runs/good'?"),
    ("nanollama watch runs/god", 2, "runs/god: no such folder; did you mean 'runs/good'?"),
    ("nanollama chat goood", 2, "goood: no such folder; did you mean 'runs/good'?"),
    (f"{EXAMINE} run=runs/godo", 2, "There is no run folder runs/godo; did you mean 'runs/good'?"),
    ("nanollama runs list runs/god", 2, "runs/god: no such folder; did you mean 'runs/good'?"),
    ("nanollama report runs", 2, "runs holds runs, such as ..."),
    ("nanollama report runs/stopped", 0, "wrote runs/stopped/report.html"),
    ("nanollama report gap", 2, "`gap` is a page of a run: name the run, `nanollama report gap RUN`."),
    ("nanollama report gap runs/good", 2, "The study 'memory' has no 'gap'; it has ..."),
    (
        "nanollama report attention runs/words length=99",
        2,
        "...no test sequences of length 99: expected one ...",
    ),
    ("nanollama watch runs/x", 2, "runs/x: no such folder; expected the folder of a run or of several, ..."),
    ("nanollama watch text.txt", 2, "text.txt: is a file; expected the folder of a run or of several, ..."),
    ("nanollama watch empty", 2, "empty: no run is there; name folders of runs, ..."),
    ("nanollama watch good.yaml", 2, "The config of 'good' has no section `grid`: add one, or ..."),
    ("nanollama runs list", 0, "...good...finished...4 runs of 4, ..."),
    ("nanollama runs list empty", 2, "empty: no runs; `nanollama train CONFIG` makes one."),
    (
        "nanollama runs list --where nope=3",
        2,
        "No run has 'nope': expected a measure, a key of the configs, ...",
    ),
    ("nanollama runs verify runs/good", 0, "1 checkpoint as they were written, 0 damaged"),
    ("nanollama runs compare runs/good", 2, "Only one run to compare: name two or more, ..."),
    ("nanollama runs delete runs --yes", 2, "runs is not the folder of a run: each run ... has to be named."),
    # Many runs, and further
    (f"nanollama grid run {GRID} --dry-run", 0, "...12 runs in runs/local_grid..."),
    ("nanollama grid run good.yaml", 2, "The config of 'good' has no section `grid`: add one, or run it ..."),
    (f"nanollama grid results {GRID}", 2, "No run of runs/local_grid has a result yet: ..."),
    (f"nanollama grid logs {GRID} nope", 2, "The grid 'local_grid' has no run 'nope'; ..."),
    (f"nanollama grid run {GRID} grid.seeds=0", 2, "...grid.seeds=0: expected an integer >= 1 or a list..."),
    ("nanollama book nope", 2, "Unknown study 'nope'. (known: ..."),
    ("nanollama new study My-Study", 2, "'My-Study' cannot be the name of a study: expected ..."),
    ("nanollama schema memory --config nope", 2, "The study 'memory' has no config 'nope'. (known: ..."),
    ("nanollama export hf runs/x out", 2, "There is no run folder runs/x: train it first, ..."),
    ("nanollama import hf empty runs/y", 2, "The folder empty holds no config.json: expected that of ..."),
    ("python -m apps.tying.train --dir text.txt", 2, "--dir text.txt: is a file; expected a folder, ..."),
    ("python -m apps.tying.train --dir x --epochs ten", 2, "Argument --epochs: expected a number >= 1, ..."),
    (
        'python -m apps.memory.dataset.sql_db query "Bertha Malone"',
        2,
        "There is no database ...; run `...create...` to make it.",
    ),
]
