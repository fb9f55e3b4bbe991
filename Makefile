# `make help` lists what there is to make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
WORKERS ?= $(shell n=$$(env -u OMP_NUM_THREADS nproc); echo $$((n < 2 ? 2 : n > 4 ? 4 : n)))
TAG = $$($(BIN)/python -c 'import sys; print("py%d%d" % sys.version_info[:2])')
SUPPORTED := import sys; v = sys.version_info[:2]; v in ((3, 11), (3, 12)) or \
	sys.exit(f"Esper needs Python 3.11 or 3.12, and $(PYTHON) is {v[0]}.{v[1]}: make setup PYTHON=python3.12")

export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.PHONY: help setup check format test coverage demo bench soak fuzz replay docs constraints clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make or update .venv with the versions in constraints/

# torch comes first and alone, so that pip's own configuration decides which build of it is taken.
$(STAMP): pyproject.toml setup.py constraints/py311.txt constraints/py312.txt
	@$(PYTHON) -c '$(SUPPORTED)'
	@$(BIN)/python -c '$(SUPPORTED)' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar off -c constraints/$(TAG).txt torch
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --progress-bar off -c constraints/$(TAG).txt --editable '.[dev]'
	@touch $@

check: setup ## format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup ## lay the code out and repair what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: check ## set-up, check and every test, as CI runs them
	$(BIN)/python -m pytest --numprocesses $(WORKERS)

coverage: setup ## every test, and which lines none of them runs (twice as long)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --cov --cov-report=term

demo: setup ## compile blueprints, grow a network on MNIST-1D, write its report
	PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh

bench: setup ## run every benchmark; they assert nothing about seconds
	@lost=0; for file in $(filter-out benchmarks/replay.py,$(wildcard benchmarks/*.py)); do \
	$(BIN)/python $$file || [ $$? -eq 3 ] || lost=1; done; exit $$lost  # 3: a device is missing

soak: setup ## run the property tests with 5,000 or 10,000 examples; goes on where it was killed (TESTS=tests/passes)
	$(BIN)/python -m pytest -p tests.soak --numprocesses $(WORKERS) --hypothesis-profile=soak -m hypothesis $(TESTS)

fuzz: setup ## feed the language 1,000,000 inputs of a coverage-guided fuzzer; goes on where it was stopped
	$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet -c constraints/$(TAG).txt --editable '.[fuzz]'
	$(BIN)/python -m benchmarks.fuzz_language

replay: setup ## how the library's kernels differ from those of a commit (BASE=HEAD~3)
	$(BIN)/python -m benchmarks.replay $(BASE)

docs: setup ## write what of docs/ is generated, and the tables of the parser
	$(BIN)/python -m esper.cli.parser_table -o grammar/blueprint.json
	$(BIN)/python -m esper.cli.grammar_page -o docs/grammar.md
	$(BIN)/python -m esper.cli.operators_page -o docs/operators.md
	$(BIN)/python -m esper.cli.library_page -o docs/library.md
	$(BIN)/python -m esper.editors.textmate -o docs/editors/esper.tmLanguage.json

mutation: setup ## how many of 60 random slips in passes and operators the tests notice
	$(BIN)/python -m benchmarks.mutation --workers $(WORKERS)

constraints: setup ## write constraints/ for this Python from what .venv holds
	@file=constraints/$(TAG).txt; head -1 $$file > $$file.part; \
	$(BIN)/python -m pip list --format=freeze --exclude pip --exclude esper-toolchain \
	| sed -e 's/+.*//' -e 's/_/-/g' | tr 'A-Z' 'a-z' | grep -v -E '^(cuda|nvidia)-' | sort >> $$file.part; \
	mv $$file.part $$file

clean: ## remove .venv and every cache
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
