# make demo | test | check | chaos | soak | lock | up      (make demo SECONDS=60, make test WORKERS=0)
# Every target creates .venv if it is missing or older than the lock file. The command is .venv/bin/iot.

.DEFAULT_GOAL := help
SECONDS ?= 30
MINUTES ?= 10
RUNS ?= 40
SEED ?= 0
WORKERS ?= 5
TESTS ?=
BIN := .venv/bin
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)

help:  ## show this help
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

.venv/made: requirements-dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or 3.12 found; set PYTHON=..." >&2; exit 1; }
	@echo "creating .venv (once)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: .venv/made  ## run the whole pipeline on this machine for SECONDS (30)
	@$(BIN)/iot demo --seconds $(SECONDS) --json

test: .venv/made  ## run all tests; KAFKA_BOOTSTRAP_SERVERS and DB_HOST select real servers
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadgroup $(TESTS)

check: .venv/made  ## check lint, types, import rules, SQL and Kubernetes manifests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/sqlfluff lint --disable-progress-bar --dialect sqlite sql/sqlite
	@$(BIN)/sqlfluff lint --disable-progress-bar --dialect tsql sql/mssql
	@$(BIN)/kubernetes-validate --strict --quiet \
		$(filter-out %/kustomization.yaml,$(wildcard deploy/kubernetes/*.yaml))

chaos: .venv/made  ## kill processes at the worst moments, RUNS (40) times; SEED repeats a run
	@$(BIN)/python -m tests.chaos matrix --runs $(RUNS) --seed $(SEED)
	@$(BIN)/python -m tests.chaos faults
	@$(BIN)/python -m tests.chaos fire
	@IDENTITY_POSTS=3000 $(BIN)/python -m pytest -q tests/pipeline/test_identity.py

soak: .venv/made  ## run under load for MINUTES (10): no reading is lost or repeated, memory stays flat
	@$(BIN)/python -m tests.chaos soak --minutes $(MINUTES) --json

lock:  ## update the pinned dependencies (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
		--extra mssql pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
		--extra mssql --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock

up:  ## start Kafka, SQL Server, edge and flow in Docker
	docker compose up --build

.PHONY: help demo test check chaos soak lock up
