# Everything here sets itself up: only Python 3.11+ and make are needed.
PYTHON   ?= python3
VENV     ?= .venv
PORT     ?= 8080
DATA_DIR ?= .rendermill
BIN      := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup up demo test lint bench clean

help:  ## Show the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

# The stamp is newer than the files that decide what is installed, so a second run costs nothing.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[worker,embedded,dev]'
	@touch $@

setup: $(VENV)/.installed  ## Create the virtual environment

up: setup  ## Run the whole farm in the foreground (PORT=8080 DATA_DIR=.rendermill)
	@$(BIN)/rendermill up --port $(PORT) --data-dir $(DATA_DIR)

demo: setup  ## Start a farm, render examples/prompts.jsonl through the public API, save out/
	@$(BIN)/python -m farm.demo

test: setup  ## Run every test
	$(BIN)/pytest -q

lint: setup  ## ruff, mypy, and the checks of the deploy files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m deploy.check

bench: setup  ## Benchmarks with peers in the same run
	$(BIN)/python -m bench

clean:  ## Remove what the other commands made
	rm -rf $(VENV) $(DATA_DIR) out build *.egg-info
