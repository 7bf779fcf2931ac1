# The two commands of the README are `make run` and `make test`; every target sets up .venv first.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: run test e2e ghost check format bench bench-hits bench-backlog bench-pubsub bench-store bench-transport lock clean
.DEFAULT_GOAL := run

.venv/ready: requirements-dev.txt requirements-fast.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed. Name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is not Python 3.11 or newer."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt install" \
			"$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-fast.txt 2>/dev/null \
		|| echo "gunicorn_h1c could not be compiled (gcc and Python's headers are needed): gunicorn parses HTTP in Python."
	@touch $@

# Starts the store and the service for development and prints what to try; .env and the environment count.
run: .venv/ready
	@exec $(BIN)/python -m development

test: .venv/ready
	$(BIN)/python -m pytest -m "not e2e"

# pytest ends with 5 if it found no test: no failure, there may be none yet.
e2e: .venv/ready
	$(BIN)/python -m pytest -m e2e || test $$? -eq 5

# A real Ghost against store and service. The program that drives it is no part of this project: see docs/develop/testing.md.
ghost: .venv/ready
	@$(BIN)/python -m tests.ghost "$(GHOST_E2E)"

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: bench-hits bench-backlog bench-store

# What a hit costs. Needs wrk and nginx, and says so; `make bench-hits BENCH="--seconds 30"`, `--help` lists the options.
bench-hits: .venv/ready
	@$(BIN)/python -m tests.bench.hits $(BENCH)

# A steady stream of hits while a backlog drains; needs nginx.
bench-backlog: .venv/ready
	@$(BIN)/python -m tests.bench.backlog $(BENCH)

# Publishing, and delivering by a worker; needs wrk, nginx, java and Google's Pub/Sub emulator.
bench-pubsub: .venv/ready
	@$(BIN)/python -m tests.bench.pubsub $(BENCH)

# The store's questions and appends; `make bench-store HITS=10000000` takes some minutes.
bench-store: .venv/ready
	PYTHONPATH=. $(BIN)/python tests/bench/store.py --hits $(or $(HITS),1000000) --ingest 15

# The CPU of one request: requests' own adapter against tinybird/transport.py.
bench-transport: .venv/ready
	@$(BIN)/python -m tests.bench.transport $(BENCH)

EXTRAS = --extra stats --extra store --extra gcp --extra redis --extra metrics --extra otel
LOCK = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url

# Versions change here and nowhere else: after it, run the tests. `make lock LOCK_OPTIONS=--upgrade` takes the newest.
lock: .venv/ready
	$(LOCK) $(LOCK_OPTIONS) --extra stats -o requirements.txt
	$(LOCK) $(LOCK_OPTIONS) --extra stats --extra store -o requirements-store.txt
	$(LOCK) $(LOCK_OPTIONS) --extra stats --extra store --extra fast -o requirements-fast.txt
	$(LOCK) $(LOCK_OPTIONS) --all-extras -o requirements-full.txt
	$(LOCK) $(LOCK_OPTIONS) $(EXTRAS) --group dev -o requirements-dev.txt

# Leaves data/ alone.
clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
