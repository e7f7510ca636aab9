//! What a server does for one unit, counted: no clock is in it, so a busy machine does not matter.
//!
//! The server has one worker and runs under a tool, and the client does one thing at a time. Counted is
//! the difference between many units and few, so what is done once is not in it.

mod callgrind;
mod child;
#[path = "../../../src/tool/strace.rs"]
mod strace;

use self::{child::Counted, strace::Calls};
use crate::{
    BoxError,
    load::{
        Client, idle,
        sequence::{Gate, Sequence},
    },
    process::is_installed,
    server::Entry,
};
use std::{
    fs,
    io::{self, BufRead, Write},
    net::SocketAddr,
    path::Path,
    time::Duration,
};
use tokio::time::timeout;

/// The tools that are there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools {
    pub(crate) valgrind: bool,
    pub(crate) strace: bool,
}

impl Tools {
    pub(crate) fn find() -> Self {
        Self {
            valgrind: is_installed("valgrind"),
            strace: is_installed("strace"),
        }
    }
}

/// What a server costs, by the unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Costs {
    /// Of the whole process in user space.
    pub(crate) instructions: Option<f64>,
    /// System calls.
    pub(crate) calls: Option<SystemCalls>,
}

/// How many of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SystemCalls {
    /// Those that concern connections.
    pub(crate) of_connections: f64,
    /// With those of the runtime's threads, and of the allocator.
    pub(crate) all: f64,
}

/// What is done, and how much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    /// Connections that stay; none where each unit has one of its own.
    pub(crate) connections: usize,
    /// Besides them, those that are open meanwhile and say nothing.
    pub(crate) others: usize,
    /// Whether TLS sessions are resumed.
    pub(crate) resume: bool,
    pub(crate) few: usize,
    pub(crate) many: usize,
}

impl Amount {
    fn client(self, address: SocketAddr, entry: &Entry, folder: &Path) -> Result<Client, BoxError> {
        let client = Client::new(address, entry.job, SIZE, folder)?;
        Ok(match self.resume {
            true => client.resuming(),
            false => client,
        })
    }

    fn difference(self, few: f64, many: f64) -> f64 {
        (many - few) / (self.many - self.few) as f64
    }
}

/// Counts with each tool that is there.
pub(crate) async fn costs(
    tools: Tools,
    entry: &Entry,
    folder: &Path,
    amount: Amount,
) -> Result<Costs, BoxError> {
    let instructions = match tools.valgrind {
        true => Some(timeout(LIMIT, instructions(entry, folder, amount)).await??),
        false => None,
    };
    let calls = match tools.strace {
        true => Some(timeout(LIMIT, calls(entry, folder, amount)).await??),
        false => None,
    };
    Ok(Costs {
        instructions,
        calls,
    })
}

/// Both amounts in one run: the start of a server that speaks TLS gathers entropy, which takes ten
/// million instructions more or less each time.
async fn instructions(entry: &Entry, folder: &Path, amount: Amount) -> Result<f64, BoxError> {
    let profile = folder.join(format!("{}.callgrind", entry.name));
    let mut server = Counted::start(&callgrind::command(&profile), entry, folder).await?;
    let gate = Gate(server.pid()?);
    let client = amount.client(server.address, entry, folder)?;
    let others = idle::open(&client, 0..amount.others).await?;
    let mut sequence = Sequence::open(&client, amount.connections).await?;
    // It warms up, and the first mark takes away what has been counted so far.
    for units in [amount.few, amount.few, amount.many] {
        sequence.run(units, Some(gate)).await?;
        server.mark().await?;
    }
    sequence.close().await;
    server.stop().await?;
    drop(others);
    let part = |number| callgrind::read(&profile, number);
    Ok(amount.difference(part(2)?, part(3)?))
}

async fn calls(entry: &Entry, folder: &Path, amount: Amount) -> Result<SystemCalls, BoxError> {
    let few = calls_of(entry, folder, amount, amount.few).await?;
    let many = calls_of(entry, folder, amount, amount.many).await?;
    let sum = |calls: &Calls, all| -> f64 {
        let counted = calls
            .iter()
            .filter(|(name, _)| all || strace::is_of_connections(name));
        counted.map(|(_, count)| count).sum()
    };
    let difference = |all| amount.difference(sum(&few, all), sum(&many, all));
    Ok(SystemCalls {
        of_connections: difference(false),
        all: difference(true),
    })
}

/// All system calls of a server in a run of so many units.
async fn calls_of(
    entry: &Entry,
    folder: &Path,
    amount: Amount,
    units: usize,
) -> Result<Calls, BoxError> {
    let file = folder.join(format!("{}.strace", entry.name));
    let mut tool = strace::command();
    tool.extend(["-o".to_owned(), file.display().to_string()]);
    let server = Counted::start(&tool, entry, folder).await?;
    let client = amount.client(server.address, entry, folder)?;
    let mut sequence = Sequence::open(&client, amount.connections).await?;
    // The process is strace's own: it cannot be made to wait.
    sequence.run(units, None).await?;
    sequence.close().await;
    server.stop().await?;
    let said = fs::read_to_string(file)?;
    strace::parse(&said).ok_or_else(|| format!("cannot read what strace says: {said}").into())
}

/// The server's part: marks each line of its standard input, until that ends.
pub(crate) fn mark_lines() {
    for _ in io::stdin().lock().lines().map_while(Result::ok) {
        the_count_ends_here();
        if writeln!(io::stdout(), "{MARKED}").is_err() {
            return;
        }
    }
}

/// Known to callgrind by its name: what was counted before goes to a file of its own.
#[inline(never)]
fn the_count_ends_here() {
    // Else it does nothing, and would not be called.
    std::hint::black_box(());
}

/// What the server answers to a mark.
const MARKED: &str = "marked";

/// Bytes of an echo.
const SIZE: usize = 64;

/// For one server under one tool. Nothing that is waited for may hang it.
const LIMIT: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_once_is_not_in_the_difference() {
        let amount = Amount {
            connections: 1,
            others: 0,
            resume: false,
            few: 10,
            many: 110,
        };
        let run = |units: f64| 5_000.0 + 42.0 * units;
        assert_eq!(amount.difference(run(10.0), run(110.0)), 42.0);
    }
}
