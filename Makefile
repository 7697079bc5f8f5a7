# From a clone to a demonstration: `make demo`. From a clone to the whole suite: `make test`.
#
# Everything is installed into .venv from constraints.txt; nothing outside the clone is touched.

PYTHON ?= $(firstword $(foreach python,python3.11 python3 python,$(shell \
	$(python) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(python))))
BIN := .venv/bin
STAMP := .venv/.setup

.PHONY: help setup demo test lint format nightly bench clean
.DELETE_ON_ERROR:

help:
	@echo 'make setup     install everything into .venv (done by the others where needed)'
	@echo 'make demo      replicas that fine-tune, gossip, split, heal and agree, in this terminal'
	@echo 'make test      the whole suite'
	@echo 'make lint      style, types and the direction of imports'
	@echo 'make format    lay out the code as `make lint` wants it'
	@echo 'make nightly   the suite with 5000 examples for every property (hours)'
	@echo 'make bench     the benchmarks, one after the other'
	@echo 'make clean     remove .venv and everything else that was made here'

setup: $(STAMP)

$(STAMP): constraints.txt pyproject.toml
	@if [ -z '$(PYTHON)' ]; then \
		echo 'crdtmerge needs Python 3.11 or newer, and none was found.' >&2; \
		echo "The python3 here is: $$(python3 --version 2>&1)." >&2; \
		echo 'Install one, or name it: make $(or $(MAKECMDGOALS),setup) PYTHON=path/to/python3.11' >&2; \
		exit 1; \
	fi
	@echo 'Installing into .venv: some minutes the first time, torch is large.'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --constraint constraints.txt setuptools
	$(BIN)/python -m pip install -qq --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

demo: setup
	$(BIN)/crdtmerge demo

test: setup
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

nightly: setup
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest --numprocesses auto --dist worksteal --timeout 0

bench: setup
	@set -e; for benchmark in benchmarks/*.py; do \
		[ -e "$$benchmark" ] || { echo 'There are no benchmarks yet.'; break; }; \
		echo "== $$benchmark"; $(BIN)/python "$$benchmark"; \
	done

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
