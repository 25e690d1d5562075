# `make reproduce` re-makes every table and figure, `make test` runs every test. Both set everything up first.
PYTHON  ?= python3
VENV    ?= .venv
PROFILE ?= mini
JOBS    ?= 2
BIN     := $(VENV)/bin
UV      := $(BIN)/python -m uv --no-config
STAMP   := $(VENV)/.installed
ORACLE  := $(VENV)/.oracle

.DEFAULT_GOAL := help
.PHONY: help setup reproduce test lint bench lab lock clean

help:            ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## a private $(VENV) with everything of requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Python {v[0]}.{v[1]} found: lowq needs 3.11, 3.12 or 3.13; name one with make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import uv' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.6"
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(ORACLE): $(STAMP) requirements-asmk.lock
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements-asmk.lock 2>/dev/null \
		|| echo "the package asmk could not be built (it needs a C compiler): tests against it are skipped"
	@touch $@

reproduce: setup ## every notebook, figure and table of PROFILE (mini), and build/PROFILE/index.html
	$(BIN)/lowq reproduce --profile $(PROFILE) --jobs $(JOBS)

test: lint $(ORACLE) ## lint, types, all tests, docstring examples, and the notebooks under nbval
	$(BIN)/python -m pytest tests lowq_core notebooks --doctest-modules --nbval-lax --nbval-current-env --nbval-cell-timeout 300

lint: setup      ## ruff, mypy, and no outputs in the notebooks' sources
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/nbstripout --keep-id --verify notebooks/*.ipynb

bench: setup     ## every benchmark beside its peer, one after the other, into build/benchmarks
	@mkdir -p build/benchmarks
	@for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script --json build/benchmarks/$$(basename $$script .py).json || exit 1; done

lab: setup       ## JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks

lock: setup      ## resolve requirements.lock anew from pyproject.toml
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra all --upgrade pyproject.toml -o requirements.lock --quiet
	echo asmk | $(UV) pip compile --generate-hashes --no-deps --no-emit-index-url --no-header --no-annotate --upgrade - -o requirements-asmk.lock --quiet

clean:           ## everything that was made, but not the environment
	rm -rf build
