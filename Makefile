# The two commands of the README are `make run` and `make test`; both set up .venv first.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: run test check bench bench-store e2e lock format clean
.DEFAULT_GOAL := run

.venv/ready: requirements-dev.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv || { echo "On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

test: .venv/ready
	$(BIN)/python -m pytest -m "not e2e"

e2e: .venv/ready
	$(BIN)/python -m pytest -m e2e

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# HITS=10000000 takes a quarter of an hour and 1 GB of disk meanwhile.
bench-store: .venv/ready
	PYTHONPATH=. $(BIN)/python tests/bench/store.py --hits $(or $(HITS),1000000) --ingest 15

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

LOCK = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url

# Only the package index decides versions: run this to move them, then the tests.
lock: .venv/ready
	$(LOCK) --extra fast -o requirements.txt
	$(LOCK) --all-extras --group dev -o requirements-dev.txt

clean:
	rm -rf .venv build *.egg-info
