PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup quickstart check test bench clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: setup
	$(BIN)/lwspec run specs/quickstart.toml --paper paper/

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check
	$(BIN)/pytest

bench: setup
	$(BIN)/python bench/command_line.py

clean:
	rm -rf .venv build *.egg-info
