//! Messages to systemd: `sd_notify(3)`, for units of `Type=notify-reload`.

use crate::running::Remaining;
use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    io,
    os::unix::net::{SocketAddr, UnixDatagram},
    process,
    sync::Arc,
    time::Duration,
};
use tokio::task::AbortHandle;

/// Reports the state of the process to systemd. Without systemd it does nothing.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    socket: Option<Arc<UnixDatagram>>,
    watchdog: Option<AbortHandle>,
}

impl Notifier {
    /// Uses the socket in `NOTIFY_SOCKET`.
    pub(crate) fn from_env() -> Self {
        let Some(address) = env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty())
        else {
            return Self::default();
        };
        match connect(&address) {
            Ok(socket) => Self {
                socket: Some(socket.into()),
                watchdog: None,
            },
            Err(error) => {
                tracing::warn!(%error, "systemd cannot be notified at NOTIFY_SOCKET");
                Self::default()
            }
        }
    }

    /// It serves, after its start or a reload.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// It reads its configuration again; [`ready`](Self::ready) follows, whatever becomes of it.
    pub(crate) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// It shuts down gracefully. To be repeated within its patience.
    pub(crate) fn stopping(&self, remaining: &Remaining) {
        let mut message = format!("STOPPING=1\nSTATUS=draining: {remaining}");
        if let Some(patience) = remaining.patience() {
            let _ = write!(message, "\nEXTEND_TIMEOUT_USEC={}", patience.as_micros());
        }
        self.send(&message);
    }

    /// Another process takes this one's place, which reports nothing any more.
    ///
    /// This process says so, because systemd accepts messages from the main process alone by default.
    pub(crate) fn replaced_by(self, process: i32) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.abort();
        }
        self.send(&format!("MAINPID={process}"));
    }

    /// Shows from now on that the runtime works, if systemd wants to know.
    pub(crate) fn start_watchdog(&mut self) {
        let limit = watchdog_limit(|name| env::var(name).ok());
        let Some((socket, limit)) = self.socket.clone().zip(limit) else {
            return;
        };
        let watchdog = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(limit / 2);
            loop {
                ticks.tick().await;
                send(&socket, "WATCHDOG=1");
            }
        });
        self.watchdog = Some(watchdog.abort_handle());
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket {
            send(socket, message);
        }
    }
}

fn send(socket: &UnixDatagram, message: &str) {
    if let Err(error) = socket.send(message.as_bytes()) {
        tracing::debug!(%error, "systemd was not notified");
    }
}

fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // A receiver that does not read must not stall this process.
    socket.set_nonblocking(true)?;
    socket.connect_addr(&socket_address(address)?)?;
    Ok(socket)
}

fn socket_address(address: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    {
        use std::os::{linux::net::SocketAddrExt, unix::ffi::OsStrExt};
        if let Some(name) = address.as_bytes().strip_prefix(b"@") {
            return SocketAddr::from_abstract_name(name);
        }
    }
    SocketAddr::from_pathname(address)
}

/// How long systemd waits between signs of life. `None` if it wants none of this process.
fn watchdog_limit(variable: impl Fn(&str) -> Option<String>) -> Option<Duration> {
    let micros: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
    let is_meant = match variable("WATCHDOG_PID") {
        Some(process) => process.parse() == Ok(process::id()),
        None => true,
    };
    (is_meant && micros > 1).then(|| Duration::from_micros(micros))
}

/// A line of a message begins another field.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_of_another_process_is_not_served() {
        let limit = |micros: Option<&str>, process: Option<String>| {
            watchdog_limit(|name| match name {
                "WATCHDOG_USEC" => micros.map(Into::into),
                _ => process.clone(),
            })
        };
        let own = process::id();
        let second = Some(Duration::from_secs(1));
        assert_eq!(limit(Some("1000000"), None), second);
        assert_eq!(limit(Some("1000000"), Some(own.to_string())), second);
        assert_eq!(limit(Some("1000000"), Some((own + 1).to_string())), None);
        assert_eq!(limit(Some("1000000"), Some("x".into())), None);
        for micros in [None, Some("0"), Some("-1"), Some("x")] {
            assert_eq!(limit(micros, None), None, "{micros:?}");
        }
    }

    #[test]
    fn a_status_has_one_line() {
        assert_eq!(one_line("a\nREADY=1"), "a READY=1");
    }
}
