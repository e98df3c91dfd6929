# make demo    install, then the first radar-vs-dual-pol table
# make test    install, then the tests of CI; make test-docs runs the commands of the documentation, and the wheel
# make lint    ruff and mypy
# make docs    the documentation, in build/site
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# PyPI's torch for Linux is the CUDA build, gigabytes of it. Without an NVIDIA GPU, PyTorch's own CPU wheel is taken
# first; where that index can't be reached, pip's default source has to do.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
HAS_GPU := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 && echo yes)
PIP := $(BIN)/pip --disable-pip-version-check
# What pip says goes to a file, which is shown in full if it fails.
LOG := $(VENV)/install.log
LOGGED = >>$(LOG) 2>&1 || { cat $(LOG) >&2; exit 1; }

.PHONY: demo test unit gpu lint install install-dev wheel clean

demo: install
	$(BIN)/polarcast bench demo

# The groups are named so that a run in which one of them silently tested nothing fails. CI adds slurm and browser, which
# elsewhere skip where there is no Slurm to bring up, or no chromium. These tests start processes of their own, and wait
# for them half of the time: three go on at once, one of them on the Slurm. The rest is spread over the cores. Each
# worker collects all tests: Python keeps their compiled code, whatever the environment says.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest
REQUIRE ?= acceptance,multiprocess,journey
GROUPS := acceptance or multiprocess or journey or slurm or browser
UNIT := -m "not ($(GROUPS) or docs or package)" -n auto --dist loadfile

test: unit
	$(PYTEST) -m "$(GROUPS)" -n 3 --dist loadgroup --require $(REQUIRE)

# The documentation's commands, examples and extensions are run, and the wheel is used away from the checkout. The wheel
# comes first, because its tests are one group that takes longest.
.PHONY: test-docs
test-docs: install-dev
	$(PYTEST) tests/package tests/docs -m "docs or package" -n auto --dist loadgroup --no-loadscope-reorder \
		--require docs,package

unit: install-dev
	$(PYTEST) $(UNIT)

# Everything else is tested on the CPU, on machines with a GPU, too: there it is the same everywhere. It ends with a table
# of training speed, also in runs/perf/perf-gpu.json.
gpu: install-dev
	POLARCAST_TEST_GPU=1 $(BIN)/pytest -m gpu --require gpu
	$(BIN)/polarcast perf gpu --out runs/perf

# mypy does not follow the import hook of an editable install: links give it the packages under their real names. They
# are made anew, so that a file of hpc/api that has come or gone since the install is known.
lint: install-dev
	rm -rf $(VENV)/links
	mkdir -p $(VENV)/links/polarcast
	for folder in data models hpc slurm sweeps; do ln -sfn ../../../$$folder $(VENV)/links/polarcast/$$folder; done
	for file in hpc/api/*.py; do ln -sfn ../../../$$file $(VENV)/links/polarcast/$$(basename $$file); done
	ln -sfn ../../docs $(VENV)/links/docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd $(VENV)/links && ../bin/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p polarcast -p docs.tools

# Tables and figures of docs/results/*.json, written into the pages that show them.
.PHONY: results
results: install-dev
	$(BIN)/python -m docs.tools.results

# The documentation, in build/site: its reference is made from the code, and its notebooks are run. A broken link, anchor
# or reference, and a failing cell, fail it.
.PHONY: docs
docs: install-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build
	@echo "built build/site/index.html; to read it with its search: python3 -m http.server -d build/site"

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing polarcast into $(VENV) (several minutes) …"
	@rm -f $(LOG)
ifneq ($(HAS_GPU),yes)
	@$(PIP) install --no-compile --no-deps --retries 0 --timeout 20 --index-url $(TORCH_CPU_INDEX) $(TORCH) >>$(LOG) 2>&1 \
		|| echo "no CPU wheel of torch from $(TORCH_CPU_INDEX); pip's default source is used"
endif
	@$(PIP) install --no-compile -c constraints.txt -e . $(LOGGED)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing what development and tests need (several minutes) …"
	@$(PIP) install --no-compile -c constraints.txt -e ".[dev]" $(LOGGED)
	@touch $@

# A wheel and an sdist, in dist.
wheel: install-dev
	$(BIN)/python -m build --no-isolation

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
