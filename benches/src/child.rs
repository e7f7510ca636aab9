//! A server in a process of its own, bare or under a tool.

use super::{
    Variant,
    load::Server,
    serve::{Handler, ROLE},
};
use portcullis::BoxError;
use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// A running server. It ends when this is dropped: its input ends then, and it is killed.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// The server runs as long as this is open.
    input: ChildStdin,
    _output: BufReader<ChildStdout>,
    address: SocketAddr,
    variant: Variant,
}

impl Running {
    /// Starts a server; `tool` is the command before it, none for a bare process.
    pub(crate) async fn start<H: Handler>(
        tool: &[String],
        variant: Variant,
        _: H,
    ) -> Result<Self, BoxError> {
        let server = env::current_exe()?
            .to_str()
            .ok_or("no plain path")?
            .to_owned();
        let role = [ROLE, variant.name(), H::NAME].map(str::to_owned);
        let mut line = tool.iter().chain([&server]).chain(&role);
        let program = line.next().ok_or("no program")?;
        let mut child = Command::new(program)
            .args(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let input = child.stdin.take().ok_or("no input")?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut port = String::new();
        timeout(PATIENCE, output.read_line(&mut port)).await??;
        let Ok(port) = port.trim().parse() else {
            return Err(format!("{variant} did not start: {}", errors(&mut child).await).into());
        };
        Ok(Self {
            child,
            input,
            _output: output,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            variant,
        })
    }

    /// What a client connects to.
    pub(crate) const fn peer(&self) -> Server {
        Server {
            address: self.address,
            variant: self.variant,
        }
    }

    /// Number of the process, of the tool's where there is one.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends the server; returns what it and its tool wrote to standard error.
    pub(crate) async fn stop(self) -> Result<String, BoxError> {
        let Self {
            mut child, input, ..
        } = self;
        drop(input);
        let said = errors(&mut child).await;
        let status = timeout(PATIENCE, child.wait()).await??;
        if status.success() {
            Ok(said)
        } else {
            Err(format!("the server ended with {status}: {said}").into())
        }
    }
}

async fn errors(child: &mut Child) -> String {
    let mut said = String::new();
    if let Some(mut errors) = child.stderr.take() {
        // What is missing then is missed where it is read.
        let _ = timeout(PATIENCE, errors.read_to_string(&mut said)).await;
    }
    said
}

/// How long a server may take to start and to end.
const PATIENCE: Duration = Duration::from_secs(30);
