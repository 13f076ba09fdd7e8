# pycolo: `make demo` and `make test` do all the set-up they need; `make help` lists the rest.

VENV := .venv
BIN := $(VENV)/bin

# Arguments for the command behind a target: make demo ARGS="--seconds 20 --json"
ARGS ?=

# The QEMU for `make demo-qemu`: a version that is fetched (QEMU=10.0, Debian 13's) or a path; the one on PATH when empty.
QEMU ?=

# The interpreter to make .venv with; the first Python 3.11 or newer on PATH when empty.
PYTHON ?=
export PYTHON

# Of the tests, what `make check` runs: quick ones that need nothing installed, and the laws of both cores.
QUICK := not (slow or etcd or namespaces or nginx or qemu or tun)
LAWS := $(patsubst %,tests/property/test_%.py,checkpoint_laws compare_laws compare_model datagram_model rewrite_laws \
	rewrite_model)

# The sources of the compiled module, pycolo.core.
COMPILED := $(shell find src -name '*.pyx' -o -name '*.pxi' -o -name '*.pxd' -o -name '*.h')

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-libvirt demo-pacemaker demo-qemu check test lint types bench bench-instructions bench-services docs dist deb last-release lock clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r target text; do \
		printf 'make %-18s %s\n' "$$target" "$$text"; done

setup: $(VENV)/.package ## everything needed to run: .venv, pinned dependencies, compiled core
	@:

demo: setup ## kill a host under real TCP connections and watch them go on (ARGS="--help" for options)
	@$(BIN)/colo demo $(ARGS)

demo-libvirt: setup ## a protected domain on two hosts with a real libvirtd each (ARGS="--list", "--hold", "--libvirt 11.3")
	@$(BIN)/colo lab libvirt $(ARGS)

demo-pacemaker: setup ## the QEMU pair under a real corosync and Pacemaker (ARGS="--list", "--rounds 20")
	@$(BIN)/colo lab pacemaker $(ARGS)

demo-qemu: setup ## two real QEMUs: kill hosts, nodes and links (ARGS="--hold" to try it yourself, QEMU=10.0)
	@$(BIN)/colo lab qemu $(if $(QEMU),--qemu $(QEMU)) $(ARGS)

check: lint ## in a minute: lint, types, the quick unit tests and a few laws
	@$(BIN)/pytest --quiet -m "$(QUICK)" --hypothesis-profile quick $(ARGS) tests/unit $(LAWS)

test: lint ## all checks: lint, types, tests, with the time of each group (ARGS="-k jhash" to choose)
	@scripts/setup.sh programs
	@$(BIN)/pytest $(ARGS)

lint: types ## ruff, mypy, and the purity line
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet --output-format concise || { echo "run $(BIN)/ruff format" >&2; exit 1; }
	@$(BIN)/lint-imports --no-cache > build/lint-imports.log || { cat build/lint-imports.log; exit 1; }

types: setup $(VENV)/.dev ## mypy, strict
	@$(BIN)/mypy --no-error-summary

last-release: setup $(VENV)/.dev ## this release beside the last one, built from the newest tag (REF=COMMIT: from that)
	@scripts/last-release.sh

bench: setup ## colo proxy beside QEMU and a relay, a quarter of an hour (ARGS="--quick", "--help")
	@$(BIN)/python benchmarks/bench_proxy.py $(ARGS)

bench-services: setup ## what protection costs nginx, redis, PostgreSQL and sshd (as root; ARGS="--quick", "--column NAME=FILE.toml")
	@$(BIN)/python benchmarks/bench_services.py $(ARGS)

bench-instructions: setup ## instructions per packet, counted with valgrind, with a limit (ARGS="--functions", "--update")
	@scripts/setup.sh counting
	@$(BIN)/python benchmarks/instructions.py $(ARGS)

docs: setup $(VENV)/.docs ## the documentation as a site, strictly: site/index.html, which needs no server
	@rm -rf site
	@$(BIN)/sphinx-build --builder html --fresh-env --doctree-dir build/doctrees --nitpicky --fail-on-warning \
		--keep-going --jobs auto --quiet docs site
	@echo "made site/index.html: open it in a browser"

dist: setup $(VENV)/.dist ## source distributions and wheels of pycolo and pycolo-lab, built and checked, in dist/
	@scripts/dist.sh

deb: ## Debian packages for this machine's release, built and checked, in dist/ (as root)
	@scripts/deb.sh

lock: ## renew requirements*.lock, with the newest releases that pyproject.toml allows
	@scripts/lock.sh

clean: ## remove everything that make has made, .venv too
	@rm -rf $(VENV) build dist site src/*.egg-info lab/src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find $(wildcard src lab tests benchmarks) \( -name __pycache__ -o -name '*.so' \) -prune -exec rm -rf {} +

# The stamps of the steps, set by the script: a step that is up to date is skipped.
$(VENV)/.environment: requirements.lock scripts/setup.sh
	@scripts/setup.sh environment

$(VENV)/.package: $(VENV)/.environment pyproject.toml setup.py lab/pyproject.toml $(COMPILED)
	@scripts/setup.sh package

# Tools of single targets: one dependency group of pyproject.toml each.
$(VENV)/.dev $(VENV)/.docs $(VENV)/.dist: $(VENV)/.%: requirements-%.lock scripts/setup.sh | $(VENV)/.package
	@scripts/setup.sh $*
