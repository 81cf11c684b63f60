# `make search`, `make compare` and `make test`. Everything is installed into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --disable-pip-version-check --progress-bar off --no-compile -c constraints.txt
# pip would compile on one core; some packages hold templates that are no Python.
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
# Tests wait for servers more than they compute: four at a time keep two cores busy.
WORKERS ?= 4
# A warning is an error. The theme would speak of what comes after it at each start.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
# Tests start hundreds of Python processes: compile for all of them what one has compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: search compare test test-fast check docs audit setup-tests setup-machine gpu-kit gpu-rehearsal format clean

compare: $(VENV)/.serve ## Compare FastAPI, Triton and both on the sample model
	$(BIN)/tuner compare text_classifier --sla-p99 20ms $(ARGS)

search: $(VENV)/.local ## Tune the sample model within an SLA of 20 ms at p99
	$(BIN)/tuner search --sla-p99 20ms $(ARGS)

test: ## All checks and tests, on real servers
	$(MAKE) -j2 --output-sync=target setup-tests check
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

test-fast: $(VENV)/.dev ## What needs no server, no browser and no container
	$(BIN)/python -m pytest -n $(WORKERS) --hypothesis-profile fast \
	  -m 'not (triton or docker or browser or slow)' $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.prose
	$(MKDOCS)

docs: $(VENV)/.docs ## The documentation as a site that needs no network: build/site/index.html
	$(MKDOCS)

audit: $(VENV)/.audit ## Ruff's security rules, known faults of the packages, a bill of materials
	$(BIN)/ruff check --select S tuner
	tests/audit.sh $(abspath $(BIN))

setup-machine: ## A compiler, a browser, Redis and a Docker engine, where they are missing
	tests/setup.sh

setup-tests: $(VENV)/.dev setup-machine ## The same, and the test image
	tests/setup.sh $(abspath $(BIN)/python)

gpu-kit: $(VENV)/.dev ## What a GPU machine without a network lacks: build/gpu-kit.tar.xz
	$(BIN)/python -m benchmarks.kit $(ARGS)

gpu-rehearsal: $(VENV)/.dev ## Runs all that is measured on a GPU, without one, as on that machine
	$(BIN)/python -m benchmarks.rehearse $(ARGS)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "apt-get install python3-venv"; exit 1; }

$(VENV)/.local: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[local]'
	$(COMPILE)
	touch $@

$(VENV)/.serve: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[local,serve]'
	$(COMPILE)
	touch $@ $(VENV)/.local

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[local,dev]'
	$(COMPILE)
	touch $@ $(VENV)/.local $(VENV)/.serve $(VENV)/.docs

$(VENV)/.docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[docs]'
	touch $@

$(VENV)/.audit: $(VENV)/.dev
	$(PIP) -e '.[audit]'
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
