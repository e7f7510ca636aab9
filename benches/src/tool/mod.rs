//! The tools that count, and what they print.

pub(crate) mod callgrind;
pub(crate) mod memcheck;
pub(crate) mod strace;

use std::process::Command;

/// What `program --version` says in its first line; `None` where there is no such program.
pub(crate) fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    Some(said.lines().next()?.to_owned())
}

/// A number as valgrind prints it, with commas.
fn number(text: &str) -> Option<f64> {
    text.replace(',', "").parse().ok()
}
