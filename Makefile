# make demo          the whole way, from an all-atom run to a report (about 10 minutes)
# make test          install what the tests need, check the style, run the tests
# make test-minimal  the same tests with a current torch and without openmm-torch
# make test-slow     the tests that take minutes
# make test-gpu      the tests that need a CUDA device
# make ala2          the published alanine dipeptide benchmark, three seeds (about an hour)
# make bench         time and memory per bead beside other packages, which it installs, scaling, cores, whole systems
#                    (ARGS=--quick: minutes; ARGS="--only systems": one of the tables)
# make lint, make format, make build, make clean

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Where the reference data of the benchmark lies.
DATA ?= $(or $(CGENN_DATA),../shared/data)
MINIMAL = .venv-minimal
# Processes that run tests.
JOBS ?= 2
# Which torch the minimal environment gets.
TORCH ?= torch
# Memory that is freed at once is asked for again at once in training; keeping it saves half the time on some machines.
export MALLOC_TRIM_THRESHOLD_ = 1000000000
export MALLOC_MMAP_THRESHOLD_ = 1000000000
export MALLOC_TOP_PAD_ = 100000000

.PHONY: demo test test-minimal test-minimal-smoke test-slow test-gpu bench ala2 lint format build clean

$(VENV)/.run: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e ".[openmm-torch]"
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/pip install -q -e ".[openmm-torch,mdanalysis,tensorboard,openff,test]"
	touch $@

$(MINIMAL)/.test: pyproject.toml
	$(PYTHON) -m venv $(MINIMAL)
	$(MINIMAL)/bin/pip install -q "$(TORCH)"
	$(MINIMAL)/bin/pip install -q -e ".[test]"
	touch $@

demo: $(VENV)/.run
	$(BIN)/cgenn run demo --out runs/demo

test: $(VENV)/.test lint
	$(BIN)/python -m pytest -n $(JOBS)

test-minimal: $(MINIMAL)/.test
	$(MINIMAL)/bin/python -m pytest -n $(JOBS)

test-minimal-smoke: $(MINIMAL)/.test
	$(MINIMAL)/bin/python -m pytest -n $(JOBS) tests/test_cli.py \
		tests/simulation/test_backends.py tests/simulation/test_run.py tests/compiled/test_simulation.py

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -n $(JOBS) -m slow

test-gpu: $(VENV)/.test
	$(BIN)/python -m pytest -m gpu

bench: $(VENV)/.run
	$(BIN)/pip install -q -e ".[openmm-torch,benchmark]"
	$(BIN)/python -m tests.benchmarks.peers $(ARGS)

ala2: $(VENV)/.run
	$(BIN)/cgenn run ala2 --data $(DATA)/ala2_5bead_cgnet_10k.npz \
		--reference $(DATA)/ala2_phi_psi_reference_hist.npz --out runs/ala2

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

build: $(VENV)/.test
	$(BIN)/pip wheel -q --no-deps -w dist .

clean:
	rm -rf $(VENV) $(MINIMAL) .bench dist build
