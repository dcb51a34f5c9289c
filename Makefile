# PYTHON is the interpreter that .venv is made of; everything else runs in .venv.
PYTHON ?= python3

BIN := .venv/bin
SERVICE := {{cookiecutter.__project_dir}}
DEMO := .demo/my-service
OURS := hooks tests local_extensions.py
KIT := src/threadkit tests/threadkit

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format lock clean

help: ## show these targets
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | awk -F'|' '{ printf "  make %-10s%s\n", $$1, $$2 }'

install: .venv/.installed ## make .venv with the template's own tools

# Data and environment of an earlier demo stay; HOME, so that no replay file is left in yours;
# PATH, for its quick installer.
demo: install ## bake the default service into .demo/ and serve it until Ctrl-C
	@rm -rf .demo/template && $(BIN)/python tests/snapshot.py .demo/template
	@if [ -d $(DEMO) ]; then \
		find $(DEMO) -mindepth 1 -maxdepth 1 ! -name .venv ! -name var -exec rm -rf {} +; fi
	@HOME=$$PWD/.demo $(BIN)/cookiecutter .demo/template --no-input --default-config \
		--overwrite-if-exists -o .demo
	@trap : INT; PATH="$$PWD/$(BIN):$$PATH" $(MAKE) --no-print-directory -C $(DEMO) run || { \
		status=$$?; test $$status -eq 130 || exit $$status; } # 130: Ctrl-C, which is no error

test: lint ## run everything that CI runs
	@$(BIN)/python -m pytest

# The kit is linted and typed where it stands: no bake, and no cache left in the template.
lint: install ## check style and types of the template, and of the kit in place
	@$(BIN)/ruff check $(OURS)
	@$(BIN)/ruff format --check $(OURS)
	@$(BIN)/mypy $(OURS)
	@tools=$$($(BIN)/python tests/service_venv.py)/bin && cache=$$PWD/.cache && cd '$(SERVICE)' \
		&& $$tools/ruff check --cache-dir $$cache/ruff $(KIT) \
		&& $$tools/ruff format --check --cache-dir $$cache/ruff $(KIT) \
		&& $$tools/mypy --cache-dir $$cache/mypy-kit $(KIT)

format: install ## put imports and layout in order
	@$(BIN)/ruff check --select I --fix $(OURS) $(KIT:%='$(SERVICE)/%')
	@$(BIN)/ruff format $(OURS) $(KIT:%='$(SERVICE)/%')

lock: install ## resolve requirements.txt and the service's requirements/*.txt anew
	@$(BIN)/uv pip compile requirements.in --quiet --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate --no-header --output-file requirements.txt
	@rm -rf .cache/lock && $(BIN)/python tests/snapshot.py .cache/lock/template
	@HOME=$$PWD/.cache/lock $(BIN)/cookiecutter .cache/lock/template --no-input --default-config -o .cache/lock
	@$(MAKE) --no-print-directory -C .cache/lock/my-service lock
	@cp .cache/lock/my-service/requirements/*.txt '$(SERVICE)/requirements/' && rm -rf .cache/lock

clean: ## remove .venv, .demo and caches
	@rm -rf .venv .demo .cache

.venv/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "The template needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.13 …")'
	@echo "Installing the template's tools into .venv (once, and again when they change) …"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--require-hashes --requirement requirements.txt
	@touch $@
