# `make lab` takes the course; `make test` proves it. `make help` lists the rest.
include environment.mk

# Twice as many as CI has cores: much of a test is waiting for a kernel, a page or a time limit.
TEST_PROCESSES ?= 4

.DEFAULT_GOAL := help
.PHONY: help check lint test fuzz peers build nbval mutants mistakes site bench-grading bench-generate bench-drafts format

help:            ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## */  make \1\t/p' $(MAKEFILE_LIST)

lint: .venv/.test  ## layout, types, and which way imports run
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd packages/nbjudge && ../../$(BIN)/lint-imports --config .importlinter

check: lint  ## lint, and the tests that are not marked slow
	$(BIN)/python -m pytest -q -n logical --dist loadfile -m "not slow and not peers" tests packages/nbjudge/tests

# One lesson, while it is written: what it can break, and no more.
test: $(if $(LESSON),.venv/.test,lint)  ## everything that CI runs; LESSON=attention: what that lesson can break
	$(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --nbval $(if $(LESSON),--lesson $(LESSON)) source tests packages/nbjudge/tests

fuzz: .venv/.test  ## hostile submissions without end; what they break is shrunk into the corpus
	$(BIN)/python -m tests.hostile.fuzz

peers: .venv/.test  ## nbgrader's own tests of its autograder, with the engine switched on
	$(BIN)/python -m pytest -q -n $(TEST_PROCESSES) -m 'peers or not peers' packages/nbjudge/tests/peers packages/nbjudge/tests/test_second_course.py

nbval: .venv/.test  ## run the solved lessons against their stored outputs
	$(BIN)/python -m pytest -q --nbval source

build: .venv/.test  ## notebooks/ to source/ and release/
	$(BIN)/python -m course_tools.build

site: .venv/.test  ## the lessons and these pages as a static site in build/site/
	$(BIN)/python -m course_tools.site

mutants: .venv/.test  ## small faults in every solution against the hidden tests; writes docs/mutants.md
	$(BIN)/python -W ignore -m course_tools.mutants

mistakes: .venv/.test  ## what tests and checks make of the bank of mistakes; writes docs/mistakes.md
	$(BIN)/python -m course_tools.mistakes.table

bench-grading: .venv/.test  ## stock nbgrader, Otter and ours on one class; writes docs/benchmarks.md
	$(BIN)/python benchmarks/grading.py

bench-generate: .venv/.test  ## the lesson's caches against transformers; writes docs/generate.md
	$(BIN)/python benchmarks/generate.py

bench-drafts: .venv/.test  ## four drafts for the fourth lesson, one of them trained first (10 minutes)
	$(BIN)/python benchmarks/drafts.py

format: .venv/.test  ## lay the code out
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# All that `make lab` needs, too, and in one go.
.venv/.test: pyproject.toml packages/nbjudge/pyproject.toml .venv/.torch
	@echo "Installing the course with JupyterLab, nbgrader and what the tests need …"
	@$(UV) $(ENGINE) -e '.[dev]' || { echo "Trying with pip …"; $(PIP) $(ENGINE) -e '.[dev]'; } || \
	  { echo "The test dependencies could not be installed: is the network up? Run the same command again to go on."; exit 1; }
	@sh tests/browser/install_chromium.sh
	@sh tests/install_proxy.sh $(BIN)
	@$(BIN)/python -m llm_memory.download smollm2 || echo "The tests that need this model will be skipped."
	@touch .venv/.lab $@
