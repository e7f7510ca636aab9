//! What a server does for one unit, as a count under valgrind and strace.
//!
//! The server has one worker, and the client does one thing at a time. The count is the difference between
//! many units and few, so what happens once is not in it, and the speed of the machine has no effect.

use crate::{
    entry::{Entry, WORKERS_VARIABLE},
    load::{Client, idle},
    process::SERVE,
};
use harness::{
    BoxError,
    child::{Child, Role},
    count,
    sequence::{Gate, Sequence},
    stats::per_unit,
    tool::{
        callgrind,
        strace::{self, Calls},
    },
    version::is_installed,
};
use std::{net::SocketAddr, path::Path, time::Duration};
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
#[derive(Clone, Debug)]
pub(crate) struct Costs {
    /// Of the whole process in user space.
    pub(crate) instructions: Option<f64>,
    /// System calls.
    pub(crate) calls: Option<Calls>,
}

/// What is done, and how much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    /// Connections that stay open; with none, each unit is a connection.
    pub(crate) connections: usize,
    /// Further connections, open and idle.
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

    fn units(self) -> usize {
        self.many - self.few
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

/// Both amounts in one run, because the start of a server that speaks TLS gathers entropy, which takes ten
/// million instructions more or less each time.
async fn instructions(entry: &Entry, folder: &Path, amount: Amount) -> Result<f64, BoxError> {
    let profile = folder.join(format!("{}.callgrind", entry.name));
    let tool = callgrind::command_in_parts(&profile);
    let mut server = Child::start(&tool, &role(entry, folder)).await?;
    let gate = Gate(server.pid()?);
    let client = amount.client(server.address(), entry, folder)?;
    let others = idle::open(&client, 0..amount.others).await?;
    let mut sequence = Sequence::open(&client, amount.connections).await?;
    // The first run is a warm-up, and its part holds what was counted before.
    for units in [amount.few, amount.few, amount.many] {
        sequence.run(units, Some(gate)).await?;
        server.mark().await?;
    }
    sequence.close().await;
    server.stop().await?;
    drop(others);
    let part = |number| callgrind::read_part(&profile, number);
    Ok(per_unit(part(2)?, part(3)?, amount.units()))
}

async fn calls(entry: &Entry, folder: &Path, amount: Amount) -> Result<Calls, BoxError> {
    let run = async |units| {
        let client = async |address, gate| {
            let client = amount.client(address, entry, folder)?;
            let mut sequence = Sequence::open(&client, amount.connections).await?;
            sequence.run(units, gate).await?;
            sequence.close().await;
            Ok(())
        };
        let role = role(entry, folder);
        count::run(&strace::command(), &role, client, strace::parse).await
    };
    let (few, many) = (run(amount.few).await?, run(amount.many).await?);
    Ok(Calls::per_unit(&few, &many, amount.units()))
}

/// A server with one worker.
fn role(entry: &Entry, folder: &Path) -> Role {
    let arguments = [SERVE, entry.name, "0", "-"].map(Into::into);
    Role {
        program: None,
        arguments: arguments.into_iter().chain([folder.into()]).collect(),
        environment: vec![(WORKERS_VARIABLE, "1".to_owned())],
    }
}

/// Bytes of an echo.
const SIZE: usize = 64;

/// Timeout for one server under one tool.
const LIMIT: Duration = Duration::from_secs(90);
