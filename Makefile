# A fresh machine needs Python 3.11 (or newer) and make. `make` alone lists what there is to do.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
JOBS ?= 2
BIN := .venv/bin
EXTRAS := book,test,autoattack,bench

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help book test bench notebooks lint pins clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

book: .venv/.installed ## build the book, warnings as errors
	@rm -rf _build/html
	@$(BIN)/jupyter-book build . --all -W --keep-going -q >/dev/null
	@echo "The book is built: open $(CURDIR)/_build/html/index.html"

test: .venv/.installed ## run every test, the notebooks and, if the book is built, its pages included
	@$(BIN)/python -m pytest --nbval -q -rs -n $(JOBS) --dist loadfile --no-loadscope-reorder

notebooks: .venv/.installed ## execute the notebooks and store their outputs
	@$(BIN)/python scripts/execute_notebooks.py -j $(JOBS)

bench: .venv/.installed ## time the library beside other ways to compute the same (ten minutes, calm machine)
	@$(BIN)/python -m tests.benchmarks

lint: .venv/.installed ## check the Python style, and the types of the library and the scripts
	@$(BIN)/ruff check .
	@$(BIN)/mypy

pins: ## refresh constraints.txt with the newest versions that pyproject.toml admits
	@rm -rf .venv
	@$(MAKE) --no-print-directory .venv/.installed CONSTRAIN=
	@{ grep '^#' constraints.txt; $(BIN)/pip freeze --exclude-editable | grep -vE '^(#|nvidia-|cuda-|triton)' | sed 's/+.*//'; } > constraints.txt.tmp
	@mv constraints.txt.tmp constraints.txt
	@touch .venv/.installed

clean: ## remove the environment and all that was built
	rm -rf .venv _build build dist .pytest_cache .ruff_cache .mypy_cache pagkit.egg-info

# The stamp is written last, so an interrupted installation is taken up again.
# torchattacks has a step of its own: see the bench extra in pyproject.toml.
CONSTRAIN := --constraint constraints.txt
.venv/.installed: pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "The book needs Python 3.11 or newer; found: $$("$(PYTHON)" --version 2>&1 || true)"; \
	  echo "Name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing into .venv (PyTorch is large: a few minutes, several GB) ..."
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install --quiet $(CONSTRAIN) --config-settings editable_mode=compat --editable '.[$(EXTRAS)]'
	@$(BIN)/python -m pip install --quiet $(CONSTRAIN) --no-deps torchattacks
	@touch $@
