//! The limit on open files, and so on connections.

use harness::{BoxError, proc::open_files};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit on open files to its maximum, also for child processes.
pub(crate) fn raise() -> Result<(), BoxError> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}

/// The number of connections that may be open, up to `wanted`, if each takes so many file descriptors of one
/// process.
pub(crate) fn connections(wanted: usize, descriptors: usize) -> Result<usize, BoxError> {
    Ok(fit(wanted, descriptors, open_files()?))
}

fn fit(wanted: usize, descriptors: usize, open_files: usize) -> usize {
    wanted.min(open_files.saturating_sub(SPARE) / descriptors)
}

/// Other open files.
const SPARE: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_as_many_as_descriptors_allow() {
        assert_eq!(fit(10_000, 1, 20_000), 10_000);
        assert_eq!(fit(10_000, 2, 20_000), 9_750);
        assert_eq!(fit(10, 1, 100), 0);
    }
}
