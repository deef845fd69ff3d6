# `make` alone lists the commands.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

.PHONY: help demo test check theory coverage chaos canary-honesty drift-honesty bench gold lock clean
help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
	$(BIN)/python -m simulation.compile_kernels
	@touch $(STAMP)

demo: $(STAMP) ## make the environment, run the whole loop on real data, print where the reports are
	$(BIN)/lull demo

# The rules, the plan and the simulator; what starts processes, draws for minutes or needs a server is for `make test`.
QUICK = tests/architecture tests/flows/domain tests/simulation/control_plane tests/simulation/data_plane \
  tests/simulation/planning $(wildcard tests/simulation/test_plan*.py) tests/simulation/test_scenario.py \
  tests/simulation/test_verdict.py --ignore=tests/simulation/planning/test_every_zone.py \
  --ignore=tests/simulation/planning/test_metastability.py

check: $(STAMP) ## lint, types, imports and quick tests, under a minute
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n 2 --dist loadfile $(QUICK) -m "not theory and not prefect and not demo and not processes"

test: $(STAMP) ## everything: check, theory, Prefect and the demo
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist loadfile

theory: $(STAMP) ## the simulator against closed forms
	$(BIN)/python -m pytest -q -m theory

coverage: $(STAMP) ## how often 95 % intervals hold the truth, 1,000 runs each: two to four minutes
	$(BIN)/python -m simulation.coverage_check

drift-honesty: $(STAMP) ## count the drift report's false alarms, its finds on real months, and its kept promises
	$(BIN)/python -m flows.drift_honesty

canary-honesty: $(STAMP) ## false alarms and detection delays of the rollout rule, 1,000 canaries: about a minute
	$(BIN)/python -m flows.canary_honesty

chaos: $(STAMP) ## kill -9 the training and its flow a hundred times at random instants: fifteen minutes
	$(BIN)/python tests/chaos.py --kills 100 --seed 1

bench: $(STAMP) ## print speeds: command line, windows, queues, gateway, the demo stage by stage
	for f in tests/benchmarks/bench_*.py; do echo "== $$f"; $(BIN)/python $$f || exit 1; done

gold: $(STAMP) ## accept the report pages as they are now
	LULL_ACCEPT_GOLD=1 $(BIN)/python -m pytest -q tests/reports

lock: ## resolve requirements.lock anew (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --no-annotate --group dev --all-extras -o requirements.lock pyproject.toml

clean: ## remove the environment and the caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
