# `make demo` and `make test` do their own set-up; nothing but Python 3.11+, make and git is needed first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# FAISS=faiss-gpu on a machine with a CUDA 12 driver; never both.
FAISS ?= faiss-cpu

export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
# Threads that wait sleep: where other programs share the cores, spinning ones make small batches 5 times slower.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup demo tune-demo ui serve test test-slow check format pipeline-test clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.ready ## virtual environment with pinned packages

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(FAISS),mlops,service,client,otel,postgres,tune,ray,simulate,zarr,dev]'
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

check: setup ## lint and types
	ruff check .
	ruff format --check .
	mypy

test: setup check ## lint, types and all tests but the slow ones
	python -m pytest -m "not slow"

test-slow: setup ## heavier checks
	python -m pytest -m slow

format: setup ## format the code
	ruff check --fix .
	ruff format .

clean: ## removes what runs wrote, but not the virtual environment
	rm -rf data/work models metrics reports .checkpoints mlflow.db* studies.db* mlartifacts
