# Every target sets up what it needs: Python 3.11 or newer is the only thing assumed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SLOW := tests/end_to_end/test_kills.py tests/unit/methods/test_overfitting.py
STAMP := $(VENV)/.installed

# A caller's own warning filter must not change what tests and the demo say.
unexport PYTHONWARNINGS

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow check bench docs

help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile

install: $(STAMP) ## Make .venv with relapet and all that running and testing need, in pinned versions.

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "relapet needs Python 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: install ## Simulate, train, synthesize, evaluate: writes demo-output anew and tells how long it took.
	rm -rf demo-output
	@started=$$(date +%s); $(BIN)/relapet demo demo-output && \
		echo "The demo took $$(( $$(date +%s) - started )) s; its results are in demo-output."

test: install ## Run all tests, one process a core and one thread a process.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile $(addprefix --ignore=,$(SLOW))

test-slow: install ## Run what kills, stops and races real processes, by itself, since it counts seconds; and what learns by heart.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SLOW)

check: install ## Check style, formatting, types and the direction of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install ## Run each script in benchmarks/ at its small default size.
	@for script in benchmarks/*.py; do \
		[ -e "$$script" ] || { echo "benchmarks/ holds no script yet"; break; }; \
		echo "== $$script"; $(BIN)/python "$$script" || exit 1; \
	done

docs: install ## Write docs/cli.md from the commands' help, check every link, and build the site in build/site.
	$(BIN)/python docs/build.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
