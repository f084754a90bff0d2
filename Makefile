# install test test-long test-again test-all cover check fix sim demo bench docs dashboards observe pack lock: each works from a fresh clone with Python and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEV := .venv/.ready-for-development
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest --quiet --numprocesses 3 --dist worksteal
PURE := analysis metrics model needle plan providers report scenario wire
COMMA := ,
SPACE := $(subst ,, )
LOCK := $(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url --no-annotate \
    --no-header --no-strip-extras --python-version 3.11 --upgrade --quiet

unexport PYTHONDONTWRITEBYTECODE  # compiled once, and not at the start of every one of a thousand processes

.PHONY: install test test-long test-again test-all cover check fix sim demo bench docs dashboards observe pack lock

install: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $(READY)

$(DEV): $(READY) requirements-dev.lock
	$(PIP) install --require-hashes -r requirements-dev.lock
	touch $(DEV)

demo: install  ## the simulated endpoint, the main job, the summary
	$(BIN)/latbench run quickstart

test: $(DEV)  ## the fast tests
	$(PYTEST) -m "not long"

test-long: $(DEV)  ## the long matrix
	$(PYTEST) -m long --durations=20

test-again: $(DEV)  ## what failed last, alone: on a busy machine, a real failure or only too much at once?
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none

test-all: test test-long  ## both

cover: $(DEV)  ## the rooms without input and output, by their own tests: all but a hundredth of their lines and branches
	LATBENCH_TEST_EXAMPLES=100 $(PYTEST) -m "not long" --cov --cov-report= --cov-fail-under=0 $(PURE:%=tests/%)
	$(BIN)/python -m coverage report --skip-covered \
	    --include "$(subst $(SPACE),$(COMMA),$(PURE:%=latbench/%/*))"

check: $(DEV)  ## format, lint, types, import contracts, generated pages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m latbench.scenario.manifest --check scenarios/code-mix
	$(BIN)/python docs/generate.py --check
	$(BIN)/python grafana/build.py --check

fix: $(DEV)  ## what a machine can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

sim: install  ## the simulated endpoint by itself
	$(BIN)/latbench sim

bench: $(DEV)  ## figures against the oracle, where it is beside the checkout; results in benchmarks/results/
	@status=0; for name in speed accuracy client_error openloop streams memory coverage needle scrape; do \
	    $(BIN)/python benchmarks/$$name.py || status=1; echo; \
	done; exit $$status

docs: $(DEV)  ## the generated pages
	$(BIN)/python docs/generate.py

dashboards: $(DEV)  ## the boards of Grafana, from the code in grafana/
	$(BIN)/python grafana/build.py

observe: install  ## Prometheus, and Grafana where it is installed, against a running simulation
	$(BIN)/python grafana/observe.py

pack: install  ## counts and hashes of the prompt pack
	$(BIN)/python -m latbench.scenario.manifest scenarios/code-mix

lock: install  ## newer versions within the ranges; hashes, no host names
	$(PIP) install uv
	$(LOCK) --extra build --output-file requirements.lock
	$(LOCK) --extra build --extra dev --output-file requirements-dev.lock
