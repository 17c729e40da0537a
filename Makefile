# The README's commands. 'make help' lists them; every one sets up .venv by itself.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PYTHON := $(VENV)/bin/python
METAREC := $(VENV)/bin/metarec
STAMP := $(VENV)/.installed
# Prints the first Python that is 3.11 or newer; PYTHON_FOR_VENV=... chooses another.
FIND_PYTHON := for python in $(PYTHON_FOR_VENV) python3.11 python3.12 python3.13 python3 python3.14; do \
	if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo "$$python"; break; fi; done
FAST := not slow and not e2e and not browser

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then \
		echo "error: no Python 3.11 or newer with its venv module was found (looked for python3.11" \
			"to python3.14 and python3). Install one, for example with" \
			"'apt-get install python3 python3-venv', or name one: make PYTHON_FOR_VENV=/path/to/python" >&2; \
		exit 1; \
	fi; \
	if ! $(PYTHON) -c '' 2>/dev/null; then "$$python" -m venv --clear $(VENV); fi
	$(PYTHON) -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	@touch $@

.PHONY: install
install: $(STAMP) ## Set up .venv (the other commands do it when needed)

.PHONY: demo
demo: $(STAMP) ## Run a whole night on MovieLens 100K
	$(METAREC) data fetch ml-100k
	$(METAREC) demo

.PHONY: test
test: $(STAMP) ## Run the fast tests, on every core
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m "$(FAST)" --numprocesses auto --dist loadfile $(PYTEST_ARGS)

.PHONY: test-all
test-all: test ## Run every test: also kills, servers with a worker, browser (chromium), README
	$(PYTHON) -m pytest -m "not ($(FAST))" $(PYTEST_ARGS)

.PHONY: lint
lint: $(STAMP) ## Check format, rules, docstrings, types and the direction of imports
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(PYTHON) -m pytest --quiet tests/test_architecture.py

.PHONY: up
up: $(STAMP) ## Start Prefect, MLflow and a worker in the background, and deploy everything
	$(METAREC) up

.PHONY: down
down: $(STAMP) ## Stop what 'make up' started
	$(METAREC) down

.PHONY: bench
bench: $(STAMP) ## Run every benchmark in benchmarks/
	@for script in benchmarks/[a-z]*.py; do \
		[ -e "$$script" ] || { echo "no benchmark yet"; break; }; \
		name=$${script#benchmarks/}; \
		echo "== $${name%.py}"; \
		$(PYTHON) -m "benchmarks.$${name%.py}" $(BENCH_ARGS); \
	done

.PHONY: lock
lock: ## Renew constraints.txt by a fresh resolution of pyproject.toml
	@python=$$($(FIND_PYTHON)); \
	[ -n "$$python" ] || { echo "error: no Python 3.11 or newer was found" >&2; exit 1; }; \
	scratch=$$(mktemp -d); \
	trap 'rm -rf "$$scratch"' EXIT; \
	"$$python" -m venv "$$scratch/venv"; \
	"$$scratch/venv/bin/python" -m pip install --quiet --editable '.[dev,bench]'; \
	{ \
		echo "# The exact versions that tests and CI run on; 'make lock' renews them. torch bears no"; \
		echo "# local tag, so that each platform takes its own build of it."; \
		"$$scratch/venv/bin/python" -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//'; \
	} > "$$scratch/constraints.txt"; \
	cp "$$scratch/constraints.txt" constraints.txt

.PHONY: clean
clean: ## Delete var/ (data, models, lists) and caches without asking; .venv stays
	@if [ -d var/services ] && [ -x $(METAREC) ]; then METAREC_HOME=var $(METAREC) down; fi
	rm -rf var build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
