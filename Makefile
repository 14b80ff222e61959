# Each goal makes its own .venv; nothing but Python 3.11 or later and pip is needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SEEDS ?= 1000

.PHONY: help demo demo-cluster demo-doors test check simulate mutants bench format clean

help:  ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Waypost needs Python 3.11 or later; set PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.package: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[xds]' --group demo
	@touch $(VENV)/.package $@

$(STAMP): $(VENV)/.package
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

demo: $(VENV)/.package  ## See the whole thing work
	$(BIN)/waypost demo

demo-cluster: $(VENV)/.package  ## See three nodes survive
	$(BIN)/waypost demo cluster

demo-doors: $(VENV)/.demo  ## See one service through every door, with real clients
	$(BIN)/waypost demo doors

test: $(STAMP)  ## Run every test
	$(BIN)/python -m pytest

check: $(STAMP)  ## Formatting, lint, floors and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

simulate: $(VENV)/.package  ## Run clusters under faults; SEEDS=1000 of each engine
	$(BIN)/waypost simulate --engine raft --seeds $(SEEDS) --jobs 2
	$(BIN)/waypost simulate --engine paxos --seeds $(SEEDS) --jobs 2

mutants: $(STAMP)  ## Put known bugs back; each must be noticed
	$(BIN)/python -m tests.mutants

bench: $(STAMP)  ## Measure; beside etcd where it is installed
	$(BIN)/python -m benchmarks

format: $(STAMP)  ## Format in place
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove what the other goals made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
