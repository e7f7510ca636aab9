//! System calls of a process and its threads, by `strace -f -c`.

use crate::stats::per_unit;
use std::collections::{BTreeMap, BTreeSet};

/// Number of calls by system call, failed ones included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calls(pub BTreeMap<String, f64>);

impl Calls {
    /// The calls of one unit, from a short and a long run.
    pub fn per_unit(short: &Self, long: &Self, units: usize) -> Self {
        let names: BTreeSet<_> = long.0.keys().chain(short.0.keys()).collect();
        let count = |calls: &Self, name: &String| calls.0.get(name).copied().unwrap_or_default();
        let cost = |name: &String| per_unit(count(short, name), count(long, name), units);
        Self(
            names
                .into_iter()
                .map(|name| (name.clone(), cost(name)))
                .collect(),
        )
    }

    /// Number of all calls.
    pub fn all(&self) -> f64 {
        self.0.values().sum()
    }

    /// Number of the calls that move or control connections.
    pub fn of_connections(&self) -> f64 {
        let calls = self.0.iter().filter(|(name, _)| is_of_connections(name));
        calls.map(|(_, count)| count).sum()
    }
}

/// The command in front of the program.
pub fn command() -> Vec<String> {
    ["strace", "-f", "-c"].map(str::to_owned).into()
}

/// Reads the table, which ends with a line for the total. The column of errors may be empty.
pub fn parse(output: &str) -> Option<Calls> {
    let rules = |line: &&str| line.starts_with("------");
    let mut lines = output.lines().skip_while(|line| !rules(line)).skip(1);
    let mut calls = BTreeMap::new();
    for line in lines.by_ref().take_while(|line| !rules(line)) {
        let columns: Vec<_> = line.split_whitespace().collect();
        let (Some(count), Some(name)) = (columns.get(3), columns.last()) else {
            return None;
        };
        calls.insert((*name).to_owned(), count.parse().ok()?);
    }
    let total = lines.next()?;
    total.trim_end().ends_with("total").then_some(Calls(calls))
}

/// Whether a call moves or controls connections. The other calls are those of the runtime's threads
/// (waiting and waking, which vary between runs) and of the allocator.
fn is_of_connections(call: &str) -> bool {
    !matches!(
        call,
        "brk" | "clock_nanosleep"
            | "clone3"
            | "epoll_pwait"
            | "epoll_pwait2"
            | "epoll_wait"
            | "futex"
            | "madvise"
            | "mmap"
            | "mprotect"
            | "munmap"
            | "restart_syscall"
            | "sched_yield"
            // Only the runtime writes, to the file descriptor that wakes it. Sockets send.
            | "write"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
strace: Process 82 attached
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000060           6        10         2 accept4
 30.00    0.000030           1        22           recvfrom
 10.00    0.000010           1         9           epoll_wait
------ ----------- ----------- --------- --------- ----------------
100.00    0.000100                    41         2 total
";

    #[test]
    fn each_call_is_counted_with_and_without_errors() {
        let calls = parse(OUTPUT).unwrap();
        assert_eq!(calls.0.len(), 3);
        assert_eq!((calls.0["accept4"], calls.0["recvfrom"]), (10.0, 22.0));
    }

    #[test]
    fn a_table_that_is_cut_off_is_none() {
        let (cut, _) = OUTPUT.split_at(OUTPUT.len() - 45);
        assert_eq!(parse(cut), None);
        assert_eq!(parse("strace: cannot trace\n"), None);
    }

    #[test]
    fn the_runtimes_own_calls_are_told_apart() {
        assert!(is_of_connections("setsockopt") && is_of_connections("epoll_ctl"));
        assert!(!is_of_connections("epoll_wait") && !is_of_connections("futex"));
    }

    #[test]
    fn the_difference_is_that_of_each_call_per_unit() {
        let calls = |pairs: &[(&str, f64)]| {
            Calls(
                pairs
                    .iter()
                    .map(|(name, n)| ((*name).to_owned(), *n))
                    .collect(),
            )
        };
        let long = calls(&[("accept4", 30.0), ("futex", 3.0)]);
        let short = calls(&[("accept4", 10.0), ("mmap", 10.0)]);
        let expected = calls(&[("accept4", 2.0), ("futex", 0.3), ("mmap", -1.0)]);
        assert_eq!(Calls::per_unit(&short, &long, 10), expected);
    }
}
