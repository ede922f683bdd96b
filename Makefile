# make demo    install what the demo needs, and build the example for three devices
# make test    install what contributors need; lint, types, import contracts, all tests
# make bench   print the figures that the documentation quotes
# make lock    resolve constraints.txt anew
# make lock-device   pin the device kit to the packages that Debian has now
# make clean   remove everything that the others made

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := demo
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet -c constraints.txt

# The build backend is installed by pip into a place of its own, which reads only this.
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test bench lock lock-device clean programs device-kit

demo: .venv/installed-demo
	$(BIN)/packager build examples/phantom/packager.toml --out dist/demo

# The integration tests run two at a time: more threads each would only get in the way.
test: .venv/installed-dev programs device-kit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/unit tests/targets
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile tests/integration

bench: .venv/installed-dev
	for script in benchmarks/*.py; do $(BIN)/python "$$script"; done

# One command resolves everything together. Which build of torch is installed, and the
# accelerator packages that it brings, depend on the machine: neither belongs in the lock.
lock:
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	PIP_CONSTRAINT= build/lock/bin/pip install --quiet hatchling editables -e '.[dev]'
	build/lock/bin/pip freeze --all --exclude-editable | sed -E 's/\+[a-z0-9.]+$$//' \
	  | grep -v -E '^(pip|nvidia-|cuda-|triton)' > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/lock

lock-device: .venv/installed-dev
	$(BIN)/python -m packager.device_setup.relock

clean:
	rm -rf .venv build dist .packager-cache .mypy_cache .pytest_cache .ruff_cache \
	  .hypothesis .import_linter_cache .coverage

# pip comes last into a new environment: where it is there, all of it is.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || { \
	  echo "error: packager needs Python 3.11 or 3.12, and $(PYTHON) is another." \
	    "Name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  echo "error: $(PYTHON) cannot make virtual environments." \
	    "On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed-demo: pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) -e '.[demo]'
	touch $@

.venv/installed-dev: pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) -e '.[dev]'
	touch .venv/installed-demo $@

# program=Debian's package: the report is looked at in a browser, and the code that contracts
# are written as is compiled and run in each language, also on an emulated microcontroller.
TEST_PROGRAMS := chromium=chromium javac=default-jdk-headless node=nodejs gcc=gcc g++=g++ \
  arm-none-eabi-gcc=gcc-arm-none-eabi qemu-system-arm=qemu-system-arm sshd=openssh-server ssh=openssh-client

programs:
	@missing=; for pair in $(TEST_PROGRAMS); do \
	  command -v "$${pair%%=*}" > /dev/null || missing="$$missing $${pair#*=}"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing; \
	else \
	  echo "Not here, so the tests that need them are skipped; on Debian:" \
	    "apt-get install$$missing" >&2; \
	fi

# Emulators, compilers and libraries of devices; a second later where they are there already.
device-kit: .venv/installed-dev | programs
	@$(BIN)/packager setup-device qemu || { test "$${CI:-}" != true && \
	  echo "No device kit, so the tests that need it are skipped." >&2; }
