# Every target creates .venv first. The README's two commands are `make run` and `make test`.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test test-all e2e differential ghost check check-js format vendor pictures bench bench-table bench-hits bench-worker bench-backlog bench-pubsub bench-store bench-transport dist lock referrer-spam clean
.DEFAULT_GOAL := run

PIP = $(BIN)/python -m pip install --disable-pip-version-check --require-hashes
# Install a file's packages, and print the lines of pip that tell the progress. A pipe has only its last exit status.
INSTALL = { $(PIP) -r $(1); echo $$? > $(VENV)/status; } \
	| sed -un '/^ *\(Collecting\|Processing\|Installing\)/ { s/^ */  /; s/ (from .*//; s/g \/.*\//g /; s/ collected.*/ all/; p }'; \
	exit $$(cat $(VENV)/status)

# The packages that `make run` needs: those of an installation, and honcho, which starts store and service together.
$(VENV)/runs: requirements.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed. Name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is not Python 3.11 or newer."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt install" \
			"$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; exit 1; }
	@echo "Creating the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@{ cat requirements.txt; sed -n '/^honcho==/,/[^\\]$$/p' requirements-dev.txt; } > $(VENV)/runs.txt
	@echo "Installing $$(grep -c == $(VENV)/runs.txt) packages"
	@$(call INSTALL,$(VENV)/runs.txt)
	@touch $@

# The packages of development beside them.
$(VENV)/ready: $(VENV)/runs requirements-dev.txt requirements-full.txt
	@echo "Installing the packages of development"
	@$(call INSTALL,requirements-dev.txt)
	@$(FAST) > $(VENV)/fast.txt
	@$(PIP) --quiet -r $(VENV)/fast.txt 2>/dev/null \
		|| echo "gunicorn_h1c could not be compiled (gcc and Python's headers are needed): gunicorn parses HTTP in Python."
	@touch $@

# The pin and hashes of gunicorn_h1c, which needs a C compiler and is therefore in requirements-full.txt only.
FAST = sed -n '/^gunicorn-h1c==/,/[^\\]$$/p' requirements-full.txt

# Start the store and the service for development. `.env` and the environment override the development defaults.
run: $(VENV)/runs
	@exec $(BIN)/python -m development

# Coverage includes the processes that tests start. The report's limit is in pyproject.toml.
test: $(VENV)/ready
	@$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not e2e" --numprocesses auto --maxprocesses 4 --dist worksteal
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

# Run the tests on each supported Python in PATH, or on PYTHONS="/path/to/python3.12 …"; each gets its own .venv-3.x.
PYTHONS ?= $(foreach version,11 12 13 14,$(shell command -v python3.$(version)))
test-all:
	@for python in $(PYTHONS); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])') || continue; \
		echo "Python $$version"; \
		$(MAKE) --no-print-directory test VENV=.venv-$$version PYTHON=$$python || failed="$$failed $$version"; \
	done; test -z "$$failed" || { echo "Failed on:$$failed"; exit 1; }

# Two files at a time, as tests wait more than they work. Exit code 5 of pytest means that no test was selected.
e2e: $(VENV)/ready
	$(BIN)/python -m pytest -m e2e --numprocesses 2 --dist loadfile || test $$? -eq 5

# Ask the store and Ghost's own queries, on embedded ClickHouse, the same random queries; needs npm and the network.
# `make differential DIFFERENTIAL="--seed 2"` asks others.
GHOST_VERSION ?= 6.65.0
CHDB_VERSION ?= 26.9.0
QUERIES := build/differential
differential: $(VENV)/ready
	@mkdir -p $(QUERIES)/ghost-$(GHOST_VERSION)
	@cd $(QUERIES)/ghost-$(GHOST_VERSION) && test -d package || { npm pack --silent ghost@$(GHOST_VERSION) > /dev/null \
		&& tar xzf ghost-$(GHOST_VERSION).tgz package/core/server/data/tinybird; }
	@test -d $(QUERIES)/chdb-$(CHDB_VERSION) || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --target $(QUERIES)/chdb-$(CHDB_VERSION) chdb-core==$(CHDB_VERSION)
	PYTHONPATH=$(QUERIES)/chdb-$(CHDB_VERSION) $(BIN)/python -m tests.differential \
		$(QUERIES)/ghost-$(GHOST_VERSION)/package/core/server/data/tinybird $(DIFFERENTIAL)

# Test store and service with a real Ghost; docs/develop/testing.md describes the external program that drives it.
# PICTURE=docs/images/dashboard.png SCREENSHOT=/path/to/run/web.png makes the README's picture of a month instead.
ghost: $(VENV)/ready
	@$(BIN)/python -m tests.ghost "$(GHOST_E2E)" "$(PICTURE)" "$(SCREENSHOT)"

# Without npm the dashboard's JavaScript is not checked; .ci/run installs it.
check: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@if command -v npm > /dev/null; then $(MAKE) --no-print-directory check-js; \
		else echo "JavaScript is not checked: npm is not installed."; fi

check-js: node_modules/ready
	npm run --silent check

format: $(VENV)/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	@if command -v npm > /dev/null; then $(MAKE) --no-print-directory node_modules/ready && npm run --silent format; fi

node_modules/ready: package-lock.json
	npm ci --silent --no-fund --no-audit
	@touch $@

# Renew the dashboard's chart library and map, after a change of their versions in package.json.
vendor: $(VENV)/ready node_modules/ready
	$(BIN)/python -m development.vendor

# Make the pictures of the README and of the dashboard's page; needs a Chromium.
pictures: $(VENV)/ready
	$(BIN)/python -m tests.dashboard.pictures

bench: bench-table bench-backlog bench-store

# Compare the cost of a hit with that of a bare WSGI callable; needs wrk and nginx, and takes some minutes.
bench-table: $(VENV)/ready
	@$(BIN)/python -m tests.bench.table $(BENCH)

# Measure the cost of a hit; needs wrk and nginx. `make bench-hits BENCH=--help` lists the options.
bench-hits: $(VENV)/ready
	@$(BIN)/python -m tests.bench.hits $(BENCH)

# Compare the gunicorn worker with gthread; needs wrk.
bench-worker: $(VENV)/ready
	@$(BIN)/python -m tests.bench.worker $(BENCH)

# Measure a steady stream of hits while a backlog drains; needs nginx.
bench-backlog: $(VENV)/ready
	@$(BIN)/python -m tests.bench.backlog $(BENCH)

# Measure publishing, and delivery by a worker; needs wrk, nginx, java and Google's Pub/Sub emulator.
bench-pubsub: $(VENV)/ready
	@$(BIN)/python -m tests.bench.pubsub $(BENCH)

# Measure the store's queries and appends; `make bench-store HITS=10000000` takes some minutes. BASELINE=CHECKOUT measures
# another checkout in the same run.
bench-store: $(VENV)/ready
	PYTHONPATH=. $(BIN)/python tests/bench/store.py --hits $(or $(HITS),1000000) $(if $(BASELINE),--baseline $(BASELINE))
	$(BIN)/python -m tests.bench.store_appends --hits $(or $(HITS),1000000) $(if $(BASELINE),--baseline $(BASELINE))

# Measure the CPU of one request with requests' own adapter and with tinybird/transport.py.
bench-transport: $(VENV)/ready
	@$(BIN)/python -m tests.bench.transport $(BENCH)

# Build wheel and sdist, then test the wheel in an environment of its own.
dist: $(VENV)/ready
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m pytest tests/e2e/test_wheel.py

LOCK = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url $(LOCK_OPTIONS)
EXTRAS = --extra stats --extra store --extra gcp --extra redis --extra metrics --extra otel

# Versions change here and nowhere else. `make lock LOCK_OPTIONS=--upgrade` selects the newest; run the tests afterwards.
lock: $(VENV)/ready
	$(LOCK) $(EXTRAS) --group dev -o requirements-dev.txt
	$(LOCK) --constraint requirements-dev.txt --extra stats --extra store -o requirements.txt
	$(LOCK) --constraint requirements-dev.txt --all-extras -o requirements-full.txt

# Renew the hosts of referrer spam from Matomo's list, or from a copy: `make referrer-spam LIST="spammers.txt 2026-11-27"`.
referrer-spam: $(VENV)/ready
	@$(BIN)/python -m development.referrer_spam $(LIST)

# Remove everything but data/ that a target creates.
clean:
	rm -rf .venv .venv-* node_modules tests/e2e/screenshots build dist *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis
