# From a bare clone: `make demo` sets everything up and shows the main job, `make test` sets up and tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.dataguard-installed
BENCH_STAMP := $(VENV)/.dataguard-bench-installed

.PHONY: demo test test-slow test-long lint types bench check clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $(STAMP)

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[bench]"
	touch $(BENCH_STAMP)

demo: $(STAMP)
	$(BIN)/dataguard demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m "not slow and not long"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m slow

test-long: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m long

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# Our own steps and kernels, then the peers (about 15 minutes); the page is written from the figures, the README's
# table by benchmarks/readme.py.
bench: $(BENCH_STAMP)
	$(BIN)/python -m pytest benchmarks -q --benchmark-enable --benchmark-only
	$(BIN)/python benchmarks/peers.py --json docs/peers.json
	$(BIN)/python benchmarks/peers.py --page
	$(BIN)/python benchmarks/compare.py --json docs/compare.json

check: lint types test test-slow

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
