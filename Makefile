# Two commands are all it takes: `make quickstart` and `make test`. Both set up an environment of
# their own first, once, with the tested versions of constraints/ for the Python that was found.

VENV   ?= .venv
PYTHON ?=
RUN    := runs/quickstart
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal

# Where it is set, every process compiles all that it imports anew: eight seconds each.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart test test-slow lint clean same-python

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo
	@echo "PYTHON=python3.12 chooses the interpreter, VENV=.venv312 the environment's folder."

quickstart: $(RUN)/report.html $(RUN)/md/energy_drift.png ## set up, train on the embedded data, report, run dynamics
	@echo
	@echo "model    $(RUN)/model.mlip"
	@echo "report   $(RUN)/report.html"
	@echo "dynamics $(RUN)/md/"
	@echo "next     source $(BIN)/activate, then mlip --help; or $(BIN)/mlip --help"

# The last file that each command writes stands for it. What was interrupted goes on where it stopped.
$(RUN)/report.html: | $(READY)
	$(BIN)/mlip train experiment=quickstart

$(RUN)/md/energy_drift.png: $(RUN)/report.html
	$(BIN)/mlip md model=$(RUN)/model.mlip structure=datasets/quickstart/test_300K.xyz run.dir=$(RUN)/md \
	    md.ensemble=nve md.timestep=0.5 md.time=1

test: $(READY) ## set up, run the tests, some twelve minutes on two cores
	$(PYTEST) -m "not slow"

test-slow: $(READY) ## set up, run the tests that take long: rarer combinations, high degrees
	$(PYTEST) -m slow

lint: $(READY) ## set up, run the linter, the formatter's check and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove the environment and the caches; keeps runs/
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamp is younger than what it was made from, so that nothing is installed twice.
$(READY): pyproject.toml $(wildcard constraints/*.txt) | same-python
	@set -e; found=; \
	usable='import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; \
	for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python); do \
	    if "$$python" -c "$$usable" >/dev/null 2>&1; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "no usable Python: $(or $(PYTHON),python3.13 … python3.11) must be Python 3.11, 3.12 or 3.13 with its venv module (on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; \
	fi; \
	echo "setting up $(VENV) with $$("$$found" --version), a minute or two"; \
	"$$found" -m venv $(VENV); \
	line=$$($(BIN)/python -c 'import sys; print("py%d%d" % sys.version_info[:2])'); \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
	    --constraint constraints/$$line.txt --editable '.[dev]'; \
	touch $@

# An environment keeps the Python that it was made with: asking for another one is a mistake.
same-python:
ifneq ($(PYTHON),)
	@line='import sys; print("%d.%d" % sys.version_info[:2])'; \
	if [ -x $(BIN)/python ]; then \
	    there=$$($(BIN)/python -c "$$line"); \
	    asked=$$("$(PYTHON)" -c "$$line" 2>/dev/null) || asked="no usable Python"; \
	    if [ "$$there" != "$$asked" ]; then \
	        echo "$(VENV) has Python $$there, but PYTHON=$(PYTHON) is $$asked: choose another folder for it (VENV=FOLDER), or remove this one with make clean" >&2; exit 1; \
	    fi; \
	fi
endif
