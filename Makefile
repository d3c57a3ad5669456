# weft: everything a developer or CI runs. `make` alone lists it.
#
# Every target sets up what it needs: packages (SKIP_DEPS=1 leaves them alone), and for the tests
# hugepages, which are given back at the end.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# cargo as rustup installs it, when the calling shell does not know it yet.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

CARGO ?= cargo
# Debian's own Python: the packages python3-scapy and python3-pytest belong to it.
PYTHON ?= /usr/bin/python3
# The Lua that Pktgen-DPDK is built with.
LUA ?= lua5.3
CARGO_TARGET_DIR ?= target
SKIP_DEPS ?= 0
# Loom looks at every interleaving with up to this many preemptions.
LOOM_MAX_PREEMPTIONS ?= 3
# Free 2 MB hugepages that the tests get, in MB.
TEST_MEMORY_MB ?= 2048

# The cargo-deny to install where there is none.
CARGO_DENY ?= ^0.20

WEFT_HOST := hugepage-scripts/weft-host
WITH_PAGES := $(WEFT_HOST) with --memory $(TEST_MEMORY_MB) --free --
PYTEST := $(PYTHON) -m pytest -p no:cacheprovider
# What needs root (namespaces, hugepages) goes through sudo for others; building never does.
NOT_ROOT := $(filter-out 0,$(shell id -u))
AS_ROOT := $(if $(NOT_ROOT),sudo env PATH="$$PATH" CI="$${CI:-}" CARGO_TARGET_DIR="$(abspath $(CARGO_TARGET_DIR))")
ifneq ($(NOT_ROOT),)
test-unit: export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER := sudo -E
endif
SHELL_SCRIPTS := hugepage-scripts/weft-host hugepage-scripts/setup-deps.sh .ci/run
PY_SOURCES = $(shell git ls-files '*.py')

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps deps-build
deps: ## Install what is missing for building, running and testing (apt, rustup)
	@[ "$(SKIP_DEPS)" = 1 ] || hugepage-scripts/setup-deps.sh

deps-build:
	@[ "$(SKIP_DEPS)" = 1 ] || hugepage-scripts/setup-deps.sh build

# ---- Build -------------------------------------------------------------------------------------

.PHONY: build
build: deps-build ## Build weftd and weftctl (release)
	$(CARGO) build --release --locked -p weft-control

.PHONY: demo
demo: deps build ## Two hosts, two VMs, GENEVE and VXLAN, then full rate; cleans up after itself
	$(AS_ROOT) $(PYTHON) tests/demo.py

# ---- Test --------------------------------------------------------------------------------------

.PHONY: test
test: deps ## All tests: units, loom, scripts, systems
	@echo "==> Rust tests"
	@$(MAKE) --no-print-directory test-unit SKIP_DEPS=1
	@echo "==> Model checks of the lock-free tables"
	@$(MAKE) --no-print-directory test-loom SKIP_DEPS=1
	@echo "==> Host scripts"
	@$(MAKE) --no-print-directory test-scripts SKIP_DEPS=1
	@echo "==> Scripts for Pktgen-DPDK"
	@$(MAKE) --no-print-directory test-pktgen SKIP_DEPS=1
	@echo "==> System tests"
	@$(MAKE) --no-print-directory test-system SKIP_DEPS=1

.PHONY: test-unit
test-unit: deps ## Rust tests of all crates
	$(WITH_PAGES) $(CARGO) test --workspace --locked

.PHONY: test-loom
test-loom: deps-build ## Model-check table publication and the FDB under every interleaving
	RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=$(LOOM_MAX_PREEMPTIONS) CARGO_PROFILE_RELEASE_LTO=off \
	    $(CARGO) test --release --locked --target-dir $(CARGO_TARGET_DIR)/loom -p weft-tables --test 'loom_*'

.PHONY: test-scripts
test-scripts: deps ## weft-host and setup-deps.sh
	$(AS_ROOT) $(PYTEST) -q hugepage-scripts/tests

.PHONY: test-pktgen
test-pktgen: deps ## The scripts for Pktgen-DPDK, without it (lua5.3)
	$(LUA) benches/pktgen/test.lua

.PHONY: test-system
test-system: deps build ## Real peers: kernel, Open vSwitch, QEMU guests, testpmd (T=... picks: pytest arguments)
	$(WITH_PAGES) $(AS_ROOT) $(PYTEST) -c tests/pytest.ini --rootdir tests $(or $(T),tests/selftest tests/system)

.PHONY: test-nic
test-nic: deps build ## A NIC bound to vfio-pci inside a QEMU guest, with its IOMMU (T=... picks)
	$(AS_ROOT) $(PYTEST) -c tests/pytest.ini --rootdir tests $(or $(T),tests/nic)

STRESS_SECONDS ?= 300
.PHONY: test-stress
test-stress: deps-build ## Readers against a writer on the lock-free tables, STRESS_SECONDS per test
	WEFT_STRESS_SECONDS=$(STRESS_SECONDS) $(CARGO) test --release --locked -p weft-tables --test stress

# Both need a nightly toolchain, for what is not in the stable one.
NIGHTLY ?= nightly
# Tests of the tables' figures with up to millions of entries: Miri would take hours, and see nothing in them that it
# does not see in smaller ones. It gives up where a program asks for more memory than there is, which the last one does.
MIRI_SKIP := arrays_are_aligned memory_stays_below percent_ a_table_holds about_to_wear_out spread_evenly flips_about_half \
    impossible_sizes
.PHONY: test-miri
test-miri: ## The tables' tests in Miri: undefined behaviour, data races (nightly Rust with miri)
	@$(CARGO) +$(NIGHTLY) miri --version > /dev/null 2>&1 || { echo "test-miri: no Miri for the toolchain \"$(NIGHTLY)\". Install it:" \
	    "rustup toolchain install $(NIGHTLY) --component miri --component rust-src" >&2; exit 1; }
	MIRIFLAGS="-Zmiri-disable-isolation $(MIRIFLAGS)" $(CARGO) +$(NIGHTLY) miri test --locked -p weft-tables --lib --tests -- \
	    --test-threads 1 $(addprefix --skip ,$(MIRI_SKIP))

TSAN_SECONDS ?= 5
.PHONY: test-tsan
test-tsan: ## The tables' stress test in ThreadSanitizer, TSAN_SECONDS per test (nightly Rust with rust-src)
	@[ -d "$$(rustc +$(NIGHTLY) --print sysroot 2> /dev/null)/lib/rustlib/src/rust/library" ] || { \
	    echo "test-tsan: no source of the standard library for the toolchain \"$(NIGHTLY)\". Install it:" \
	    "rustup toolchain install $(NIGHTLY) --component rust-src" >&2; exit 1; }
	RUSTFLAGS="-Zsanitizer=thread" WEFT_STRESS_SECONDS=$(TSAN_SECONDS) $(CARGO) +$(NIGHTLY) test -Zbuild-std --locked \
	    --target x86_64-unknown-linux-gnu --target-dir $(CARGO_TARGET_DIR)/tsan -p weft-tables --test stress

# Coverage-guided, on the parsers that hostile bytes reach first. Seconds for each of the targets.
FUZZ_SECONDS ?= 300
.PHONY: fuzz
fuzz: deps-build ## Fuzz the parsers, FUZZ_SECONDS each (installs cargo-fuzz)
	@command -v cargo-fuzz > /dev/null || $(CARGO) install -q --locked cargo-fuzz
	cd dataplane/wire && for t in $$(cd fuzz/fuzz_targets && ls *.rs | sed 's/\.rs$$//'); do \
	    echo "==> $$t"; mkdir -p fuzz/corpus/$$t; \
	    RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $$t fuzz/corpus/$$t fuzz/seeds/$$t -- -max_len=2048 -max_total_time=$(FUZZ_SECONDS); \
	done

# ---- Measure -----------------------------------------------------------------------------------

# The end-to-end benchmark's arguments, such as BENCH='--quick' or BENCH='--case encap --rounds 9'.
BENCH ?=
BENCH_MEMORY_MB ?= 1536
.PHONY: bench
bench: deps bench-micro bench-e2e ## Measure: micro-benchmarks, then weftd beside Open vSwitch and testpmd (BENCH=... picks)

.PHONY: bench-micro
bench-micro: deps-build ## Micro-benchmarks: headers, the FDB, and the packet path without I/O, stage by stage
	$(CARGO) bench --locked -p weft-benches --bench wire --bench tables --bench path

# Arguments such as BENCH_INSTRUCTIONS='--case l2 --top 20'.
BENCH_INSTRUCTIONS ?=
.PHONY: bench-instructions
bench-instructions: deps ## Instructions per packet by stage, counted by callgrind (BENCH_INSTRUCTIONS=... picks)
	$(CARGO) build --release --locked -p weft-benches --bin weft-instructions
	$(PYTHON) -B benches/micro/instructions.py $(BENCH_INSTRUCTIONS)

# The forwarding table beside rte_hash and others, in turns. Arguments such as BENCH_TABLES='--quick' or
# BENCH_TABLES='--only "90% full"'. The memory is rte_hash's: 1.6 GB of it with room for 32M entries.
BENCH_TABLES ?=
BENCH_TABLES_MEMORY_MB ?= 2048
ifneq ($(NOT_ROOT),)
bench-tables: export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER := sudo -E
endif
.PHONY: bench-tables
bench-tables: deps ## The forwarding table beside rte_hash, hashbrown and dashmap (BENCH_TABLES=... picks)
	$(CARGO) bench --locked -p weft-benches --bench peers --no-run
	$(WEFT_HOST) with --memory $(BENCH_TABLES_MEMORY_MB) --free -- \
	    $(CARGO) bench --locked -p weft-benches --bench peers -- $(BENCH_TABLES)

.PHONY: bench-e2e
bench-e2e: deps build ## weftd beside Open vSwitch and testpmd between the same ports (BENCH='--help' lists the options)
	$(CARGO) build --release --locked -p weft-benches
	$(WEFT_HOST) with --memory $(BENCH_MEMORY_MB) --free -- $(AS_ROOT) $(PYTHON) -B benches/e2e/bench.py $(BENCH)

# Arguments such as BENCH_SCALING='--case l2 --rounds 9'.
BENCH_SCALING ?=
.PHONY: bench-scaling
bench-scaling: deps build ## One worker and two, with packets from memory and no generator (BENCH_SCALING=... picks)
	$(CARGO) build --release --locked -p weft-benches
	$(WEFT_HOST) with --memory 512 --free -- $(AS_ROOT) $(PYTHON) -B benches/e2e/scaling.py $(BENCH_SCALING)

# Control's arguments, such as BENCH_CONTROL='--only churn --changes 50000'.
BENCH_CONTROL ?=
.PHONY: bench-control
bench-control: deps build ## FDB entries installed and changed under load, ports added (BENCH_CONTROL='--help' lists the options)
	$(CARGO) build --release --locked -p weft-benches
	$(WEFT_HOST) with --memory $(BENCH_MEMORY_MB) --free -- $(AS_ROOT) $(PYTHON) -B benches/e2e/control.py $(BENCH_CONTROL)

.PHONY: bench-quick
bench-quick: ## The end-to-end benchmark in about four minutes
	$(MAKE) --no-print-directory bench-e2e BENCH='--quick'

# ---- Quality -----------------------------------------------------------------------------------

.PHONY: lint
lint: deps lint-tools ## Formatting, clippy, dependencies' licences and sources, shell and Python checks
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) deny --log-level error check --hide-inclusion-graph bans licenses sources
	shellcheck -x $(SHELL_SCRIPTS)
	$(PYTHON) -c 'import ast, sys; [ast.parse(open(f).read(), f) for f in sys.argv[1:]]' $(PY_SOURCES)

# Built with little optimisation: it runs for a second, and building it for speed takes minutes.
.PHONY: lint-tools
lint-tools:
	@command -v cargo-deny > /dev/null || { \
	    echo "installing cargo-deny"; \
	    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=0 \
	    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 $(CARGO) install -q --locked --no-default-features --version '$(CARGO_DENY)' cargo-deny; }

.PHONY: advisories
advisories: lint-tools ## Check dependencies against the RustSec database (needs the network)
	$(CARGO) deny check advisories

.PHONY: fmt
fmt: ## Format the Rust sources
	$(CARGO) fmt --all

.PHONY: doc
doc: deps-build ## API documentation of all crates, private items too
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --workspace --no-deps --document-private-items --locked

.PHONY: clean
clean: ## Remove what was built
	$(CARGO) clean
	rm -rf tests/.cache
	find . -name __pycache__ -not -path './target/*' -prune -exec rm -rf {} +
