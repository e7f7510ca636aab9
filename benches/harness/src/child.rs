//! A server in a child process, alone or under a tool.

use crate::{BoxError, proc, server::MARKED};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{env, ffi::OsString, net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{ChildStdin, ChildStdout, Command},
    spawn,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// How a program is started in the role of a server.
#[derive(Clone, Debug, Default)]
pub struct Role {
    /// Another program than this one. One of its lines says where it listens, and SIGTERM ends it.
    pub program: Option<PathBuf>,
    /// The arguments of the program.
    pub arguments: Vec<OsString>,
    /// Variables of the environment, with their values.
    pub environment: Vec<(&'static str, String)>,
}

/// A running server. Dropping it kills the process.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    /// The server runs as long as this is open.
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    errors: JoinHandle<String>,
    address: SocketAddr,
    /// Whether a signal ends it, and not the end of its input.
    is_signalled: bool,
}

impl Child {
    /// Starts a server; `tool` is the command in front of it, empty for none.
    pub async fn start(tool: &[String], role: &Role) -> Result<Self, BoxError> {
        let server = role.program.clone().map_or_else(env::current_exe, Ok)?;
        let mut command = match tool {
            [] => Command::new(server),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(server);
                command
            }
        };
        let mut process = command
            .args(&role.arguments)
            .envs(role.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", command.as_std().get_program().display()))?;
        let input = process.stdin.take().ok_or("no input")?;
        let mut output = BufReader::new(process.stdout.take().ok_or("no output")?);
        let mut stderr = process.stderr.take().ok_or("no standard error")?;
        // Read continuously, because a full pipe would block the server.
        let errors = spawn(async move {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes).await;
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let mut line = String::new();
        let address = loop {
            line.clear();
            if timeout(PATIENCE, output.read_line(&mut line)).await?? == 0 {
                let _ = process.start_kill();
                let errors = timeout(PATIENCE, errors).await??;
                return Err(format!("the server did not start: {errors}").into());
            }
            if let Some(address) = address(&line) {
                break address;
            }
        };
        Ok(Self {
            process,
            input,
            output,
            errors,
            address,
            is_signalled: role.program.is_some(),
        })
    }

    /// Where the server listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Process ID of the tool if there is one, else of the server. valgrind shares it with the server.
    pub fn pid(&self) -> Result<Pid, BoxError> {
        let pid = self.process.id().ok_or("the server has exited")?;
        Ok(Pid::from_raw(i32::try_from(pid)?))
    }

    /// Ends a part of what callgrind counts.
    pub async fn mark(&mut self) -> Result<(), BoxError> {
        // The client has its last answer, but the server may not be waiting again yet.
        sleep(REST).await;
        self.input.write_all(b"\n").await?;
        let mut line = String::new();
        timeout(PATIENCE, self.output.read_line(&mut line)).await??;
        match line.trim() == MARKED {
            true => Ok(()),
            false => Err("the server did not confirm a mark".into()),
        }
    }

    /// Ends the server; returns what it and its tool wrote to standard error.
    pub async fn stop(mut self) -> Result<String, BoxError> {
        if self.is_signalled {
            let pid = self.pid()?;
            // strace does not pass a signal on.
            kill(proc::only_child(pid)?.unwrap_or(pid), Signal::SIGTERM)?;
        }
        drop(self.input);
        let status = timeout(PATIENCE, self.process.wait()).await??;
        let errors = timeout(PATIENCE, self.errors).await??;
        match status.success() {
            true => Ok(errors),
            false => Err(format!("the server ended with {status}: {errors}").into()),
        }
    }
}

/// The first word that is an address.
fn address(line: &str) -> Option<SocketAddr> {
    line.split_whitespace().find_map(|word| word.parse().ok())
}

/// Timeout of starting and of ending a server.
const PATIENCE: Duration = Duration::from_secs(30);

/// Long for a server without work.
const REST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_alone_and_in_a_message() {
        let expected = Some("127.0.0.1:4242".parse().unwrap());
        assert_eq!(address("127.0.0.1:4242\n"), expected);
        let message = "2026-11-30T03:00:00Z  INFO listening on 127.0.0.1:4242 listener=\"a\"\n";
        assert_eq!(address(message), expected);
        assert_eq!(address("2026-11-30T03:00:00Z  INFO 1 server\n"), None);
    }
}
