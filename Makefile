# `make demo` and `make test` do everything on a fresh machine with Python 3.11 and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Both extras own the same folder, so exactly one is installed: the GPU one where a GPU is.
EXTRA ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)

# Two workers with two OpenMP threads each would wait for one another on two cores.
TEST_ENV = OMP_NUM_THREADS=1

.PHONY: help install demo test check format slow bench clean

help:
	@echo "make demo     install, then run the whole loop on embedded digits"
	@echo "make test     install, then run every check and test"
	@echo "make check    format, lint, types, imports, fast tests"
	@echo "make format   format the code and mend what the linter can"
	@echo "make bench    measure throughput and export rates (takes minutes)"

install: $(VENV)/installed-$(EXTRA)

$(VENV)/installed-$(EXTRA): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "wsx needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$(EXTRA),dev]'
	touch $@

demo: install
	$(BIN)/wsx demo --out demo

test: check slow

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(TEST_ENV) $(BIN)/pytest -n 2 -m "not slow"

slow: install
	$(TEST_ENV) $(BIN)/pytest -n 2 -m slow --verbose --durations=20

format: install
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: install
	$(BIN)/wsx bench
	$(BIN)/wsx bench-training
	$(BIN)/python -m benchmarks.export_rate

clean:
	rm -rf $(VENV) demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
