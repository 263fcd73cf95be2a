# `make demo` and `make test` need nothing but Python 3.10 to 3.13 and this directory: they make their own environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Two processes a training and two threads a process: polite on a laptop, enough for the small runs of demo and tests.
# Threads that wait asleep: those that spin take the cores from the other processes.
export nnUNet_n_proc_DA ?= 2
export OMP_NUM_THREADS ?= 2
export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint format bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

install: $(INSTALLED) ## environment in .venv, package in editable mode, development tools

demo: $(INSTALLED) ## phantom CT -> nnU-Net commands -> masks, Dice table, pictures; real data with DATA=/path/to/LiTS
	$(BIN)/unet3plus demo $(if $(DATA),--data "$(DATA)") $(if $(OUTPUT),--output "$(OUTPUT)") $(DEMO_ARGS)

test: $(INSTALLED) ## unit tests and one end-to-end pass a configuration, two side by side
	$(BIN)/pytest -m "not slow" -n 2 $(PYTEST_ARGS)

test-slow: $(INSTALLED) ## the long end-to-end runs, two side by side with one thread each
	$(BIN)/pytest -m slow -n 2 --dist loadfile $(PYTEST_ARGS)

lint: $(INSTALLED) ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(INSTALLED) ## let ruff format and sort
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(INSTALLED) ## every benchmark in benchmarks/ at its defaults, one after the other: minutes each
	@set -e; for script in $$(grep -l __main__ benchmarks/*.py); do \
		module=benchmarks.$$(basename $$script .py); echo "== python -m $$module"; $(BIN)/python -m $$module; done

clean: ## remove the environment and everything built or demonstrated here
	rm -rf $(VENV) build dist demo_output .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp makes this run once, and again only when the dependencies may have changed.
$(INSTALLED): pyproject.toml nnunetv2_unet3plus.pth
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.10 to 3.13 is needed, $(PYTHON) is '$$($(PYTHON) --version 2>&1)'; name another with: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "on Debian and Ubuntu the package python3-venv is needed" >&2; exit 1; }
	@echo "installing nnU-Net, PyTorch and the development tools into $(VENV): several GB, some minutes"
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@
