//! The tools that count, and how to read what they print.

pub mod callgrind;
pub mod memcheck;
pub mod strace;

/// A number as valgrind prints it, with commas.
fn number(text: &str) -> Option<f64> {
    text.replace(',', "").parse().ok()
}
