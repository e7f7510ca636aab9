//! A server under a tool.

use super::MARKED;
use crate::{
    BoxError,
    process::SERVE,
    server::{Entry, WORKERS_VARIABLE},
};
use nix::unistd::Pid;
use std::{
    env,
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::sleep,
};

/// A server with one worker that a tool watches. When this is dropped the tool is killed, and the
/// server ends with its input.
#[derive(Debug)]
pub(super) struct Counted {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    log: PathBuf,
    pub(super) address: SocketAddr,
}

impl Counted {
    pub(super) async fn start(
        tool: &[String],
        entry: &Entry,
        folder: &Path,
    ) -> Result<Self, BoxError> {
        let (program, arguments) = tool.split_first().ok_or("no tool")?;
        let log = folder.join(format!("{}.log", entry.name));
        let mut child = Command::new(program)
            .args(arguments)
            .arg(env::current_exe()?)
            .args([SERVE, entry.name, "0", "-"])
            .arg(folder)
            .env(WORKERS_VARIABLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut line = String::new();
        output.read_line(&mut line).await?;
        let Ok(address) = line.trim().parse() else {
            return Err(failure(program, &log));
        };
        Ok(Self {
            child,
            input,
            output,
            log,
            address,
        })
    }

    /// Of the tool, which valgrind shares with the server.
    pub(super) fn pid(&self) -> Result<Pid, BoxError> {
        let pid = self.child.id().ok_or("it has ended")?;
        Ok(Pid::from_raw(i32::try_from(pid)?))
    }

    /// Ends what is counted so far.
    pub(super) async fn mark(&mut self) -> Result<(), BoxError> {
        // The client has its last answer; the server may still be on its way back to sleep.
        sleep(REST).await;
        self.input.write_all(b"\n").await?;
        let mut line = String::new();
        self.output.read_line(&mut line).await?;
        match line.trim() == MARKED {
            true => Ok(()),
            false => Err(failure("the server", &self.log)),
        }
    }

    pub(super) async fn stop(mut self) -> Result<(), BoxError> {
        drop(self.input);
        match self.child.wait().await?.success() {
            true => Ok(()),
            false => Err(failure("the server", &self.log)),
        }
    }
}

/// With the last words.
fn failure(who: &str, log: &Path) -> BoxError {
    let said = fs::read_to_string(log).unwrap_or_default();
    // valgrind ends with its sums; what went wrong stands before.
    let said = said
        .lines()
        .rfind(|line| !line.starts_with("==") && !line.is_empty());
    let said = said.unwrap_or("see whether it runs under the tool by hand");
    format!("{who} failed: {said}").into()
}

/// Long for a server that has nothing to do.
const REST: Duration = Duration::from_millis(100);
