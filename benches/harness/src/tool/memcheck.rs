//! Allocations of a process, by `valgrind --tool=memcheck`.

use super::number;
use crate::stats::per_unit;

/// Allocations of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heap {
    /// Number of allocations.
    pub allocations: f64,
    /// Sum of their sizes.
    pub bytes: f64,
}

impl Heap {
    /// The allocations of one unit, from a short and a long run.
    pub fn per_unit(short: Self, long: Self, units: usize) -> Self {
        Self {
            allocations: per_unit(short.allocations, long.allocations, units),
            bytes: per_unit(short.bytes, long.bytes, units),
        }
    }
}

/// The command in front of the program.
pub fn command() -> Vec<String> {
    // Checking for undefined values would take most of the time.
    ["valgrind", "--tool=memcheck", "--undef-value-errors=no"]
        .map(str::to_owned)
        .into()
}

/// Reads the last line: `==1== total heap usage: 1,204 allocs, 1,177 frees, 224,712 bytes allocated`.
pub fn parse(output: &str) -> Option<Heap> {
    let usage = output
        .lines()
        .find_map(|line| line.split_once("total heap usage:"))?;
    let mut parts = usage.1.split(", ");
    let mut next = || number(parts.next()?.split_whitespace().next()?);
    let allocations = next()?;
    let _frees = next()?;
    let bytes = next()?;
    Some(Heap { allocations, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_usage_is_found() {
        let output = "\
==7== HEAP SUMMARY:
==7==     in use at exit: 5,480 bytes in 27 blocks
==7==   total heap usage: 1,204 allocs, 1,177 frees, 224,712 bytes allocated
==7==
";
        let (allocations, bytes) = (1204.0, 224_712.0);
        assert_eq!(parse(output), Some(Heap { allocations, bytes }));
        assert_eq!(parse("==7== HEAP SUMMARY:\n"), None);
        assert_eq!(parse("total heap usage: many"), None);
    }
}
