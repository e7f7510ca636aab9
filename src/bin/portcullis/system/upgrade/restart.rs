//! SIGUSR2: this process starts the program again, which then takes over.

use std::{
    env, io,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

/// The path of the program. It is looked up at start, because the kernel forgets the path of a replaced file.
#[derive(Debug)]
pub(crate) struct Restart(io::Result<PathBuf>);

/// Variables by which systemd means this process alone.
const OWN: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_PID"];

impl Restart {
    pub(crate) fn new() -> Self {
        Self(env::current_exe())
    }

    /// Starts the program with the same arguments.
    pub(crate) fn start(&self) -> io::Result<u32> {
        let path = match &self.0 {
            Ok(path) => path,
            Err(error) => return Err(io::Error::new(error.kind(), error.to_string())),
        };
        let mut command = Command::new(path);
        command.args(env::args_os().skip(1)).stdin(Stdio::null());
        for name in OWN {
            command.env_remove(name);
        }
        let mut child = command.spawn()?;
        let process = child.id();
        thread::Builder::new()
            .name("upgrade".into())
            .spawn(move || match child.wait() {
                Ok(status) => tracing::error!(process, %status, "the new process has ended"),
                Err(error) => tracing::error!(process, %error, "the new process is lost"),
            })?;
        Ok(process)
    }
}
