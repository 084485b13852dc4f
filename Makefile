# make up: a running Twintrack with its demo. make test: every test, the real browser included.
PYTHON ?= python3
BIN := .venv/bin
PAGES := src/twintrack/static
PEERS := benchmarks/peers/dist

.PHONY: setup up check test test-python test-js bench bench-questions bench-sdk bench-peers bench-sdk-cost soak build docs
.DELETE_ON_ERROR:
# Where it is set, every start compiles our modules again: 0.4 s of the 2.2 that a command takes.
unexport PYTHONDONTWRITEBYTECODE

setup: .venv/ready node_modules/ready

.venv/ready: requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Twintrack needs Python 3.11 or newer; set PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

node_modules/ready: package.json package-lock.json $(wildcard packages/*/package.json)
	@node -e 'const [a,b]=process.versions.node.split(".").map(Number);if(a<20||(a===20&&b<19)){console.error("Twintrack needs Node 20.19 or newer");process.exit(1)}'
	npm ci --no-fund --no-audit --loglevel=error
	@touch $@

SOURCES := $(shell find packages -type f \( -path '*/src/*' -o -name '*.html' -o -name '*.ts' -o -name '*.json' \) -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)

build: $(PAGES)/ready
$(PAGES)/ready: node_modules/ready $(SOURCES)
	npm run build --silent
	@rm -rf $(PAGES) && mkdir -p $(PAGES)
	@cp -r packages/dashboard/dist $(PAGES)/dashboard
	@cp -r packages/demo/dist $(PAGES)/demo
	@touch $@

up: setup build
	$(BIN)/twintrack serve --demo

check: setup build
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_walls.py tests/test_docs.py tests/test_controls.py
	npm run check --silent
	@BIN=$(BIN) sh .ci/secrets
	@$(BIN)/python .ci/dependencies.py

test: test-js test-python

test-js: setup build
	npm run test --silent

test-python: setup build
	@sh .ci/chromium
	@sh .ci/strace
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore=tests/sdk --ignore=tests/e2e
	$(BIN)/python -m pytest tests/sdk tests/e2e

# Ingest, the index, then every kind of question over a year: 20 million events, or say: make bench EVENTS=100000000
# In parts, or on a year that is kept: make bench-questions EVENTS=2000000 PEOPLE=20000 BENCH_QUESTIONS="--folder year"
EVENTS ?= 20000000
PEOPLE ?= 200000
BENCH_QUESTIONS ?=
bench: setup
	$(BIN)/python -m benchmarks.ingest
	$(BIN)/python -m benchmarks.index
	@$(MAKE) --no-print-directory bench-questions
	@$(MAKE) --no-print-directory bench-sdk

bench-questions: setup
	@$(BIN)/python -c 'import duckdb' 2>/dev/null || $(BIN)/python -m pip install -q --disable-pip-version-check duckdb==2.0.1
	$(BIN)/python -m benchmarks.questions --events $(EVENTS) --people $(PEOPLE) $(BENCH_QUESTIONS)

# Delivery of the browser SDK under faults, a hundred seeds of each; then its peers' and its cost beside OpenPanel's.
# In parts, say: make bench-sdk BENCH_SDK="--first 1 --seeds 25 --append lines.jsonl"
BENCH_SDK ?= --seeds 100
BENCH_PEERS ?= --seeds 5
bench-sdk: setup build
	@sh .ci/chromium
	$(BIN)/python -m benchmarks.sdk $(BENCH_SDK)
	@$(MAKE) --no-print-directory bench-peers bench-sdk-cost

bench-peers: setup build $(PEERS)/ready
	@sh .ci/chromium
	$(BIN)/python -m benchmarks.sdk $(BENCH_PEERS) --subject twintrack --subject openpanel --subject posthog \
		--subject segment --subject snowplow --subject statsig

bench-sdk-cost: setup build $(PEERS)/ready
	@sh .ci/chromium
	$(BIN)/python -m benchmarks.sdk_cost

$(PEERS)/ready: $(wildcard benchmarks/peers/*.js) benchmarks/peers/package.json benchmarks/peers/package-lock.json
	cd benchmarks/peers && npm ci --ignore-scripts --no-fund --no-audit --loglevel=error && npm run build --silent
	@touch $@

# kill -9 at random, so often that rare orders of things happen; then memory over ten minutes of load.
soak: setup
	TWINTRACK_SOAK_ROUNDS=$${TWINTRACK_SOAK_ROUNDS:-200} $(BIN)/python -m pytest -q -s tests/faults/test_kill.py
	$(BIN)/python -m benchmarks.resident

docs: setup
	$(BIN)/python docs/generate.py
