//! What the program prints for its user.
//!
//! `println!` panics if the disk is full, or if the reader is gone.

use crate::exit;
use std::{
    fmt,
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

/// Prints `text`, then ends with `code`.
pub(crate) fn end_with(text: &str, code: u8) -> ExitCode {
    match print(text) {
        Ok(()) => ExitCode::from(code),
        Err(failed) => failed,
    }
}

/// Prints `text` on the standard output. If that fails, it says so, and returns how the program ends.
pub(crate) fn print(text: &str) -> Result<(), ExitCode> {
    check(write(text))
}

/// Prints `text` on the standard output. If that fails, it returns why.
pub(crate) fn try_print(text: &str) -> Result<(), String> {
    problem(write(text))
}

/// The same as [`print`] for what was printed already.
pub(crate) fn check(written: io::Result<()>) -> Result<(), ExitCode> {
    problem(written).map_err(|problem| {
        say(problem);
        ExitCode::from(exit::FAILED)
    })
}

fn write(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

fn problem(written: io::Result<()>) -> Result<(), String> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!(
            "portcullis: the standard output cannot be written: {error}"
        )),
        // A reader that is gone, such as `head`, wants no more.
        _ => Ok(()),
    }
}

/// Prints a line on the standard error output. If that fails, there is no other place for it.
pub(crate) fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
