# The two commands of the README are `make study` and `make test`; both install what they need.
PYTHON ?= python3
VENV ?= .venv
ENV ?= cart-pole
PRESET ?= quick
ARGS ?=
BIN := $(VENV)/bin

.PHONY: study install test browser check lint types docs site format benchmarks clean

# Extras of pyproject.toml: those that ENV needs, and those asked for, as in EXTRAS="torch".
EXTRAS ?=
NEEDED := $(if $(filter breakout atari:%,$(ENV)),atari) $(if $(filter gymnasium:%,$(ENV)),gymnasium)
INSTALLED := $(VENV)/.core $(addprefix $(VENV)/.extra-,$(sort $(NEEDED) $(EXTRAS)))

study: $(INSTALLED)  ## Train, evaluate and report: ENV=cart-pole PRESET=quick ARGS="--agents 8"
	$(BIN)/muscope study $(ENV) --preset $(PRESET) $(ARGS)

install: $(INSTALLED)  ## The package alone, with EXTRAS="torch gymnasium" where they are needed

test: $(VENV)/.dev browser  ## All tests
	$(BIN)/python -m pytest

# The report is tested in Chromium. Debian has it; without the right to install it, its tests are skipped.
browser:
	@if (command -v chromium || command -v chromium-browser || command -v google-chrome) >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; } \
	  || echo "Chromium cannot be installed: tests of the report are skipped."; \
	else echo "No Chromium here: tests of the report are skipped; apt-get install chromium has it."; fi

check: lint types test docs  ## Everything that must hold before a change is submitted

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

docs: $(VENV)/.dev  ## Public names are documented, links lead somewhere, the README's code runs
	$(BIN)/python -m pytest tests/test_docs.py

site: $(VENV)/.dev  ## The documentation as a site, in build/site
	$(BIN)/python -m sphinx -q -W -b html docs build/site

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "muscope needs Python 3.11 or newer; try: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.extra-%: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(VENV)/.core
	touch $(addprefix $(VENV)/.extra-,atari gymnasium torch) $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache build dist
