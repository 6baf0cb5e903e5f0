# The menu: what can be done here, and nothing that needs more than Rust and a C compiler to start with.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO_DENY_VERSION := 0.20.2
CARGO_HOME ?= $(HOME)/.cargo
CARGO_DENY := $(CARGO_HOME)/bin/cargo-deny
CARGO_AUDITABLE_VERSION := 0.7.7
CARGO_AUDITABLE := $(CARGO_HOME)/bin/cargo-auditable
CARGO_CYCLONEDX_VERSION := 0.5.9
CARGO_CYCLONEDX := $(CARGO_HOME)/bin/cargo-cyclonedx
CARGO_DEB_VERSION := 3.8.0
CARGO_DEB := $(CARGO_HOME)/bin/cargo-deb
CARGO_GENERATE_RPM_VERSION := 0.21.1
CARGO_GENERATE_RPM := $(CARGO_HOME)/bin/cargo-generate-rpm
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p;T;q' Cargo.toml)
PACKAGES := target/packages
CONFIG ?= portcullis.yaml
KILLS ?= 1000
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(patsubst fuzz/fuzz_targets/%.rs,%,$(sort $(wildcard fuzz/fuzz_targets/*.rs)))

.PHONY: help
help: ## show this menu
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# $(call need,PROGRAM,REMEDY) says what to do where a program is missing.
need = @command -v $(1) >/dev/null || { echo "$(1) is missing: $(2)" >&2; exit 1; }

.PHONY: tools
tools:
	$(call need,cargo,install Rust 1.88 or newer (https://rustup.rs))
	$(call need,cc,on Debian as root: apt install build-essential)

# Both packages in one go: built apart, two dozen crates that they have in common would be compiled twice.
.PHONY: demo
demo: tools ## two legacy servers behind one certificate, to try with curl
	$(call need,curl,on Debian as root: apt install curl)
	@[ -e target/debug/portcullis-demo ] || { \
		echo "Building Portcullis and two small FTP servers. The first time takes 3 to 10 minutes and a GB of disk;"; \
		echo "the cryptography, which is C, takes one or two of them without a word."; }
	cargo build --locked --package portcullis --package portcullis-demo
	target/debug/portcullis-demo target/debug/portcullis

.PHONY: check
check: ## check a configuration: make check CONFIG=portcullis.yaml
	cargo run --locked --quiet -- check --config $(CONFIG)

.PHONY: build
build: ## the optimised binary, target/release/portcullis
	cargo build --release --locked

.PHONY: test
test: tools ## every test; installs the FTP servers and clients that the tests talk to
	tests/install.sh
	cargo test --locked --workspace --features pfx
	cargo test --locked --workspace --features pfx --test matrix -- --skip every_cell

.PHONY: test-all
test-all: test ## and every client with every server: some minutes more
	cargo test --locked --workspace --features pfx --test matrix every_cell

.PHONY: test-fresh
test-fresh: ## make test in a bare Debian 12; as root, needs debootstrap and half an hour
	tests/fresh.sh

.PHONY: packages
packages: deb rpm sbom ## packages for Debian and for RPM systems, and a list of what is in them: target/packages

# Both hold the same files, which [package.metadata] of Cargo.toml lists.
.PHONY: deb
deb: package-files $(CARGO_DEB)
	$(CARGO_DEB) --no-build --no-strip --locked --quiet --output $(PACKAGES)/

.PHONY: rpm
rpm: package-files $(CARGO_GENERATE_RPM)
	$(CARGO_GENERATE_RPM) --output $(PACKAGES)/

# The tool writes one beside every manifest of the workspace, and the place of this one into it.
.PHONY: sbom
sbom: $(CARGO_CYCLONEDX)
	mkdir -p $(PACKAGES)
	$(CARGO_CYCLONEDX) cyclonedx --format json --spec-version 1.5 --features pfx --quiet --override-filename portcullis.cdx
	sed 's|path+file://$(CURDIR)#|pkg:cargo/|g' portcullis.cdx.json >$(PACKAGES)/portcullis-$(VERSION).cdx.json
	find $$(git ls-files '*Cargo.toml' | sed 's|Cargo.toml$$|.|') -maxdepth 1 -name portcullis.cdx.json -delete

.PHONY: package-files
package-files: auditable
	deploy/packages/stage.sh target/release/portcullis target/package $(VERSION)-1

.PHONY: image
image: auditable ## the container image by buildah, as an archive: target/packages
	deploy/image/build.sh target/release/portcullis $(PACKAGES)/portcullis-$(VERSION)-image.tar

# The binary has the list of its dependencies inside: tools that know vulnerabilities read it, years later.
.PHONY: auditable
auditable: tools $(CARGO_AUDITABLE)
	mkdir -p $(PACKAGES)
	$(CARGO_AUDITABLE) auditable build --release --locked --package portcullis --features pfx

.PHONY: test-packages
test-packages: packages image ## install, upgrade and remove the packages, and run the image; as root, needs debootstrap
	tests/packages.sh $(PACKAGES) $(VERSION)

.PHONY: schema
schema: ## write config/schema.json anew, from the types of the configuration
	UPDATE_SCHEMA=1 cargo test --locked --lib the_schema_is_that_of_the_types

.PHONY: soak
soak: ## kill clients, servers and the proxy under load: make soak KILLS=1000 SEED=7
	tests/install.sh
	PORTCULLIS_KILLS=$(KILLS) $(if $(SEED),PORTCULLIS_SEED=$(SEED)) \
		cargo test --locked --test it kills:: -- --nocapture

# Needs two CPUs, one of them for the proxy alone, and a quarter of an hour in which nobody else uses them much.
.PHONY: bench
bench: bench-build ## measure Portcullis beside its peers; writes docs/performance.md
	ulimit -n "$$(ulimit -Hn)"; target/release/portcullis-bench run --page docs/performance.md \
		target/release/portcullis target/bench-peers

.PHONY: bench-quick
bench-quick: bench-build ## the same in a minute, to see whether it works
	ulimit -n "$$(ulimit -Hn)"; target/release/portcullis-bench run --quick target/release/portcullis target/bench-peers

# Five minutes, and two CPUs as well. Needs no peers.
.PHONY: bench-load
bench-load: bench-programs ## a good client among hostile and among idle ones; writes docs/load.md
	ulimit -n "$$(ulimit -Hn)"; target/release/portcullis-bench load --page docs/load.md target/release/portcullis

# Ten minutes, and two CPUs as well. Needs no peers. Without --page the tables go to stdout.
.PHONY: bench-scale
bench-scale: bench-programs ## what one core, a machine and ten of them carry; writes docs/scale.md
	ulimit -n "$$(ulimit -Hn)"; target/release/portcullis-bench scale --page docs/scale.md target/release/portcullis

# Counts, so that what else the machine does is no matter; needs valgrind. A minute.
.PHONY: bench-logins
bench-logins: bench-programs ## count the instructions of whole logins, in a pool as well; writes docs/instructions.md
	$(call need,valgrind,on Debian as root: apt install valgrind)
	target/release/portcullis-bench logins --page docs/instructions.md target/release/portcullis

.PHONY: bench-build
bench-build: bench-programs
	benches/install.sh

.PHONY: bench-programs
bench-programs:
	cargo build --release --locked --package portcullis --package portcullis-bench

# The stable compiler and a C++ compiler are enough, see docs/fuzzing.md. Naming the target keeps the counters of
# fuzz/.cargo/config.toml out of build scripts.
.PHONY: fuzz
fuzz: ## fuzz every parser and the session's decisions: make fuzz FUZZ_SECONDS=60 FUZZ_TARGETS="session"
	cd fuzz && cargo build --release --locked --target $$(rustc --print host-tuple)
	@cd fuzz && for target in $(FUZZ_TARGETS); do \
		mkdir -p corpus/$$target artifacts/$$target; \
		log=artifacts/$$target/log; \
		if ! target/$$(rustc --print host-tuple)/release/$$target corpus/$$target seeds/$$target \
			-max_total_time=$(FUZZ_SECONDS) -timeout=60 -rss_limit_mb=1500 \
			-artifact_prefix=artifacts/$$target/ >$$log 2>&1; then \
			tail -60 $$log; echo "$$target: FAILED, see fuzz/$$log"; exit 1; \
		fi; \
		awk -v target=$$target '/DONE/ {printf "%-14s %s\n", target, $$0}' $$log; \
	done

.PHONY: compatibility
compatibility: ## run the matrix of clients and servers, and write docs/compatibility.md anew
	tests/install.sh
	MATRIX_WRITE=1 cargo test --locked --workspace --features pfx --test matrix every_cell

.PHONY: instructions
instructions: instructions-build ## count the instructions of the hot paths, and fail where they became more
	target/release/portcullis-instructions compare benches/instructions/baseline.txt

.PHONY: instructions-baseline
instructions-baseline: instructions-build
	target/release/portcullis-instructions write benches/instructions/baseline.txt

.PHONY: instructions-build
instructions-build:
	tests/install.sh
	cargo build --release --locked --package portcullis-instructions

.PHONY: lint
lint: lint-code lint-deps ## formatting, clippy, documentation, dependencies

.PHONY: lint-code
lint-code:
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --workspace --all-targets --features pfx --locked -- -D warnings
	cargo clippy --package portcullis --all-targets --locked -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --workspace --locked

# Licences, bans and sources need no network. Advisories need a copy of the RustSec database: it is fetched, or the one
# of an earlier run is used, and where there is neither the check is left out and says so.
.PHONY: lint-deps
lint-deps: $(CARGO_DENY)
	$(CARGO_DENY) --locked check bans licenses sources
	@if timeout 120 $(CARGO_DENY) fetch db >/dev/null 2>&1; then \
		echo "advisories: checked against the RustSec database of today"; \
		$(CARGO_DENY) --locked check --disable-fetch advisories; \
	elif compgen -G '$(CARGO_HOME)/advisory-db*/*/crates' >/dev/null; then \
		echo "advisories: the RustSec database cannot be fetched; checked against the copy of an earlier run"; \
		$(CARGO_DENY) --locked --offline check --disable-fetch advisories; \
	else \
		echo "advisories: NOT CHECKED, the RustSec database cannot be fetched and there is no copy of it"; \
	fi

# Takes minutes, once, and half as many without optimisation, which it has no use for. The binary stays in cargo's own
# folder, and `make clean` leaves it alone.
$(CARGO_DENY):
	cargo install cargo-deny --version $(CARGO_DENY_VERSION) --locked --debug

$(CARGO_AUDITABLE):
	cargo install cargo-auditable --version $(CARGO_AUDITABLE_VERSION) --locked --debug

$(CARGO_CYCLONEDX):
	cargo install cargo-cyclonedx --version $(CARGO_CYCLONEDX_VERSION) --locked --debug

$(CARGO_DEB):
	cargo install cargo-deb --version $(CARGO_DEB_VERSION) --locked --debug

$(CARGO_GENERATE_RPM):
	cargo install cargo-generate-rpm --version $(CARGO_GENERATE_RPM_VERSION) --locked --debug

.PHONY: fmt
fmt: ## format the code
	cargo fmt --all

.PHONY: clean
clean: ## remove everything that was built
	cargo clean
	cargo clean --manifest-path fuzz/Cargo.toml
