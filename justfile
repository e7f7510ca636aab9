# The same recipes as CI.

# All that CI runs.
check:
    .ci/run

# Formatting, lints, tests.
quick:
    cargo fmt --all --check
    cargo clippy --workspace --all-features --all-targets -- -D warnings
    cargo test --workspace --all-features

# The documentation, in a browser.
docs:
    cargo doc --workspace --all-features --no-deps --open

# What we cost: instructions, system calls, allocations (needs valgrind and strace).
bench:
    cargo run --release -p portcullis-benches

# Side by side with others (about 45 minutes; `just compare --quick` takes five; see benches/compare/README.md).
compare *ARGUMENTS:
    cargo run --release --manifest-path benches/compare/Cargo.toml -- {{ARGUMENTS}}
