# make demo       train on real digits, export, build, run; two minutes at first
# make test       the quick suites
# make check-all  style, types, and the long suites
# `make help` lists the rest. Needs Python 3.11 or newer, make, and a C/C++ compiler.

VENV   ?= .venv
EXTRAS ?= dev,serve,plot
PYTEST_WORKERS ?= 2
PEERS ?= torch,jax,tensorflow,onnxruntime,openvino,litert
BENCH ?=
FUZZ_PROGRAMS ?= 5000

python := $(VENV)/bin/python
pytest := $(python) -m pytest --dist worksteal
stamp  := $(VENV)/.rabbet-installed

# What the installed package is made of, Python files left out: those are used in place.
native_sources := pyproject.toml CMakeLists.txt tools/make_venv.sh \
	$(shell find rabbet \( -name '*.c' -o -name '*.h' -o -name '*.cpp' -o -name '*.hpp' \
	    -o -name CMakeLists.txt -o -name '*.cmake' \) 2>/dev/null)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test check-all lint types format generated docs bench distributed clean

help:
	@echo "make demo       train on real digits, export, build, run"
	@echo "make test       the quick tests"
	@echo "make check-all  style, types, and every test, slow ones and fuzzers too"
	@echo "make lint       style and types only        make format  write the style"
	@echo "make bench      beside its peers            make clean   remove $(VENV) and builds"

# With ready kernels for this machine (rabbet/packs), made again when the sources have changed: a
# minute. Nothing needs them; a program's first run is quicker with them.
install: $(stamp)
	@$(python) -m rabbet.pack --if-needed

# Installed again when a native source or the metadata changes; otherwise nothing runs.
$(stamp): $(native_sources)
	@bash tools/make_venv.sh '$(VENV)' '$(EXTRAS)'
	@touch $@

demo: $(stamp)
	$(VENV)/bin/rabbet demo

test: $(stamp)
	$(pytest) -n $(PYTEST_WORKERS) -m "not slow and not fuzz and not distributed"

lint: $(stamp)
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

format: $(stamp)
	$(python) -m ruff format .
	$(python) -m ruff check --fix .

# What follows from the ops' declarations: the types of functions and methods, the table of ops.
generated: $(stamp)
	$(python) tools/make_stubs.py
	$(python) tools/make_ops_table.py

# The API reference, in docs/api: from docstrings, not kept in the repository.
docs: $(stamp)
	$(python) tools/make_api.py

# Last, so that the output ends with pytest's summary. The distributed extra brings its own MPI.
check-all: lint distributed
	RABBET_FUZZ_PROGRAMS=$(FUZZ_PROGRAMS) $(pytest) -n $(PYTEST_WORKERS) -m "slow or fuzz or distributed"

distributed: $(VENV)/.rabbet-distributed

$(VENV)/.rabbet-distributed: $(stamp)
	$(python) -m pip --disable-pip-version-check --quiet install "mpi4py>=4.0" "mpich>=4.2"
	@touch $@

bench: $(stamp)
	@mkdir -p build/bench
	$(VENV)/bin/rabbet bench --install --against $(PEERS) $(BENCH) --json build/bench/results.json \
	  --markdown build/bench/report.md --picture build/bench/ratios.png

clean:
	rm -rf '$(VENV)' build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
