# Everything runs in a virtual environment of its own, .venv, which `make setup` makes and every target calls for.
#
#   make setup        make or update .venv; at once when nothing changed
#   make demo         simulate → train → export → serve → map, with nothing else at hand; results in demo/
#   make test         the whole test suite, with coverage
#   make test-gpu     tests of training and engine on this machine's GPU, which the others leave alone
#   make browser      install the Chromium that tests of the page run in; without one, they are skipped
#   make lint         style, types, and who may import whom
#   make audit        ask for known vulnerabilities of what constraints.txt pins; skipped where no database is reachable
#   make docs         build the documentation in docs/_build/html; its notebooks are run
#   make bench        measure accuracy on real cells, beside the quick peers (see benchmarks/)
#   make bench-full   the same on every data set, five seeds, all peers; many hours
#   make bench-speed  measure how fast labels and proteins are served, beside scvi-tools; a quarter of an hour
#   make bench-device  the same on a CUDA device, beside the CPU's results; minutes
#   make bench-precision   what float16, bfloat16 and int8 save and cost, beside float32; an hour, most of it training and exporting
#   make bench-endpoint   measure what the endpoint costs beside the engine, how soon it answers and how soon it is ready
#   make bench-map    map a simulated file of a million cells: rate beside the engine in memory, and peak memory
#   make bench-jobs   what a cell costs in a job of many files: bytes read and written, time of a core
#   make bench-training   time epochs of training beside scvi-tools, and steps with many labels
#   make bench-curve  time training beside scvi-tools until held-out cells are known as well; half an hour
#   make bench-backed   train on a million cells that stay in their file: memory, and the rate beside cells in memory
#   make soak         an endpoint under load for ten minutes, then 100,000 altered chunks, bodies and files (see RELIABILITY.md)
#   make bento        build the Bento from bentofile.yaml
#   make constraints  pin what .venv holds now in constraints.txt
#   make clean        remove what the targets made

SHELL := bash
.SHELLFLAGS := -euo pipefail -c

MODERN := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(if $(shell \
	$(name) -c '$(MODERN)' 2>/dev/null && echo found),$(name))))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
CODE := training export serving tests benchmarks docs

# Threads that wait should sleep: spinning, they starve each other where cores are shared.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup demo test test-gpu browser lint audit docs bench bench-full bench-speed bench-device bench-precision bench-endpoint bench-map bench-jobs bench-training \
	bench-curve bench-backed soak bento constraints clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(if $(PYTHON),,echo 'Expected Python 3.11 or newer, found none; name one: make PYTHON=/path/to/python'; exit 2)
	@$(PYTHON) -c '$(MODERN)' || { echo 'Expected Python 3.11 or newer, found:'; $(PYTHON) --version; exit 2; }
	@echo 'Installing what constraints.txt pins into $(VENV); the first time, that takes minutes.'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,docs,test]'
	@touch $@

demo: setup
	$(BIN)/totalanvi demo --overwrite

# Each process has some of the files, in their order, so that what a file's tests share is made once; and one thread for
# its models, which are small.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
		--cov --cov-fail-under=90

test-gpu: setup
	TOTALANVI_TEST_GPU=1 $(BIN)/pytest tests/gpu

# Debian's where there is one and it may be installed, or Playwright's own.
browser: setup
	command -v chromium || { test -x /usr/bin/apt-get && test "$$(id -u)" = 0 && apt-get update && \
		apt-get install -y chromium; } || \
		$(BIN)/playwright install chromium

lint: setup
	$(BIN)/ruff check --no-cache $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: setup
	$(BIN)/python .ci/audit.py

docs: setup
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build --quiet -W --keep-going -b html docs docs/_build/html

bench: setup
	$(BIN)/python benchmarks/accuracy.py

bench-full: setup
	$(BIN)/python benchmarks/accuracy.py --full

bench-speed: setup
	$(BIN)/python benchmarks/speed.py

bench-device: setup
	$(BIN)/python benchmarks/device_speed.py

bench-precision: setup
	$(BIN)/python benchmarks/precision.py

bench-endpoint: setup
	$(BIN)/python benchmarks/endpoint_speed.py

bench-map: setup
	$(BIN)/python benchmarks/map_scale.py

bench-jobs: setup
	$(BIN)/python benchmarks/job_cost.py

bench-training: setup
	$(BIN)/python benchmarks/training_speed.py

bench-curve: setup
	$(BIN)/python benchmarks/training_curve.py

bench-backed: setup
	$(BIN)/python benchmarks/training_memory.py

soak: setup
	$(BIN)/python benchmarks/soak.py
	$(BIN)/python benchmarks/soak_fuzz.py

bento: setup
	$(BIN)/bentoml build

# Local versions (torch's "+cpu") are left out: a registry offers the same version under another build.
constraints: setup
	$(BIN)/python -m pip freeze --exclude-editable | sed -e 's/+[a-z0-9.]*$$//' | grep '^[^#@]*==' > constraints.new
	mv constraints.new constraints.txt
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo build dist docs/_build docs/generated docs/api/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
