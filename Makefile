# Every target sets up what it needs by itself, once: .venv, then the packages that the lock files
# in requirements/ pin by hash. The stamps below are newer than the lock they installed, so a
# second run sets nothing up. Needs make, a POSIX shell and Python 3.11 or newer.

VENV := .venv
PYTHON := $(VENV)/bin/python
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
DOCS := $(VENV)/.docs-installed

# More arguments for what a target runs: make test ARGS="tests/unit -k window", make demo ARGS=book.txt
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
PIP_INSTALL := $(PYTHON) -m pip install --quiet
FROM_LOCK := $(PIP_INSTALL) --require-hashes --requirement

# Checked beside the four packages where they exist.
SCRIPTS := $(wildcard examples bench)

.DEFAULT_GOAL := help
.PHONY: help demo test torture fuzz lint types imports check format docs bench hooks lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(RUNTIME) ## count the words of the standard library on the embedded log
	@$(PYTHON) -m examples.word_count $(ARGS)

test: $(DEV) ## run all tests, those with a real broker too
	@$(PYTHON) -m pytest $(ARGS)

torture: $(DEV) ## take the broker away in many ways, in every phase of workers; takes ten minutes
	@OUTAGES=all $(PYTHON) -m pytest tests/broker/test_outages.py -s $(ARGS)

SEEDS ?= 20000
fuzz: $(DEV) ## run random topologies through the JVM and us: make fuzz SEEDS=20000
	@$(PYTHON) -m tests.differential 1 $(SEEDS) $(ARGS)

check: lint types imports ## lint, types and import contracts

lint: $(DEV) ## ruff: rules and formatting
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m ruff format --check

types: $(DEV) ## mypy, strict
	@$(PYTHON) -m mypy
	@$(if $(SCRIPTS),$(PYTHON) -m mypy $(SCRIPTS))

imports: $(DEV) ## who may import whom
	@$(VENV)/bin/lint-imports --no-cache --no-logo

format: $(DEV) ## mend what ruff can mend
	@$(PYTHON) -m ruff check --fix-only
	@$(PYTHON) -m ruff format

docs: $(DOCS) ## render docs/ and the docstrings to site/
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet
	@echo "rendered: site/index.html"

bench: $(RUNTIME) ## measure speed
	@$(PYTHON) -m bench $(ARGS)

hooks: $(DEV) ## run the checks before each git commit
	@$(PYTHON) -m pre_commit install

# The lock has hashes but no addresses, so it holds for any registry or mirror. To take newer
# versions: make lock ARGS=--upgrade
COMPILE = $(PYTHON) -m uv pip compile --no-config --quiet --universal --python-version 3.11 \
	--generate-hashes --custom-compile-command "make lock" $(ARGS)
lock: $(DEV) ## write the lock files anew from pyproject.toml
	@$(COMPILE) pyproject.toml --group build -o requirements/runtime.txt
	@$(COMPILE) pyproject.toml --group build --group dev --extra otel \
		-c requirements/runtime.txt -o requirements/dev.txt
	@$(COMPILE) --group docs -c requirements/dev.txt -o requirements/docs.txt

clean: ## remove what the tools left; keeps .venv and the state of your runs
	@rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name .venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(PYTHON):
	@echo "setting up $(VENV), once" >&2
	@sh requirements/make-venv $(VENV)

# The checkout itself is installed too, editable: that makes the `thalweg` command.
$(RUNTIME): requirements/runtime.txt pyproject.toml $(PYTHON)
	@echo "installing what thalweg needs to run" >&2
	@$(FROM_LOCK) requirements/runtime.txt
	@$(PIP_INSTALL) --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements/dev.txt $(RUNTIME)
	@echo "installing what the tests and checks need" >&2
	@$(FROM_LOCK) requirements/dev.txt
	@touch $@

$(DOCS): requirements/docs.txt $(RUNTIME)
	@echo "installing what the documentation needs" >&2
	@$(FROM_LOCK) requirements/docs.txt
	@touch $@
