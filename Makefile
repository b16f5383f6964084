# What a newcomer and CI run. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests run beside each other; with one thread each they do not wait for one another.
JOBS ?= 2

.PHONY: help install demo lint format test faults fuzz bench check clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

install: $(STAMP) ## a virtual environment in .venv with loraloom in it

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: install ## the main job on the embedded starter; the last line is the report's path
	@$(BIN)/loraloom demo

lint: install ## ruff and the strict type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: install ## the whole suite
	$(BIN)/pytest --numprocesses $(JOBS)

faults: install ## kills, damage, full disks and signals, by the thousand; half an hour
	LORALOOM_FAULTS=200 $(BIN)/pytest tests/faults --numprocesses $(JOBS)

# Of each property. A thousand take about a minute.
EXAMPLES ?= 10000

fuzz: install ## the long form of the fuzzing, with new examples every time: EXAMPLES=10000
	LORALOOM_FUZZ=$(EXAMPLES) $(BIN)/pytest tests/fuzz

bench: install ## times and memory beside the stock libraries, on the starter; some five minutes
	$(BIN)/python -m benchmarks.objective
	$(BIN)/python -m benchmarks.training --adapters 2
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.table --rounds 1
	$(BIN)/python -m benchmarks.generation --adapters 3 --prompts 100 --rounds 1

check: lint test ## what a commit needs

clean: ## remove the environment and caches; never a run
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache dist
