# Everything runs from a fresh checkout: Python >= 3.11 and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: paper replay test lint types imports tests bench equality clean

paper: $(VENV)/.run-installed  ## paper-trade live candles; without internet a made market
	$(BIN)/python examples/paper_live.py

replay: $(VENV)/.run-installed  ## replay made candles with the reference strategy
	$(BIN)/python examples/replay.py

test: lint types imports tests bench  ## everything CI runs

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev-installed
	$(BIN)/mypy

imports: $(VENV)/.dev-installed
	$(BIN)/lint-imports

tests: $(VENV)/.dev-installed
	sh tests/install_chromium.sh
	$(BIN)/python -m coverage erase
	$(BIN)/python -m pytest -n 2 --dist loadscope --cov --cov-report=
	$(BIN)/python -m coverage report --skip-covered
	$(BIN)/python tests/coverage_floor.py

bench: $(VENV)/.dev-installed  ## ratios against plain Backtrader, with a margin
	$(BIN)/python benchmarks/replay_speed.py --guard
	$(BIN)/python benchmarks/process_speed.py --guard

equality: $(VENV)/.dev-installed  ## the engines against each other and the oracle, 10,000 random replays
	SMM_BT_EXAMPLES=10000 $(BIN)/python -m pytest -n 2 -q --timeout=3600 tests/test_app_engines.py

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run-installed: setup.cfg pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable .
	touch $@

$(VENV)/.dev-installed: setup.cfg pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[dev]'
	touch $(VENV)/.run-installed $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
