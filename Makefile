# Floodwatch: everything a developer runs. `make` alone lists it.
#
# Each target does its own set-up: Python 3.11 or newer (with venv), make and a package index are
# enough. To use another Python: make test PYTHON=python3.13

VENV := .venv
BENCH_VENV := .venv-bench
# The environment's own Python once there is one, so that PYTHON need be given only once.
PYTHON ?= $(if $(wildcard $(VENV)/bin/python),$(VENV)/bin/python,python3)
RUN := $(VENV)/bin/python -m
# `make demo MINUTES=1` ends after a minute (ten simulated ones); without it, Ctrl-C ends the demo.
MINUTES ?=
# More for pytest: make test PYTEST="-k limits -x"
PYTEST ?=
# So many files of tests run at a time, each of these with servers of its own; 0: one process.
JOBS ?= 2
# More for the benchmark: make bench BENCH=--quick
BENCH ?=
# More for chaos: make chaos CHAOS="--short --seed 7"
CHAOS ?=

.DEFAULT_GOAL := help
.PHONY: help setup lock demo test check format kafka bench chaos fuzz quality model dashboards schema secrets clean python

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: python ## Make .venv from the lock (seconds; nothing to do the second time)
	@$(PYTHON) tools/environment.py make $(VENV) requirements/dev.lock

lock: setup ## Resolve the lock files anew; UPGRADE=1 takes the newest versions
	@$(VENV)/bin/python tools/environment.py lock $(if $(UPGRADE),--upgrade)

demo: setup ## Watch misuse being found in a simulated stream; MINUTES=1 ends by itself
	@$(VENV)/bin/floodwatch demo $(if $(MINUTES),--minutes $(MINUTES))

test: check ## Check, then run all tests, JOBS=2 files at a time; PYTEST="-k word" passes options on
	$(RUN) pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST)

check: setup ## Format, lint, types, import contracts
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(VENV)/bin/lint-imports

format: setup ## Format the code and mend what the linter can
	$(RUN) ruff check --fix-only --quiet .
	$(RUN) ruff format .

kafka: setup ## Run a real Apache Kafka on this machine until Ctrl-C
	$(RUN) tests.kafka

bench: python ## Compare the worker with its peers on one broker (build/bench.json)
	@$(PYTHON) tools/environment.py make $(BENCH_VENV) requirements/bench.lock
	$(BENCH_VENV)/bin/python -m bench $(BENCH)

chaos: setup ## Kill, freeze and move workers about; nothing may be lost (build/chaos.json)
	$(RUN) tests.chaos $(CHAOS)

fuzz: setup ## A million damaged records: each processed, late or a dead letter
	$(RUN) tests.fuzz

quality: setup ## Detection quality in full: recall, false alarms, on seeds not used for tuning
	FLOODWATCH_LONG=1 $(RUN) pytest -s tests/quality $(PYTEST)

model: setup ## Train the demo's anomaly model anew (monitor/demo/model)
	$(VENV)/bin/floodwatch simulate --scenario baseline --users 20000 --minutes 2880 --seed 1001 \
		--out build/model/events.parquet
	$(VENV)/bin/floodwatch train --from build/model/events.parquet --max-samples 4096 \
		--out monitor/demo/model

dashboards: setup ## Write dashboards and Prometheus rules anew from the code
	$(RUN) dashboards

schema: setup ## Write docs/schema anew from the code
	$(RUN) monitor.wire.json_schema docs/schema

secrets: ## Make the passwords of docker-compose.yml, each once (secrets/)
	@mkdir -p secrets && chmod 700 secrets
	@for name in database_password grafana_database_password grafana_admin_password; do \
		test -s secrets/$$name || \
			$(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(24), end="")' >secrets/$$name; \
		chmod 644 secrets/$$name; done # Whoever runs in a container reads them; the folder is yours.

clean: ## Remove what make made (not the download caches)
	rm -rf $(VENV) $(BENCH_VENV) build dist .grimp_cache .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'Floodwatch needs Python 3.11 or newer; "$(PYTHON)" is missing or older.' >&2; \
		echo 'Install one, or name it: make setup PYTHON=python3.12' >&2; exit 1; }
