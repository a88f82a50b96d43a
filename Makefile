# Every target sets up what it needs. Install Python 3.11 or 3.12, make, git and a C compiler first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Set FAISS=faiss-gpu on a machine with a CUDA 12 driver. The two packages cannot be installed together.
FAISS ?= faiss-cpu

export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
# Waiting OpenMP threads sleep. Spinning threads make small batches 5 times slower where other programs share the cores.
export OMP_WAIT_POLICY ?= PASSIVE

# Two processes share the tests, file by file, in the order of folders: the short files of `unit` come last and fill up
# both. By default xdist starts the files of fewest tests last, and some of those take longest.
TWO := -n 2 --dist loadfile --no-loadscope-reorder
# tests/conftest.py marks everything outside of these folders `integration`.
MODULES := tests/unit tests/property tests/contract $(TWO)
UNIT := $(MODULES) -m "not slow and not integration"
INTEGRATION := $(TWO) -m "integration and not slow"

.DEFAULT_GOAL := help
.PHONY: help setup kernels demo tune-demo ui serve lint types check test test-unit test-integration test-slow coverage wheel \
	wheel-test docs format clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: $(VENV)/.ready $(VENV)/.kernels ## virtual environment with pinned packages and compiled kernels
	@# As pip does for an installation. With PYTHONDONTWRITEBYTECODE nothing else would, and each start would compile.
	@$(BIN)/python -m compileall -q vcfbert service

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(FAISS),mlops,service,client,otel,postgres,tune,ray,simulate,zarr,formats,dev]'
	@touch $@

kernels: $(VENV)/.kernels ## compiles the kernels again after a change of their C

$(VENV)/.kernels: $(VENV)/.ready setup.py $(wildcard vcfbert/kernels/*.[ch])
	$(BIN)/python setup.py --quiet build_ext --inplace --force
	@touch $@

demo: setup ## the whole pipeline on the bundled panel: prepare, train, evaluate, compare, publish
	dvc repro
	@echo
	@cat reports/compare.md
	@echo "Imputed targets: reports/imputed/; figure: reports/compare.png; runs: make ui"

tune-demo: setup ## a study of 6 trials of V18 on the bundled panel, its report and patch in reports/tune
	vcfbert tune --variant v18 --trials 6
	@cat reports/tune/v18/params.yaml

ui: setup ## MLflow on the recorded runs, at http://127.0.0.1:5000
	mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000

serve: setup ## the HTTP service with the published model, at http://127.0.0.1:8000
	python -m service

lint: setup ## style and format, by ruff
	ruff check .
	ruff format --check .

types: setup ## types, by mypy
	mypy

check: lint types ## lint and types

test: setup check ## lint, types and all tests but the slow ones
	python -m pytest -rs $(TWO) -m "not slow"

test-unit: setup ## tests of single modules, in under 2 minutes
	python -m pytest -rs $(UNIT)

test-integration: setup ## all tests but the slow ones and those of test-unit
	python -m pytest -rs $(INTEGRATION)

test-slow: setup ## heavier checks, and property tests with examples drawn anew
	python -m pytest -rs -m slow
	python -m pytest -rs tests/property $(TWO) --hypothesis-profile=drawn

coverage: setup ## coverage of the tests of modules, those with studies and MLflow included; fails below the floor
	python -m pytest -rs $(MODULES) -m "not slow" --cov --cov-report=term:skip-covered

wheel: ## a wheel in dist/
	rm -rf build dist
	$(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	rm -rf build

wheel-test: ## builds the wheel, installs it in a fresh environment and uses it
	PYTHON=$(PYTHON) FAISS=$(FAISS) .ci/check_wheel.sh

format: setup ## format the code
	ruff check --fix .
	ruff format .

docs: setup ## the documentation site, into site/; warnings and broken links are errors
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

clean: ## remove what runs and builds wrote, but not the virtual environment
	rm -rf build dist site data/work models metrics reports .checkpoints mlflow.db* studies.db* mlartifacts
