//! Counts under a tool, by the difference between a long run and a short one.
//!
//! What happens once (start, growth, end) cancels out, and the speed of the machine has no effect.

use crate::{
    BoxError,
    child::{Child, Role},
    sequence::Gate,
};
use std::net::SocketAddr;

/// Runs a server under a tool for the time of `client`, and parses what the tool prints.
pub async fn run<T>(
    tool: &[String],
    role: &Role,
    client: impl AsyncFnOnce(SocketAddr, Option<Gate>) -> Result<(), BoxError>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, BoxError> {
    let server = Child::start(tool, role).await?;
    let program = tool.first().ok_or("no tool")?;
    // strace is a separate process, and stopping it would not stop the server.
    let gate = match program == "valgrind" {
        true => Some(Gate(server.pid()?)),
        false => None,
    };
    client(server.address(), gate).await?;
    let output = server.stop().await?;
    parse(&output).ok_or_else(|| format!("cannot read the output of {program}: {output}").into())
}
