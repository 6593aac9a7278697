# Two commands for a fresh machine with Rust, Python and make: `make demo` and `make test`. Each does its own setup.

DENY_VERSION = 0.20.2

# Linked statically, as in the image, so that the tests run what is deployed. Without an explicit target, Cargo would also
# link the build scripts statically, which does not work.
export CARGO_BUILD_TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS += -C target-feature=+crt-static
BUILT = $${CARGO_TARGET_DIR:-target}/$(CARGO_BUILD_TARGET)/debug
# The deployed program does not have the feature `demo`.
IMAGE_PROGRAM = $${CARGO_TARGET_DIR:-target}/image/efs2s3
# Without cargo-nextest, `cargo test` runs the same tests. Most tests wait for clocks and servers, and need little CPU.
# Trees of many small files are in memory if /dev/shm has 8 GB. On a disk, the tests would wait for it most of the time.
IN_MEMORY = $(shell [ -w /dev/shm ] && [ "$$(df -k --output=avail /dev/shm | tail -1)" -ge 8000000 ] && echo TMPDIR=/dev/shm)
TESTS = env $(IN_MEMORY) $(if $(shell cargo nextest --version 2>/dev/null),cargo nextest run,RUST_TEST_THREADS=4 cargo test --tests) \
	--locked --workspace --all-features

.PHONY: demo test test-deploy test-quick soak lint bench

# The whole flow on embedded servers. It builds one test too, with the options of `make test`, so that nothing is built twice.
demo:
	cargo build --quiet --locked --all-features --bin efs2s3 --test real_s3
	$(BUILT)/efs2s3 demo

# Everything: unit tests, the program against a server that injects faults, against real S3 servers and in its image, and the
# deployment. Installs the tools while it builds the program. Skips the tests of missing tools, and names the tools at the end.
test: find
	tests/tools install servers deploy & \
	cargo build --quiet --locked --bin efs2s3 --test real_s3 && install -D $(BUILT)/efs2s3 $(IMAGE_PROGRAM) && \
	$(TESTS) --no-run && wait $$!
	tests/real_s3/servers $(TESTS) --no-fail-fast
	cargo test --locked --workspace --all-features --doc
	PROGRAM=$(IMAGE_PROGRAM) tests/deploy/run
	tests/tools report

# Only the deployment and the image.
test-deploy:
	tests/tools find deploy
	tests/tools install deploy
	cargo build --quiet --locked --bin efs2s3 --test real_s3
	install -D $(BUILT)/efs2s3 $(IMAGE_PROGRAM)
	PROGRAM=$(IMAGE_PROGRAM) tests/deploy/run
	tests/tools report deploy

# Only the unit tests, and the program against the server that injects faults.
test-quick: nextest
	EFS2S3_PROPERTY_CASES=60 EFS2S3_FUZZ_CASES=50 EFS2S3_EQUIVALENCE_CASES=3 EFS2S3_SOAK_SECONDS=5 $(TESTS) --lib --test it

# The random tests for about 20 minutes, with new seeds each time.
soak: nextest
	EFS2S3_PROPERTY_SEED=$$(date +%s) EFS2S3_PROPERTY_CASES=10000 EFS2S3_SOAK_SECONDS=300 EFS2S3_KILLS=60 \
	EFS2S3_FUZZ_CASES=5000 EFS2S3_EQUIVALENCE_CASES=100 EFS2S3_OUTAGE_FILES=20000 \
	EFS2S3_OUTAGE_PHASE_SECONDS=30 cargo nextest run --locked --all-features --test it \
	-E 'test(property) | test(soak) | test(resume) | test(untrusted) | test(equivalence) | test(outage)'

# What CI checks besides the tests.
lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-features --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --locked --workspace --all-features --no-deps --document-private-items
	command -v cargo-deny >/dev/null || cargo install --quiet --locked cargo-deny --version $(DENY_VERSION)
	cargo deny --all-features --log-level error check bans licenses sources
	if timeout 60 cargo deny --log-level off fetch db; then cargo deny --all-features check advisories; \
	else echo "skipped: the advisory database cannot be reached"; fi

bench:
	cargo bench --locked

.PHONY: find nextest
find:
	tests/tools find
	tests/tools install nextest

nextest:
	tests/tools find nextest
	tests/tools install nextest
