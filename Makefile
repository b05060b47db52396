# What people type. Everything but `setup` prepares what it needs first; what is up to date costs a moment.
.PHONY: help setup build run test lint format bench clean lock stubs
.NOTPARALLEL:

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## install the system packages and make .venv
	@scripts/setup.sh

build: setup ## build everything: core, node, tests, benchmarks, Python extension, web page
	@scripts/build.sh

run: ## build what `millstream serve` needs and start it on ./data; ARGS="--port 9090" adds flags
	@scripts/run.sh $(ARGS)

test: ## run everything that CI runs; STAGES="unit lint" runs some of it
	@scripts/test.sh $(STAGES)

lint: setup ## formatting, clang-tidy, ruff, mypy, stubs, tidy checks
	@scripts/lint.sh

format: setup ## rewrite the sources in the project's format
	@scripts/format.sh

bench: setup ## run the benchmarks and print medians
	@scripts/bench.sh

lock: setup ## resolve requirements/dev.txt anew from pyproject.toml and requirements/dev.in
	@scripts/lock.sh

stubs: setup ## regenerate python/millstream/_core.pyi
	@scripts/build.sh millstream_python
	@.venv/bin/python scripts/stubs.py --write

clean: ## remove what `make build` made; ./data and .venv stay
	rm -rf build dist gateway/millstream_gateway/static gateway/ui/node_modules python/millstream/v1
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f python/millstream/_core*.so
