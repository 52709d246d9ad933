# make demo: set up and run the main job.  make test: set up, lint, type-check and test.
.PHONY: setup demo test check bench clean

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade "pip>=24"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $(STAMP)

demo: setup
	$(BIN)/secondnature demo

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

test: check
	$(BIN)/pytest

bench: setup
	$(BIN)/python benchmarks/sampling.py

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
