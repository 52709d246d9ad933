# make demo: set up and run the main job.  make test: set up, lint, type-check and test.
# make wheel: build a wheel, install and use it.  make lowest: some tests with the lowest versions that pyproject.toml allows.
# make newest: the tests that need no model, on a newer Python.
.PHONY: setup demo test check docs wheel lowest newest bench clean

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

# Side by side, one to a core: each has one core for its models, and the files that share what is slow to make stay together.
test: check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadgroup

# The site, in build/site: the reference from the code, links checked.  Pictures: python docs/pictures.py
docs: setup
	$(BIN)/python docs/reference.py
	$(BIN)/zensical build --clean --strict

wheel:
	rm -rf build/wheel && mkdir -p build/wheel
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/pip wheel --quiet --no-deps --wheel-dir build/wheel .
	build/wheel/venv/bin/pip install --quiet "$$(echo build/wheel/*.whl)[data]"
	cd build/wheel && venv/bin/secondnature init classifier && venv/bin/secondnature distill classifier/recipe.yaml --out none --dry-run
	cd build/wheel && printf 'model: fake\ntask: coin_flip\ntechnique: {name: cot}\nengine: {kind: fake}\n' > recipe.yaml
	cd build/wheel && venv/bin/secondnature distill recipe.yaml --out run --limit 40 --quiet
	cd build/wheel && venv/bin/secondnature export run --dataset-only --out dataset && test -s run/report.html

# Where other versions would show: the command line, data files, the browser's pages, a tiny model.
LOWEST := test_recipe test_bad_input test_data_sources test_store test_view test_engine test_adapters
lowest:
	rm -rf build/lowest && mkdir -p build
	$(PYTHON) -m venv build/lowest
	build/lowest/bin/pip install --quiet uv
	grep '^torch==' constraints.txt > build/torch.txt
	build/lowest/bin/uv pip compile --quiet --resolution lowest-direct --extra dev --constraint build/torch.txt \
		--no-annotate --no-header pyproject.toml --output-file build/lowest.txt
	build/lowest/bin/pip install --quiet --constraint build/lowest.txt --editable ".[dev]"
	OMP_NUM_THREADS=1 build/lowest/bin/pytest -n auto --dist loadgroup -m "not browser" $(LOWEST:%=tests/%.py)

newest:
	PYTHON=$(PYTHON) .ci/newest

bench: setup
	$(BIN)/python benchmarks/sampling.py

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
