# Python 3.11 or newer and make are all that this needs. `make` alone lists what there is.

PYTHON ?= python3
VENV ?= .venv
MODEL ?= attnlens/tiny-bert
CORPUS ?= attnlens/grammar
TEXT ?= The keys to the cabinet are on the table.
OUT ?= out
TORCH ?= 2.13.0
# One worker more than there are processors, up to four: each loads torch, and tests wait for browsers and servers.
# PYTEST_ARGS= runs the tests in one process.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n < 3 ? n + 1 : 4)))
PYTEST_ARGS ?= -n $(WORKERS) --dist worksteal

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt

# Stamps: one per set of packages, renewed when what they were made from changes.
CORE := $(VENV)/.attnlens-core
FULL := $(VENV)/.attnlens-full
PINNED := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check format serve bench families docs constraints clean

help: ## list these targets
	@echo "attnlens: what does this attention head do, and how do we know?"
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Each makes the virtual environment $(VENV) when it is missing (VENV=..., PYTHON=... choose others)."

demo: export HF_HUB_OFFLINE = 1
demo: $(CORE) ## show, probe and report on an embedded model and corpus, with no network
	$(BIN)/attnlens show -m $(MODEL) "$(TEXT)"
	$(BIN)/attnlens probe all -m $(MODEL) -c $(CORPUS) -o $(OUT)
	$(BIN)/attnlens report $(OUT) -o $(OUT)/report.html --force
	@echo "The head table is above; the report, for any browser, is $(OUT)/report.html"

test: export HF_HUB_OFFLINE = 1
test: $(FULL) ## run every test, with a real browser where one can be installed
	@sh tools/chromium.sh
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: export HF_HUB_OFFLINE = 1
check: $(FULL) ## what must pass before a change goes in: format, lint, types, tests, doctests, examples
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@sh tools/chromium.sh
	$(BIN)/python -m pytest $(PYTEST_ARGS)

format: $(FULL) ## rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

serve: $(CORE) ## open the dashboard on a probed embedded model
	@test -f $(OUT)/heads.json || $(BIN)/attnlens probe all -m $(MODEL) -c $(CORPUS) -o $(OUT)
	$(BIN)/attnlens serve -m $(MODEL) --results $(OUT) "$(TEXT)"

bench: export HF_HUB_OFFLINE = 1
bench: $(FULL) ## measure capturing, probing CORPUS=..., the dashboard and reports on this machine; figures in build/
	$(BIN)/python benchmarks/capture_overhead.py --json build/bench.json
	$(BIN)/python benchmarks/probe_speed.py $(CORPUS) --published --json build/probe_speed.json
	@sh tools/chromium.sh
	$(BIN)/python benchmarks/dashboard.py --json build/dashboard.json
	$(BIN)/python benchmarks/report_file.py --json build/report_file.json

families: export HF_HUB_OFFLINE = 1
families: $(FULL) ## measure every family of models again and renew the table in docs/families.md
	$(BIN)/python tools/families_table.py

docs: $(FULL) ## build the documentation into build/docs; a warning is an error
	$(BIN)/python tools/help_blocks.py
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs build/docs
	@echo "build/docs/index.html"

constraints: ## renew constraints.txt: torch $(TORCH), the newest releases that pyproject.toml allows
	rm -rf build/pins
	$(PYTHON) -m venv build/pins
	build/pins/bin/python -m pip install --quiet ".[dev,docs,minilm,frequencies,ray]" torch==$(TORCH)
	{ echo "# The development set, pinned; made by 'make constraints'."; \
	  build/pins/bin/python -m pip freeze --exclude attnlens | sed 's/+cpu$$//'; } > constraints.txt

clean: ## remove what make has made here, .venv included
	rm -rf .venv out build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "attnlens needs Python 3.11 or newer, and $(PYTHON) is older; run make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(CORE): $(PINNED) | $(BIN)/python
	@echo "installing attnlens into $(VENV); torch makes this a few minutes the first time"
	$(INSTALL) --editable .
	@touch $@

$(FULL): $(PINNED) | $(BIN)/python
	@echo "installing attnlens and its development tools into $(VENV); a few minutes the first time"
	$(INSTALL) --editable ".[dev,docs,minilm,frequencies,ray]"
	@touch $(CORE) $@
