//! What the compiler says to somebody whose stack does not fit a listener.
//!
//! Its words differ between versions, so they are held to those of one version. The first run builds
//! the dependencies once more, in a directory of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    clippy::print_stdout,
    reason = "what was measured, for whoever asks with --nocapture"
)]

use std::{env, process::Command};

#[test]
fn the_compiler_names_the_layer_that_is_missing() {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    if !version.starts_with(WRITTEN_WITH) {
        println!("skipped: written with {WRITTEN_WITH}, this is {version}");
        return;
    }
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}

const WRITTEN_WITH: &str = "rustc 1.95.";
