//! System calls of a process and its threads, by `strace -f -c`.

use std::collections::BTreeMap;

/// How often each system call was made, failed ones included.
pub(crate) type Calls = BTreeMap<String, f64>;

/// The command in front of the program.
pub(crate) fn command() -> Vec<String> {
    ["strace", "-f", "-c"].map(str::to_owned).into()
}

/// The table that ends with a line for the total; the column of errors is empty where there are
/// none.
pub(crate) fn parse(said: &str) -> Option<Calls> {
    let rules = |line: &&str| line.starts_with("------");
    let mut lines = said.lines().skip_while(|line| !rules(line)).skip(1);
    let mut calls = Calls::new();
    for line in lines.by_ref().take_while(|line| !rules(line)) {
        let columns: Vec<_> = line.split_whitespace().collect();
        let (Some(count), Some(name)) = (columns.get(3), columns.last()) else {
            return None;
        };
        calls.insert((*name).to_owned(), count.parse().ok()?);
    }
    let total = lines.next()?;
    total.trim_end().ends_with("total").then_some(calls)
}

/// Whether a call moves or controls connections. The others are those of the runtime's threads
/// (waiting and waking, which depends on chance) and of the allocator.
pub(crate) fn is_of_connections(call: &str) -> bool {
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
            // Only the runtime writes: to the descriptor that wakes it. Sockets send.
            | "write"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
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
        let calls = parse(SAID).unwrap();
        assert_eq!(calls.len(), 3);
        assert_eq!((calls["accept4"], calls["recvfrom"]), (10.0, 22.0));
    }

    #[test]
    fn a_table_that_is_cut_off_is_none() {
        let (cut, _) = SAID.split_at(SAID.len() - 45);
        assert_eq!(parse(cut), None);
        assert_eq!(parse("strace: cannot trace\n"), None);
    }

    #[test]
    fn the_runtimes_own_calls_are_told_apart() {
        assert!(is_of_connections("setsockopt") && is_of_connections("epoll_ctl"));
        assert!(!is_of_connections("epoll_wait") && !is_of_connections("futex"));
    }
}
