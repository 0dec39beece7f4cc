# Two commands do everything: `make train` and `make test`.
# PYTHON is the first Python 3.11 to 3.13 found on this machine, pyenv's included. To choose another one, and a folder
# for its environment: `make PYTHON=python3.13 VENV=.venv/3.13 test`.
RIGHT := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYENV := $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 $(PYENV)/3.1[1-3].*/bin/python; do \
	"$$python" -c '$(RIGHT)' 2> /dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin

# Every check but the slow ones is in `make test` or in `make test-faults`. Two test files run at a time, each on a core.
PYTEST := $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

.PHONY: install train test test-faults test-all faults fuzz lock clean

install: $(VENV)/installed

$(VENV)/installed: requirements.txt
	@test -n "$(PYTHON)" || { echo "make: Python 3.11, 3.12 or 3.13 is needed; install one, or name it: make PYTHON=..." >&2; exit 1; }
	@echo "make: installing into $(VENV), once: 3 GB on disk, 2 to 10 minutes" >&2
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --requirement requirements.txt
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

train: install
	$(BIN)/python launch.py --config=configs/digits.py

test: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) -m "not slow and not faults"

# Kills, signals, damage, full disks, several processes, and a run's page in a browser.
test-faults: install
	$(PYTEST) -m "faults and not slow"

# Everything, slow tests included; then `make test` and `make test-faults` on every other supported Python found here.
test-all: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest
	.ci/other-pythons

# All the kills, signals, damage and full disks, slow ones included; writes the outcomes to docs/faults.md.
faults: install
	rm -f .faults.jsonl
	FAULTS=$(CURDIR)/.faults.jsonl $(BIN)/python -m pytest tests/faults --numprocesses=2; \
		status=$$?; $(BIN)/python -m tests.faults.table .faults.jsonl docs/faults.md; exit $$status

# 10,000 random inputs of each kind.
fuzz: install
	FUZZ=10000 $(BIN)/python -m pytest tests/fuzz -m "slow or not slow"

# Resolves pyproject.toml into requirements.txt, for all Pythons and systems at once.
lock: install
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --extra test --no-header --no-emit-index-url \
		--no-emit-find-links --upgrade --quiet --output-file requirements.txt pyproject.toml

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
