//! The server's side of [`Child`](crate::child::Child).

use std::{
    io::{self, BufRead, Write},
    net::SocketAddr,
};

/// Prints the address of the server, which the parent process waits for.
pub fn announce(address: SocketAddr) -> io::Result<()> {
    print_line(address)
}

/// Blocks until standard input ends, so that the server never outlives its parent.
///
/// Each line of the input ends a part of what callgrind counts.
pub fn serve_input() {
    for _ in io::stdin().lock().lines().map_while(Result::ok) {
        the_count_ends_here();
        if print_line(MARKED).is_err() {
            return;
        }
    }
}

fn print_line(line: impl std::fmt::Display) -> io::Result<()> {
    let mut output = io::stdout();
    writeln!(output, "{line}")?;
    output.flush()
}

/// callgrind knows it by its name, and writes what it has counted to a separate file.
#[inline(never)]
fn the_count_ends_here() {
    // An empty function would not be called.
    std::hint::black_box(());
}

/// The answer to a mark.
pub(crate) const MARKED: &str = "marked";
