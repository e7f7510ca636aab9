//! What Linux reports about processes in `/proc`.

use crate::BoxError;
use nix::unistd::Pid;
use std::fs;

/// Resident memory of a process in bytes, from `proc_pid_status(5)`.
pub fn resident(pid: u32) -> Result<f64, BoxError> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = field(&status, "VmRSS:").ok_or("no VmRSS in /proc")?;
    Ok(kib * 1024.0)
}

/// Number of files that a process has open.
pub fn files(pid: u32) -> Result<usize, BoxError> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// The child of a process that has at most one, as strace and valgrind.
pub fn only_child(pid: Pid) -> Result<Option<Pid>, BoxError> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let child = children.split_whitespace().next().map(str::parse);
    Ok(child.transpose()?.map(Pid::from_raw))
}

/// Number of files that this process and its children may have open.
pub fn open_files() -> Result<usize, BoxError> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    // The field can be "unlimited".
    Ok(field(&limits, "Max open files").map_or(usize::MAX, |limit| limit as usize))
}

/// The first number after `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_proc_is_found() {
        let status = "VmPeak:\t  100 kB\nVmRSS:\t    9024 kB\nThreads:\t3\n";
        assert_eq!(field(status, "VmRSS:"), Some(9024.0));
        let limits = "Max open files            20000      20000      files\n";
        assert_eq!(field(limits, "Max open files"), Some(20000.0));
        assert_eq!(
            field("Max open files  unlimited  files", "Max open files"),
            None
        );
    }
}
