//! A server in a child process, alone or under a tool.

use crate::{BoxError, server::MARKED};
use nix::unistd::Pid;
use std::{env, ffi::OsString, net::SocketAddr, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{ChildStdin, ChildStdout, Command},
    spawn,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// How this program is started in the role of a server.
#[derive(Clone, Debug, Default)]
pub struct Role {
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
}

impl Child {
    /// Starts this program as a server; `tool` is the command in front of it, empty for none.
    pub async fn start(tool: &[String], role: &Role) -> Result<Self, BoxError> {
        let server = env::current_exe()?;
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
        timeout(PATIENCE, output.read_line(&mut line)).await??;
        let Ok(address) = line.trim().parse() else {
            let _ = process.start_kill();
            return Err(format!(
                "the server did not start: {}",
                timeout(PATIENCE, errors).await??
            )
            .into());
        };
        Ok(Self {
            process,
            input,
            output,
            errors,
            address,
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
        drop(self.input);
        let status = timeout(PATIENCE, self.process.wait()).await??;
        let errors = timeout(PATIENCE, self.errors).await??;
        match status.success() {
            true => Ok(errors),
            false => Err(format!("the server ended with {status}: {errors}").into()),
        }
    }
}

/// Timeout of starting and of ending a server.
const PATIENCE: Duration = Duration::from_secs(30);

/// Long for a server without work.
const REST: Duration = Duration::from_millis(100);
