# consilience: `make run` shows the library at work, `make test` checks it. Both start from a bare
# checkout: all they need is python3 >= 3.11, make and a package index that pip can reach.
#
# PyTorch: constraints.txt pins the version. Where the index offers a CPU wheel, pip takes it; the
# default wheel for Linux brings several GB of CUDA libraries instead. To get the CPU build, give pip
# PyTorch's own CPU index in the environment, e.g. PIP_EXTRA_INDEX_URL=<PyTorch's CPU wheel index> make test

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
NOTEBOOKS := $(wildcard notebooks/[0-9]*.py)
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install run test test-all bench lint notebooks public-api clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(INSTALLED)  ## make the virtual environment (done by all other targets as needed)

# The stamp lies inside the environment, so that it vanishes with it.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "consilience needs Python >= 3.11, and $(PYTHON) is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 " + "$(MAKECMDGOALS)")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing consilience and its tools into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[torch,report,llm,save,dev]'
	@touch $@

run: $(INSTALLED)  ## audit a real panel of language models and write audit.html
	@$(BIN)/consilience demo --html audit.html

test: $(INSTALLED)  ## all fast tests
	@$(BIN)/python -m pytest -q -n 2 -m "not slow and not bench" $(PYTEST_ARGS)

test-all: $(INSTALLED)  ## the slow simulations too
	@$(BIN)/python -m pytest -q -n 2 -m "not bench" $(PYTEST_ARGS)

# One process: timings taken beside another worker mean nothing. Exit code 5 of pytest: no such test.
bench: $(INSTALLED)  ## timings
	@set -e; for script in $(wildcard tests/benchmarks/bench_*.py); do echo "== $$script"; $(BIN)/python "$$script"; done
	@$(BIN)/python -m pytest -q -m bench $(PYTEST_ARGS) || test $$? -eq 5

lint: $(INSTALLED)  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

notebooks: $(INSTALLED)  ## run the percent scripts and write them with outputs to out/notebooks
	@mkdir -p out/notebooks
	@set -e; for script in $(NOTEBOOKS); do \
	  target="out/notebooks/$$(basename "$$script" .py).ipynb"; \
	  $(BIN)/jupytext --quiet --to ipynb --output "$$target" "$$script"; \
	  $(BIN)/jupyter-execute --inplace --kernel_name=python3 "$$target"; echo "$$target"; done

public-api: $(INSTALLED)  ## rewrite tests/public_api.txt after a wanted change of the public names
	@$(BIN)/python tests/test_public_api.py

clean:  ## remove what was built; the virtual environment stays (remove $(VENV) by hand to start anew)
	rm -rf build dist out .pytest_cache .hypothesis .mypy_cache .ruff_cache audit.html
	find theory fusion estimators tests -name __pycache__ -type d -prune -exec rm -rf {} +
