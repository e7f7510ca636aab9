//! SIGUSR2: this process starts the program again, which then takes over.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

/// The path of the program, as it was started.
///
/// It is looked up at start, because the kernel forgets the path of a replaced file. Links stay in it, because they
/// may lead to a newer version later.
#[derive(Debug)]
pub(crate) struct Restart(io::Result<PathBuf>);

/// Variables by which systemd means this process alone.
const OWN: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_PID"];

impl Restart {
    pub(crate) fn new() -> Self {
        Self(env::current_exe().map(|own| called().filter(|path| is(path, &own)).unwrap_or(own)))
    }

    /// Starts the program with the same arguments. If it ends before it `has_taken_over`, that is logged.
    pub(crate) fn start(
        &self,
        has_taken_over: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<u32> {
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
        let thread = thread::Builder::new().name("upgrade".into());
        let waits = thread.spawn(move || match child.wait() {
            Ok(status) if has_taken_over() => {
                tracing::error!(process, %status, "the new process has ended");
            }
            Ok(status) => tracing::error!(
                process,
                %status,
                "the new process has ended, so the upgrade failed; this process goes on"
            ),
            Err(error) => tracing::error!(process, %error, "the new process is lost"),
        });
        if let Err(error) = waits {
            tracing::warn!(process, %error, "no thread waits for the new process");
        }
        Ok(process)
    }
}

/// The absolute path by which this program was called, directly or through `PATH`.
fn called() -> Option<PathBuf> {
    let name = PathBuf::from(env::args_os().next()?);
    if name.components().count() > 1 {
        return std::path::absolute(name).ok();
    }
    let folders = env::var_os("PATH")?;
    let mut paths = env::split_paths(&folders).map(|folder| folder.join(&name));
    paths.find(|path| path.is_file())
}

/// Whether `path` leads to the file `own`. The first argument is whatever the caller has passed.
fn is(path: &Path, own: &Path) -> bool {
    path.is_absolute() && path.canonicalize().is_ok_and(|path| path == own)
}
