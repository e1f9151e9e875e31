# Everything a newcomer types: `make help` lists it. Needs make and Python >= 3.10, nothing else.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# What demo, tests and docs need; the extras `track` (loggers) and `ssm` (CUDA kernels) are left to the user.
EXTRAS := dev,visu,hf,hdf5,sql,slurm,docs
# Further arguments: `make test ARGS="-m 'not slow'"`, `make demo ARGS=name=mine`, `make bench ARGS=--quick`.
ARGS ?=
# The interpreter that makes the environment: `make venv PYTHON=python3.12`. Left empty, the first that will do.
PYTHON ?=
CANDIDATES := python3 python3.13 python3.12 python3.11 python3.10 python

# Of `make data/model/final.pt`: device, epochs, epochs between checkpoints, compiler (none, inductor), examples to
# learn from (empty: all), a final.pt or run folder to go on from, tied embeddings, and whether the output embeddings
# of a model that is no longer tied are copies of the input (True) or drawn (False).
DEVICE ?= auto
EPOCHS ?= 1
ETC ?= 1
COMPILER ?= none
DATASIZE ?=
RESTORE ?=
TIED ?= True
IOEMB ?=

.PHONY: help venv ask head demo test coverage check bench docs lessons faults

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z][a-z./]*:.*## / { printf "make %-19s %s\n", $$1, $$2 }' Makefile

venv: $(STAMP) ## make .venv and install what demo and test need

ask: $(STAMP) ## a minute: a model learns to ask a database; page and pictures in runs/ask
	$(RUN) -m apps.memory.train apps/memory/config/ask.yaml
	$(RUN) -m nanollama report runs/ask --figures runs/ask/figures

head: $(STAMP) ## a minute: an iteration head grows; page and pictures in runs/head
	$(RUN) -m apps.composition.train apps/composition/config/head.yaml
	$(RUN) -m nanollama report attention runs/head

demo: $(STAMP) ## train a model that asks and one that memorises; table, figures and page in runs/demo
	$(RUN) -m apps.memory.local_grid apps/memory/config/demo.yaml $(ARGS)

# Processes of one thread each: waiting threads of one would take the cores from the other. Three for two cores, as
# one of them mostly waits: first for Slurm, then for processes that it has started.
test: $(STAMP) ## the whole test suite
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 3 --no-loadscope-reorder $(ARGS)

# Apart, as it doubles the time of tests that start no process of their own.
coverage: $(STAMP) ## the same, with branch coverage: at least 85 % of the library
	$(MAKE) test ARGS="--cov --cov-branch --cov-report=term --cov-fail-under=85 $(ARGS)"

check: $(STAMP) ## format, lint, types
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

docs: $(STAMP) ## the documentation site: build/docs/index.html
	$(RUN) -m sphinx --quiet --fail-on-warning --keep-going -b html -c docs . build/docs $(ARGS)
	@echo "wrote build/docs/index.html"

lessons: $(STAMP) ## run all lessons, some ten minutes; the site then shows what they print
	LESSONS=run $(MAKE) docs

bench: $(STAMP) ## side-by-side timings: a table, and benchmarks/results.json
	$(RUN) -m benchmarks $(ARGS)

faults: $(STAMP) ## kills, full disks, damaged files, mistyped configs, hostile requests; ARGS="--minutes 60"
	$(RUN) -m tests.faults $(ARGS)

data/model/final.pt: $(STAMP) FORCE ## the tying study: train tied, untied, or untied midway
	$(RUN) -m apps.tying.train --dir $(@D) --device $(DEVICE) --epochs $(EPOCHS) --etc $(ETC) \
	  --compiler $(COMPILER) --arch tied $(TIED) $(if $(DATASIZE),--data size $(DATASIZE)) \
	  $(if $(RESTORE),--restore $(RESTORE)) $(if $(IOEMB),--ioemb-copy $(IOEMB)) $(ARGS)

# Whether the file is that of these variables is known to the program alone.
.PHONY: FORCE
FORCE:

venv/bin/python: $(STAMP) ## the same environment by the name of old
	ln -sfn $(VENV) venv

# Made anew where it is missing or its interpreter has gone; installed into when what is needed has changed.
$(STAMP): pyproject.toml constraints.txt
	@$(RUN) -c "import pip" 2>/dev/null || { \
	  for python in $(or $(PYTHON),$(CANDIDATES)); do \
	    "$$python" -c "import sys; sys.exit(sys.version_info < (3, 10))" 2>/dev/null && found=$$python && break; \
	  done; \
	  [ -n "$$found" ] || { echo "No Python >= 3.10 found (tried: $(or $(PYTHON),$(CANDIDATES))):" \
	    "install one, or name it: make venv PYTHON=/path/to/python3" >&2; exit 2; }; \
	  "$$found" -c "import ensurepip, venv" 2>/dev/null || { echo "$$found cannot make environments:" \
	    "install its venv module (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 2; }; \
	  echo "making $(VENV) with $$("$$found" --version)"; \
	  "$$found" -m venv --clear $(VENV); }
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e ".[$(EXTRAS)]"
	@$(RUN) -m compileall -qq -j 0 $(VENV)/lib || true  # on all cores, where pip takes one; what is of another Python stays
	@touch $@
