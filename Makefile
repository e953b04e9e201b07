# Every target sets up what it needs: on a fresh Debian or Ubuntu, python3 (3.11 or newer) and make are enough.

.DEFAULT_GOAL := help
.PHONY: help demo test lowest soak check docs bench format
.DELETE_ON_ERROR:

UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .uv/bin/uv)
VENV := .venv/.synced
BIN := .venv/bin

help:  ## list the targets
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 18

demo: $(VENV)  ## pause a graph in one process and resume it in another; STORE=sqlite:///x.db keeps the result
	@$(BIN)/python -m examples.demo $(if $(STORE),--store '$(STORE)')

# Of two workers, each waited for its servers a quarter of the time: a third one keeps two processors busy. Bytecode is
# kept even where Python may not: each worker, and each of hundreds of other processes, would compile everything again.
test: $(VENV)  ## run the tests; ARGS="tests/test_demo.py -x" goes to pytest
	@$(BIN)/python -m tests.servers.install
	@PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -q -n 3 --dist loadgroup $(ARGS)

# An old version without a wheel for a newer Python is not built: the oldest one with a wheel is taken.
lowest: $(VENV)  ## run the tests of the saver and of each backend on the oldest versions of the dependencies that are claimed
	@$(BIN)/python -m tests.servers.install
	@$(UV) venv --quiet --clear build/lowest
	@$(UV) pip install --quiet --compile-bytecode --python build/lowest --resolution lowest-direct \
		--only-binary :all: --no-binary checkpoint-backends -e '.[all,conformance]' --group testing --group servers
	@build/lowest/bin/python -m pytest -q -n 3 --dist loadgroup -m 'not conformance_long' $(or $(ARGS), \
		$(addprefix tests/,cli sqlite postgres redis s3) \
		$(foreach backend,postgres redis s3,--ignore tests/$(backend)/test_conformance.py) \
		$(addprefix tests/test_,$(addsuffix .py,saver saver_refusal codec serializer serializer_refusal serializer_reading serializer_stock transfer importing)))

check: $(VENV)  ## lint, formatting, types, and that uv.lock fits pyproject.toml
	@$(BIN)/ruff check --quiet --output-format concise
	@$(BIN)/ruff format --check --quiet || { echo 'not formatted: run make format' >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/mypy --no-error-summary -p examples
	@$(BIN)/mypy --no-error-summary -p benchmarks
	@$(UV) lock --check --quiet || { echo 'uv.lock does not fit pyproject.toml: run uv lock' >&2; exit 1; }
	@echo 'check: all good'

docs: $(VENV)  ## build the pages of docs/ as a site, in build/site; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo 'docs: build/site/index.html'

soak: $(VENV)  ## break things for long and write docs/reliability.md; MINUTES=30 SEED=1
	@$(BIN)/python -m tests.servers.install
	@$(BIN)/python -m tests.faults.soak --minutes $(or $(MINUTES),30) --seed $(or $(SEED),1)

bench: $(VENV)  ## measure beside the peers and write docs/benchmarks.md; QUICK=1 for a smaller run, which leaves the README as it is
	@$(BIN)/python -m tests.servers.install
	@$(BIN)/python -m benchmarks.run $(if $(QUICK),--quick) $(ARGS)

format: $(VENV)  ## rewrite the sources as `make check` wants them, as far as a tool can
	@$(BIN)/ruff check --fix --quiet || true
	@$(BIN)/ruff format --quiet

# The development environment. The stamp is newer than what it was made from, so this runs again when those change.
# Compiled at once: the tests start hundreds of processes, and where Python may not keep bytecode, each would compile.
$(VENV): pyproject.toml uv.lock | $(filter .uv/%,$(UV))
	@echo 'setting up .venv' >&2
	@$(UV) sync --frozen --quiet --compile-bytecode
	@touch $@

# uv for a machine that has none, in a virtual environment of its own: nothing is added to the system, except Debian's
# package of `venv` itself where that was left out of python3.
.uv/bin/uv:
	@echo 'setting up uv in .uv' >&2; \
	for python in python3 python3.14 python3.13 python3.12 python3.11 none; do \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	done; \
	if [ $$python = none ]; then \
		echo 'No Python 3.11 or newer was found on PATH. Install one (or uv, which brings its own), then repeat.' >&2; \
		exit 1; \
	fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
		package=$$($$python -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
		if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
			echo "$$python cannot make virtual environments. Install $$package" \
				"(sudo apt-get install $$package), then repeat." >&2; \
			exit 1; \
		fi; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$$package"; } >/dev/null \
			|| exit 1; \
	fi; \
	rm -rf .uv && $$python -m venv .uv && echo '*' >.uv/.gitignore \
		&& .uv/bin/python -m pip install --quiet --disable-pip-version-check uv
