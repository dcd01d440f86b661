# make help lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
UV_VERSION := 0.13.8
BIN := .venv/bin
STAMP := .venv/.installed

TORCH ?= cuda
WHEELS ?=

DATASET ?= shapes
ROOT ?=
SPLIT ?=
OUT ?=
CONFIG ?=
VIDEO ?=
TEXT ?=
PRESET ?=
ARGS ?=
RUN ?= $(or $(OUT),runs)/$(DATASET)-$(or $(SPLIT),train)

CONFIG_FLAGS = $(if $(CONFIG),--config "$(CONFIG)") $(if $(PRESET),--preset "$(PRESET)")

# Without DATASET= the data set is that of CONFIG, or shapes.
RUN_FLAGS = $(if $(and $(CONFIG),$(filter file,$(origin DATASET))),,--dataset "$(DATASET)") \
	$(if $(ROOT),--root "$(ROOT)") \
	$(if $(SPLIT),--split "$(SPLIT)") \
	$(if $(OUT),--out "$(OUT)") \
	$(CONFIG_FLAGS)

.PHONY: help setup libraries setup-ray wheels pseudolabels label weights status verify repair digest test test-slow coverage check format lock demo-models benchmarks review ui serve clean

help: ## Prints this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  %-14s %s\n", $$1, $$2}'

setup: $(STAMP) ## Installs the versions of requirements.lock into .venv: TORCH=cuda or cpu, WHEELS=

$(STAMP): requirements.lock pyproject.toml
	@$(MAKE) --no-print-directory libraries
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

# TORCH=cpu takes PyTorch's build for the CPU, and leaves out the libraries of the build for CUDA.
ONLY_CUDA := ^(nvidia-|cuda-|triton=)
LOCKED = grep -vE '$(if $(filter cpu,$(TORCH)),$(ONLY_CUDA),^$$)'
FROM = $(if $(WHEELS),--no-index --find-links "$(WHEELS)")
INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps $(FROM)
INSTALL_LOCKED = $(INSTALL) $(if $(filter cpu,$(TORCH)),--torch-backend cpu) --requirement -

libraries: # What setup installs, without the project itself
	@test "$(TORCH)" = cuda -o "$(TORCH)" = cpu -a -z "$(WHEELS)" || { \
		echo "TORCH is cuda, or cpu without WHEELS; found TORCH=$(TORCH) WHEELS=$(WHEELS)" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or later is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make setup PYTHON=python3.11" >&2; exit 1; }
	@echo "Installing the versions of requirements.lock into .venv$(if $(WHEELS),, (a download of 3 GB the first time))"
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(FROM) "uv==$(UV_VERSION)"
	@$(LOCKED) requirements.lock | $(INSTALL_LOCKED)

setup-ray: $(STAMP) ## Adds Ray to .venv
	@$(LOCKED) requirements-ray.lock | $(INSTALL_LOCKED)

wheels: $(STAMP) ## Collects in wheels/ what setup installs, for a machine without a network
	$(BIN)/python -m pip wheel --no-deps --wheel-dir wheels --requirement requirements.lock "uv==$(UV_VERSION)"

pseudolabels: $(STAMP) ## Labels a data set: DATASET=shapes ROOT= SPLIT= OUT= CONFIG= PRESET= ARGS=
	@$(BIN)/pseudolabels run $(RUN_FLAGS) $(ARGS)

# The shell reads VIDEO and TEXT from the environment, so that they may hold any character.
label: override export VIDEO := $(value VIDEO)
label: override export TEXT := $(value TEXT)
label: $(STAMP) ## Labels a video of yours: VIDEO=dog.mp4 TEXT="the brown dog" OUT= PRESET= ARGS=
	@test -n "$$VIDEO" -a -n "$$TEXT" || { \
		echo 'Give a video and a sentence: make label VIDEO=dog.mp4 TEXT="the brown dog"' >&2; exit 2; }
	@$(BIN)/pseudolabels label "$$VIDEO" --text "$$TEXT" $(if $(OUT),--out "$(OUT)") \
		$(CONFIG_FLAGS) $(ARGS)

weights: $(STAMP) ## Downloads the published weights of CONFIG= or PRESET=; ARGS=--yes does not ask
	@$(BIN)/pseudolabels weights fetch $(CONFIG_FLAGS) $(ARGS)

status verify repair digest: $(STAMP)
	@$(BIN)/pseudolabels $@ "$(RUN)" $(ARGS)
status: ## Prints what of a run is done, left and failed: RUN=, or DATASET= SPLIT= OUT=
verify: ## Checks every file of a run against its checksum; RUN= as for status
repair: ## Removes damaged products, so that the next run makes them again; RUN= as for status
digest: ## Prints one digest of a run's masks and tables; RUN= as for status

# One thread per process: processes with several threads wait for each other's cores.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" -n auto --maxprocesses 4 --dist worksteal

test: $(STAMP) ## The tests without the slow ones, on up to four cores
	$(PYTEST) $(ARGS)

coverage: $(STAMP) ## The tests with a report of the lines that they cover; fails under 90%
	$(PYTEST) --cov --cov-report=term $(ARGS)

test-slow: $(STAMP) ## The slow tests: full-size models, whole runs
	$(BIN)/python -m pytest -q -m slow $(ARGS)

check: $(STAMP) ## Checks format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## Formats the sources
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## Resolves pyproject.toml into the lock files
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header \
		--no-annotate --extra dev --extra browser --output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header \
		--no-annotate --extra dev --extra ray --constraint requirements.lock \
		--output-file requirements-ray.lock pyproject.toml

demo-models: $(STAMP) ## Trains the demo models and prints their accuracy on unseen videos
	$(BIN)/pseudolabels demo-models $(ARGS)

benchmarks: $(STAMP) ## Runs every benchmark (hours), after `make pseudolabels`; fails if one is out of bounds
	@failed=""; for script in benchmarks/*.py; do name=$$(basename "$$script" .py); echo "== $$name"; \
		$(BIN)/python -m "benchmarks.$$name" $(ARGS) || failed="$$failed $$name"; done; \
		test -z "$$failed" || { echo "Out of bounds or failed:$$failed" >&2; exit 1; }

review: $(STAMP) ## Serves a page on which people accept and correct masks: RUN= as for status
	@$(BIN)/pseudolabels review "$(RUN)" $(ARGS)

ui: $(STAMP) ## Starts the Prefect UI and the server of reports on this machine
	$(BIN)/pseudolabels ui $(ARGS)

serve: $(STAMP) ## Lets the Prefect UI start, schedule, cancel and retry runs on this machine
	@$(BIN)/pseudolabels serve

clean: ## Removes caches; keeps .venv and runs
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* *.egg-info build
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
