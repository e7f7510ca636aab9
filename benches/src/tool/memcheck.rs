//! Allocations of a process, by `valgrind --tool=memcheck`.

use super::number;

/// Allocations: how many, and how many bytes in all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Heap {
    pub(crate) allocations: f64,
    pub(crate) bytes: f64,
}

/// The command in front of the program.
pub(crate) fn command() -> Vec<String> {
    // Only the heap is of interest; looking for undefined values would take most of the time.
    ["valgrind", "--tool=memcheck", "--undef-value-errors=no"]
        .map(str::to_owned)
        .into()
}

/// `==1== total heap usage: 1,204 allocs, 1,177 frees, 224,712 bytes allocated`.
pub(crate) fn parse(said: &str) -> Option<Heap> {
    let usage = said
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
        let said = "\
==7== HEAP SUMMARY:
==7==     in use at exit: 5,480 bytes in 27 blocks
==7==   total heap usage: 1,204 allocs, 1,177 frees, 224,712 bytes allocated
==7==
";
        let (allocations, bytes) = (1204.0, 224_712.0);
        assert_eq!(parse(said), Some(Heap { allocations, bytes }));
        assert_eq!(parse("==7== HEAP SUMMARY:\n"), None);
        assert_eq!(parse("total heap usage: many"), None);
    }
}
