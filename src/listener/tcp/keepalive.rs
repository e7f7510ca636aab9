//! TCP keepalive settings.

use socket2::TcpKeepalive;
use std::time::Duration;

/// Probes with which the kernel notices a vanished peer (RFC 9293, 3.8.4).
///
/// By default the kernel probes after 60 s of silence, then every 15 s, and gives up after 4 unanswered
/// probes. It notices a dead peer within two minutes, and the next read or write fails. The probes also keep
/// entries in NAT tables alive. A silent peer that answers probes counts as alive; use an idle timeout to
/// limit it.
///
/// The kernel does not probe while sent data is unacknowledged. On Linux and Android that time has the same
/// limit by default; see [`TcpOptions::with_user_timeout`](super::TcpOptions::with_user_timeout).
///
/// Times are whole seconds; fractions are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    time: Duration,
    interval: Duration,
    retries: u32,
}

impl Keepalive {
    /// The default probes: 60 s, 15 s, 4.
    pub const fn new() -> Self {
        Self {
            time: Duration::from_secs(60),
            interval: Duration::from_secs(15),
            retries: 4,
        }
    }

    /// Sends the first probe after `time` without traffic.
    pub const fn with_time(self, time: Duration) -> Self {
        Self { time, ..self }
    }

    /// Waits `interval` between two probes. OpenBSD, Solaris and Haiku use one interval for all sockets.
    pub const fn with_interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Gives up after `retries` unanswered probes. Systems with a fixed interval also fix this number.
    pub const fn with_retries(self, retries: u32) -> Self {
        Self { retries, ..self }
    }

    /// See [`with_time`](Self::with_time).
    pub const fn time(&self) -> Duration {
        self.time
    }

    /// See [`with_interval`](Self::with_interval).
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// See [`with_retries`](Self::with_retries).
    pub const fn retries(&self) -> u32 {
        self.retries
    }

    /// Returns the time until keepalive gives up: `time`, and one interval for each probe.
    pub(super) const fn patience(self) -> Duration {
        let probing = self.interval.as_secs().saturating_mul(self.retries as u64);
        Duration::from_secs(self.time.as_secs().saturating_add(probing))
    }

    pub(crate) const fn to_socket2(self) -> TcpKeepalive {
        let keepalive = self.without_retries();
        #[cfg(not(any(target_os = "haiku", target_os = "openbsd", target_os = "solaris")))]
        let keepalive = keepalive.with_retries(self.retries);
        keepalive
    }

    /// For a socket with a user timeout, which takes one system call less.
    ///
    /// Linux then gives up by the timeout and ignores the number of probes (tcp(7), `TCP_USER_TIMEOUT`).
    pub(crate) const fn with_user_timeout(self) -> TcpKeepalive {
        if cfg!(any(target_os = "android", target_os = "linux")) {
            self.without_retries()
        } else {
            self.to_socket2()
        }
    }

    const fn without_retries(self) -> TcpKeepalive {
        let keepalive = TcpKeepalive::new().with_time(self.time);
        #[cfg(not(any(target_os = "haiku", target_os = "openbsd", target_os = "solaris")))]
        let keepalive = keepalive.with_interval(self.interval);
        keepalive
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self::new()
    }
}
