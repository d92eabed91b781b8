# Every target installs what it needs. Variables: PYTHON (an interpreter, 3.10 or newer), VENV.
PYTHON ?= python3
VENV ?= .venv
# Where `make deep` finds a free-threaded CPython; without it that part is left out, and said so.
ATBR_FREETHREADED_TARBALL ?= ../shared/python/python3.13t.tar.xz
export PYTHON VENV ATBR_FREETHREADED_TARBALL
# One configuration of PyO3 for clippy and maturin, so that neither rebuilds what the other built.
export PYO3_PYTHON := $(abspath $(VENV))/bin/python
export PYO3_BUILD_EXTENSION_MODULE := 1

BIN := $(VENV)/bin
STAMPS := build/stamps
SOURCES := Cargo.toml $(wildcard Cargo.lock) build.rs pyproject.toml $(shell find src cpp python -type f \
	-not -name '*.so' -not -name '*.pyc' 2>/dev/null)
DEVELOPMENT := $(STAMPS)/installed-dev.stamp
OPTIMISED := $(STAMPS)/installed-release.stamp

.NOTPARALLEL:

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: demo
demo: $(OPTIMISED) ## build, load the file of 2012, look things up: start here
	@$(BIN)/python benches/demo.py

.PHONY: test
test: lint rust-test python-test doctest ## everything a change has to pass

.PHONY: lint
lint: $(DEVELOPMENT) ## formatting, clippy, ruff, mypy, stubtest, clang-format, shellcheck
	@tools/system-packages.sh lint
	@tools/lint.sh

.PHONY: rust-test
rust-test: $(STAMPS)/venv.stamp ## the engine, the files and the server, without Python
	cargo test --features server
	cargo test --features failpoints --lib --test memory --test tables_memory --test databases

.PHONY: python-test
python-test: $(DEVELOPMENT) ## the package, its tables on real engines
	@tools/engines.sh cassandra browser
	$(BIN)/python -m pytest

.PHONY: doctest
doctest: $(DEVELOPMENT) ## the examples of README.md, docs/ and the docstrings
	$(BIN)/python tools/doctests.py README.md docs/*.md

.PHONY: deep
deep: $(DEVELOPMENT) ## long tests: clusters, sanitizers, valgrind, fuzzing, every CPython, free threading
	@tools/engines.sh cassandra redis-py
	tools/deep.sh

.PHONY: bench
bench: $(OPTIMISED) ## criterion, then pytest-benchmark with dict in the same run
	cargo bench
	$(BIN)/python -m pytest benches -W default --benchmark-only

.PHONY: tables-bench
tables-bench: $(OPTIMISED) ## atbr.tables beside bare drivers, on every engine
	@tools/engines.sh cassandra
	$(BIN)/python benches/tables.py --plot docs/tables.svg --write docs/tables.md

.PHONY: server-bench
server-bench: $(OPTIMISED) ## the server beside redis-server, Tornado and granian: 40 minutes
	@tools/system-packages.sh server-bench
	$(BIN)/python -m pip install --quiet --group servers
	$(BIN)/python benches/server.py --write docs/server.md

.PHONY: wheel
wheel: | toolchain ## a manylinux_2_17 wheel, tried in a virtualenv without a compiler
	tools/wheel.sh

.PHONY: sdist
sdist: $(STAMPS)/venv.stamp ## the source distribution, and a build from it
	tools/sdist.sh

.PHONY: format
format: $(STAMPS)/venv.stamp ## lay out all code
	cargo fmt
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .
	git ls-files -co --exclude-standard 'cpp/*.h' 'cpp/*.cc' | xargs -r $(BIN)/clang-format -i

.PHONY: clean
clean: ## all that was built, the virtualenvs too
	cargo clean
	rm -rf build dist $(VENV) .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks
	find python tests benches tools -name __pycache__ -prune -exec rm -rf {} +
	find python -name '*.so' -delete

.PHONY: toolchain
toolchain:
	@tools/check-toolchain.sh
	@tools/system-packages.sh

$(STAMPS)/venv.stamp: pyproject.toml tools/venv.sh | toolchain
	@echo 'atbr: installing the virtualenv $(VENV)'
	@tools/venv.sh $(VENV) dev
	@mkdir -p $(STAMPS) && touch $@

$(DEVELOPMENT): $(STAMPS)/venv.stamp $(SOURCES)
	@echo 'atbr: building the extension for tests'
	@tools/develop.sh dev $@

$(OPTIMISED): $(STAMPS)/venv.stamp $(SOURCES)
	@echo 'atbr: building the extension, optimised (a minute or two the first time)'
	@tools/develop.sh release $@
