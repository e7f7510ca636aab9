//! Memory of connections that do nothing.

use super::{Variant, child::Running, load::Client, serve::Unbuffered};
use portcullis::BoxError;
use std::{fs, time::Duration};
use tokio::time::sleep;

/// What idle connections have behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Nothing,
    OneEcho,
}

/// Bytes of resident memory for each of `count` connections that wait.
///
/// The kernel's memory is not in it. Fewer are opened where the process may not have as many files.
pub(crate) async fn bytes_per_connection(
    variant: Variant,
    after: After,
    count: usize,
) -> Result<f64, BoxError> {
    let count = count.min(open_files()?.saturating_sub(SPARE + WARM_UP));
    let server = Running::start(&[], variant, Unbuffered).await?;
    let id = server.id().ok_or("the server is gone")?;
    let mut open = Vec::new();
    for _ in 0..WARM_UP {
        open.push(Client::connect(server.peer()).await?);
    }
    let before = (resident(id)?, files(id)?);
    for _ in 0..count {
        open.push(match after {
            After::OneEcho => Client::connect(server.peer()).await?,
            After::Nothing => Client::new(server.peer()).await?,
        });
        // Connected is not accepted, and the queue is short.
        let accepted = before.1 - WARM_UP + open.len();
        while open.len() % WARM_UP == 0 && files(id)? < accepted {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let after = resident(id)?;
    drop(open);
    server.stop().await?;
    Ok((after - before.0) / count as f64)
}

/// Bytes of resident memory of a process, `proc_pid_status(5)`.
fn resident(id: u32) -> Result<f64, BoxError> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let kib = field(&status, "VmRSS:").ok_or("no VmRSS in /proc")?;
    Ok(kib * 1024.0)
}

/// How many files a process has open.
fn files(id: u32) -> Result<usize, BoxError> {
    Ok(fs::read_dir(format!("/proc/{id}/fd"))?.count())
}

/// How many files this process, and so the server, may have open.
fn open_files() -> Result<usize, BoxError> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    // "unlimited" has no number; nobody opens as many.
    Ok(field(&limits, "Max open files").map_or(usize::MAX, |limit| limit as usize))
}

/// The first number after `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Connections before the first look, so that what is allocated once is there.
const WARM_UP: usize = 100;

/// Files that are open besides.
const SPARE: usize = 100;

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
