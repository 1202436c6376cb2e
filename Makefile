# Two commands matter: `make demo` and `make test`. Both set up what they need; the second time they work offline.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: venv demo up test lint format bench lock clean

venv: $(STAMP)

# The stamp holds the hash of what was installed: an unchanged lock installs nothing, so nothing needs the network.
$(STAMP): requirements/dev.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if [ "$$(cat $(STAMP) 2>/dev/null)" != "$$(cat requirements/dev.txt pyproject.toml | sha256sum)" ]; then \
	  $(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --require-hashes -r requirements/dev.txt && \
	  $(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e . && \
	  cat requirements/dev.txt pyproject.toml | sha256sum > $(STAMP); \
	else touch $(STAMP); fi

demo: venv
	$(BIN)/mirage demo

up: venv
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

# Needs uv; run it after changing dependencies in pyproject.toml.
lock:
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url -q -o requirements/cpu.txt
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url -q -c requirements/cpu.txt -o requirements/dev.txt

clean:
	rm -rf $(VENV) out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
