# Every task of the project, one word each; `make` lists them. Virtual environments are made when first needed.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
  && echo $$python && break; done)
TORCH_INDEX ?=
ARGS ?=

NEED_PYTHON = $(or $(PYTHON),false) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
  echo "Python 3.11, 3.12 or 3.13 is needed; $(or $(PYTHON),python3) is: $$($(or $(PYTHON),python3) -V 2>&1 | head -n 1)" >&2; \
  echo 'Install one of them and name it: make run PYTHON=python3.12' >&2; exit 1; }

VENV := .venv
LABEL_STUDIO_VENV ?= .venv-label-studio
PIP_INSTALL := -m pip install --disable-pip-version-check --no-input
END_TO_END := slow or label_studio or browser or redis or gpu
# Rooms whose every line and branch is tested; elsewhere the average counts (pyproject.toml).
EXACT_ROOMS := regions brush_rle protocol label_config revision
space := $(subst ,, )
comma := ,
EXACT_FILES := $(subst $(space),$(comma),$(foreach room,$(EXACT_ROOMS),backend/$(room).py backend/$(room)/*))

.DEFAULT_GOAL := help
.PHONY: help run test lint format types imports check bench docs clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'PYTHON=python3.12     the Python to make the virtual environments with (3.11 to 3.13)'
	@echo 'TORCH_INDEX=URL       where to get PyTorch from at the first install, e.g. a build for CPUs only'
	@echo 'ARGS="..."            more arguments for run, test and bench'

run: $(VENV)/.run $(if $(LABEL_STUDIO_URL),,$(LABEL_STUDIO_VENV)/.installed)  ## Label Studio with the backend and a demo project; or the backend for yours: LABEL_STUDIO_URL, LABEL_STUDIO_API_KEY
	@$(VENV)/bin/python -m backend.demo $(ARGS)

test: $(VENV)/.dev $(LABEL_STUDIO_VENV)/.installed  ## all tests, real Label Studio included, and what they cover
	@rm -f .cache/coverage*
	$(VENV)/bin/python -m pytest --cov --cov-report= --cov-fail-under=0 $(ARGS)
	$(VENV)/bin/python -m coverage report
	$(VENV)/bin/python -m coverage report --fail-under=100 --include='$(EXACT_FILES)'

lint: $(VENV)/.dev  ## rules and layout of the code
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.dev  ## lay the code out and repair what can be repaired safely
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

types: $(VENV)/.dev  ## types, strictly
	$(VENV)/bin/mypy

imports: $(VENV)/.dev  ## who may import whom
	$(VENV)/bin/lint-imports

check: lint types imports  ## all but the end-to-end tests: what to run before a commit
	$(VENV)/bin/python -m pytest -m 'not ($(END_TO_END))' $(ARGS)

bench: $(VENV)/.dev  ## the figures of benchmarks/, into docs/benchmarks.md; ARGS="serving tuning" runs these only
	PYTHONPATH=. $(VENV)/bin/python -m benchmarks $(ARGS)

docs: $(VENV)/.dev  ## see that the docs name every room and setting and that their links lead somewhere
	$(VENV)/bin/python -m pytest tests/test_house_rules.py -k docs

clean:  ## remove caches and reports (not the virtual environments, not your data)
	rm -rf .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage htmlcov
	find backend model tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# A stamp file tells that what a requirements file names is installed; it is older than the file after a change of it.
$(VENV)/.run: requirements.txt
	@$(NEED_PYTHON)
	@echo 'Installing the backend into $(VENV) (once; PyTorch is large) ...'
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(VENV)/bin/python $(PIP_INSTALL) --index-url '$(TORCH_INDEX)' $$(grep '^torch==' requirements.txt))
	$(VENV)/bin/python $(PIP_INSTALL) -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	@echo 'Installing the tools of development into $(VENV) (once) ...'
	$(VENV)/bin/python $(PIP_INSTALL) -r requirements-dev.txt
	@touch $@

# Apart, since Label Studio pins other versions of what the backend uses.
$(LABEL_STUDIO_VENV)/.installed: requirements-label-studio.txt
	@$(NEED_PYTHON)
	@echo 'Installing Label Studio into $(LABEL_STUDIO_VENV) (once) ...'
	$(PYTHON) -m venv $(LABEL_STUDIO_VENV)
	$(LABEL_STUDIO_VENV)/bin/python $(PIP_INSTALL) -r requirements-label-studio.txt
	@touch $@
