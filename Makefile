# Isobar. `make help` lists everything that is done here.
SHELL := /bin/bash
.DEFAULT_GOAL := help
ISOBAR := target/release/isobar

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

demo: release ## three teams, real Dags, on SQLite: builds, makes the environments, starts the server
	@tools/demo.sh $(ISOBAR)

test: ## everything: unit tests, contracts on both databases, whole paths with real Python tasks
	@tools/test.sh

conformance: ## ask Airflow 3.3.2 afresh: record new cases with a new seed and compare (SEED, COUNT, PART)
	@CONFORMANCE_SEED=$(SEED) CONFORMANCE_COUNT=$(COUNT) tools/conformance.sh $(PART)

build: ## the development binary
	cargo build -p isobar

release: ## the optimised binary, target/release/isobar
	cargo build --release -p isobar

check: ## formatting, lints and the Python agent's style, without running tests
	@tools/check.sh

format: ## put every source file into shape
	cargo fmt --all

clean-demo: ## forget the demo's state, environments and data
	rm -rf .demo

.PHONY: help demo test conformance build release check format clean-demo
