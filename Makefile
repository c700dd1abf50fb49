# `make lab` takes the course; `make test` proves it. `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin
# A clone of the students' repository has no instructor parts.
EXTRA := $(if $(wildcard packages/nbjudge),instructor,lab)
ENGINE := $(if $(wildcard packages/nbjudge),-e packages/nbjudge)
# The CPU build of PyTorch: on Linux the default one brings gigabytes of GPU libraries.
TORCH_INDEX := $(if $(filter Linux,$(shell uname -s)),--extra-index-url https://download.pytorch.org/whl/cpu --retries 0)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# uv installs in seconds what takes pip minutes; pip knows mirrors and wheels that only it was told of.
UV := $(BIN)/python -m uv pip install --python $(BIN)/python -c constraints.txt
PIP := $(BIN)/python -m pip install -c constraints.txt
# Learners' laptops have few cores, and so has CI: more threads than that only get in each other's way.
export OMP_NUM_THREADS ?= 1
# Installed as it comes, a module is compiled when it is first imported, and not again.
unexport PYTHONDONTWRITEBYTECODE
# Twice as many as CI has cores: much of a test is waiting for a kernel, a page or a time limit.
TEST_PROCESSES ?= 4

FIRST_LESSON := work/attention/attention.ipynb

.DEFAULT_GOAL := help
.PHONY: help lab model test peers build nbval bench-grading bench-generate format

help:            ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## */  make \1\t/p' Makefile

lab: .venv/.lab  ## lay the lessons out in work/ and open JupyterLab on the first
	@$(BIN)/python -m llm_memory.workspace
	@echo "Opening JupyterLab; stop it with Ctrl-C. Without a display, open the address it prints."
	@$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/$(FIRST_LESSON)

test: .venv/.test  ## everything that CI runs: lint, types, nbval, tests, browser journeys
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd packages/nbjudge && ../../$(BIN)/lint-imports --config .importlinter
	$(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --nbval source tests packages/nbjudge/tests

peers: .venv/.test  ## nbgrader's own tests of its autograder, with the engine switched on
	$(BIN)/python -m pytest -q -n $(TEST_PROCESSES) -m 'peers or not peers' packages/nbjudge/tests/peers

model: .venv/.lab  ## get the real language model of the optional sections (93 MB)
	$(BIN)/python -m llm_memory.download smollm2

nbval: .venv/.test  ## run the solved lessons against their stored outputs
	$(BIN)/python -m pytest -q --nbval source

build: .venv/.test  ## notebooks/ to source/ and release/
	$(BIN)/python -m course_tools.build

bench-grading: .venv/.test  ## stock nbgrader, Otter and ours on one class; writes docs/benchmarks.md
	$(BIN)/python benchmarks/grading.py

bench-generate: .venv/.test  ## the lesson's caches against transformers; writes docs/generate.md
	$(BIN)/python benchmarks/generate.py

format: .venv/.test  ## lay the code out
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "The course needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Making the environment in .venv (once) …"
	@$(PYTHON) -m venv .venv || \
	  { echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

.venv/.torch: constraints.txt | .venv/bin/python
	@echo "Installing PyTorch for the CPU …"
	@$(BIN)/python -m pip install --no-compile $(TORCH_INDEX) -r constraints.txt uv || \
	  { echo "PyTorch could not be installed: is the network up? Run the same command again to go on."; exit 1; }
	@touch $@

.venv/.lab: pyproject.toml $(wildcard packages/nbjudge/pyproject.toml) .venv/.torch
	@echo "Installing the course with JupyterLab and nbgrader …"
	@$(UV) $(ENGINE) -e '.[$(EXTRA)]' || { echo "Trying with pip …"; $(PIP) $(ENGINE) -e '.[$(EXTRA)]'; } || \
	  { echo "The course could not be installed: is the network up? Run the same command again to go on."; exit 1; }
	@touch $@

# All that `make lab` needs, too, and in one go.
.venv/.test: pyproject.toml packages/nbjudge/pyproject.toml .venv/.torch
	@echo "Installing the course with JupyterLab, nbgrader and what the tests need …"
	@$(UV) $(ENGINE) -e '.[dev]' || { echo "Trying with pip …"; $(PIP) $(ENGINE) -e '.[dev]'; } || \
	  { echo "The test dependencies could not be installed: is the network up? Run the same command again to go on."; exit 1; }
	@sh tests/browser/install_chromium.sh
	@$(BIN)/python -m llm_memory.download smollm2 || echo "The tests that need this model will be skipped."
	@touch .venv/.lab $@
