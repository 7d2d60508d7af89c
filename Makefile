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
	@command -v $(PYTHON) >/dev/null || \
	  { echo "There is no $(PYTHON): install Python 3.11 or newer (Debian, Ubuntu: apt install python3 python3-venv)," \
	         "or name one: make PYTHON=/path/to/python3." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V). Name another: make PYTHON=python3.12." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@echo "Installing into $(VENV): a few minutes at the first time."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[worker,embedded,dev]'
	@touch $@

setup: $(VENV)/.installed  ## Create the virtual environment

up: setup  ## Run the whole farm in the foreground (PORT=8080 DATA_DIR=.rendermill)
	@$(BIN)/rendermill up --port $(PORT) --data-dir $(DATA_DIR)

demo: setup  ## Start a farm, render examples/prompts.jsonl through the public API, save out/
	@$(BIN)/python -m farm.demo

# Two at a time: many tests wait for processes that they started. By file, so that a file's farm is started once, and in
# the order of their names, which has the short ones last, so that both end together. torch with one thread in each
# process: threads that wait for each other's turn on a full machine only burn it.
test: setup  ## Run every test
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder

lint: setup  ## ruff, mypy, and the checks of the deploy files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m deploy.check

bench: setup  ## Benchmarks with peers in the same run
	$(BIN)/python -m bench

clean:  ## Remove what the other commands made, except the farm's data in DATA_DIR
	rm -rf $(VENV) .rendermill-demo out build *.egg-info
