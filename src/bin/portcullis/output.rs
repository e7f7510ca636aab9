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
    let mut output = io::stdout().lock();
    let written = output.write_all(text.as_bytes());
    check(written.and_then(|()| output.flush()))
}

/// The same for what was printed already.
pub(crate) fn check(written: io::Result<()>) -> Result<(), ExitCode> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            say(format_args!(
                "portcullis: the standard output cannot be written: {error}"
            ));
            Err(ExitCode::from(exit::FAILED))
        }
        // A reader that is gone, such as `head`, wants no more.
        _ => Ok(()),
    }
}

/// Prints a line on the standard error output. If that fails, there is no other place for it.
pub(crate) fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
