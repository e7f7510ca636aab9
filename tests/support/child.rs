//! Processes that a test starts: the test binary itself in another role, or an example.

use std::{
    env, io,
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader, Lines},
    process::{self, ChildStdout, Command},
    sync::mpsc,
    time::timeout,
};

/// A process that is killed and reaped when the test does not see it to its end.
pub struct Child {
    process: process::Child,
    stdout: Lines<BufReader<ChildStdout>>,
    errors: mpsc::UnboundedReceiver<String>,
}

impl Child {
    /// Starts this test binary again to run its ignored test `test`, under a shell that first
    /// executes `prelude` (`ulimit`, say). [`role`] tells it its `role`.
    pub fn in_role(test: &str, role: &str, prelude: &str) -> io::Result<Self> {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("{prelude}\nexec \"$0\" \"$@\""))
            .arg(env::current_exe()?)
            .args(["--ignored", "--exact", test, "--nocapture"])
            .env(ROLE, role);
        Self::start(command)
    }

    /// Starts `command` with its output in the hands of the test.
    pub fn start(mut command: Command) -> io::Result<Self> {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = lines(process.stdout.take().unwrap());
        let mut stderr = lines(process.stderr.take().unwrap());
        let (send, errors) = mpsc::unbounded_channel();
        // Read all the time, so that the child never waits for somebody to read its log.
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                let _ = send.send(line);
            }
        });
        Ok(Self {
            process,
            stdout,
            errors,
        })
    }

    pub fn id(&self) -> u32 {
        self.process.id().expect("it has not been waited for")
    }

    /// The next line of its standard output.
    pub async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.stdout.next_line()).await;
        match line.expect("the child says nothing").unwrap() {
            Some(line) => line,
            None => panic!("the child ended: {:#?}", self.log()),
        }
    }

    /// Waits for the line that tells the address it listens on.
    pub async fn address(&mut self) -> SocketAddr {
        loop {
            if let Some(address) = address_in(&self.line().await) {
                return address;
            }
        }
    }

    /// Waits for a line that contains `text`.
    pub async fn says(&mut self, text: &str) -> String {
        loop {
            let line = self.line().await;
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The next line of its standard error.
    pub async fn log_line(&mut self) -> String {
        self.errors.recv().await.expect("the child ended")
    }

    /// What it wrote to its standard error since the last call.
    pub fn log(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.errors.try_recv().ok()).collect()
    }

    /// Waits until the process has a handler for SIGTERM; elsewhere than on Linux it cannot be asked.
    pub async fn handles_sigterm(&self) {
        let status = format!("/proc/{}/status", self.id());
        let handles = || {
            let status = std::fs::read_to_string(&status).ok()?;
            let caught = status
                .lines()
                .find_map(|line| line.strip_prefix("SigCgt:"))?;
            let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
            Some(caught & (1 << 14) != 0)
        };
        super::eventually("SIGTERM is handled", || {
            handles().unwrap_or(!cfg!(target_os = "linux"))
        })
        .await;
    }

    /// Sends it the signal called `name`, such as `TERM`.
    pub async fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let kill = Command::new("kill").args(["-s", name, &id]).status();
        assert!(kill.await.unwrap().success(), "the child is gone");
    }

    /// Waits, `limit` at most, until it has ended.
    pub async fn ended_within(&mut self, limit: Duration) -> ExitStatus {
        match timeout(limit, self.process.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("not over within {limit:?}: {:#?}", self.log()),
        }
    }

    /// Kills and reaps it.
    pub async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }
}

/// The role that this process was started for; `None` in the process of the tests.
pub fn role() -> Option<String> {
    env::var(ROLE).ok()
}

/// The first address of loopback in `text`.
pub fn address_in(text: &str) -> Option<SocketAddr> {
    let begin = text.find("127.0.0.1:")?;
    let address = text[begin..].split(|c: char| !c.is_ascii_digit() && !".:".contains(c));
    address.into_iter().next()?.parse().ok()
}

fn lines<R: AsyncRead + Unpin>(reader: R) -> Lines<BufReader<R>> {
    BufReader::new(reader).lines()
}

const ROLE: &str = "PORTCULLIS_TEST_ROLE";

/// For what takes no time, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(30);
