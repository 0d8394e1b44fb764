# On a fresh machine with Python >= 3.11 and make, each of these works alone: it creates .venv, installs and runs.
#
#   make figures       every figure in its quick version, with its numbers and the report on all, into out/figures
#   make figures-full  every figure on the full grids and samples
#   make test          the tests and the examples in the documentation strings, without the slow tests
#   make test-all      all of them
#   make bench         timings against what one would otherwise pick, into out/benchmarks (installs JAX and PyTorch)
#   make docs          the documentation, into docs/_build; with the pictures that make figures has left, if any
#   make check         style, types and import contracts
#   make clean         remove .venv, outputs and caches

PYTHON ?= python3
OPTIONS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest -q -n auto --dist loadfile --doctest-modules src/sgdynamics tests

.PHONY: figures figures-full test test-all bench docs check clean
.DELETE_ON_ERROR:

figures: $(VENV)/core.stamp
	$(BIN)/python -m figures --fast $(OPTIONS)

figures-full: $(VENV)/core.stamp
	$(BIN)/python -m figures $(OPTIONS)

test: $(VENV)/test.stamp
	$(PYTEST) -m "not slow" $(OPTIONS)

test-all: $(VENV)/test.stamp
	$(PYTEST) $(OPTIONS)

bench: $(VENV)/bench.stamp
	$(BIN)/python -m benchmarks $(OPTIONS)

docs: $(VENV)/docs.stamp
	$(BIN)/python -m sphinx -b html -W -q docs docs/_build $(OPTIONS)

check: $(VENV)/test.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports

clean:
	rm -rf $(VENV) out docs/_build build dist .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A changed pyproject.toml starts the environment afresh; what is no longer asked for is then no longer there.
$(VENV)/core.stamp: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sgdynamics needs Python 3.11 or later; try make PYTHON=python3.11")'
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP_INSTALL) --editable ".[data,plot]"
	touch $@

$(VENV)/test.stamp $(VENV)/bench.stamp $(VENV)/docs.stamp: $(VENV)/%.stamp: $(VENV)/core.stamp
	$(PIP_INSTALL) --editable ".[$*]"
	touch $@
