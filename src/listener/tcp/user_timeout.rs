//! `TCP_USER_TIMEOUT`: how long TCP waits for an acknowledgement.

use super::Keepalive;
use socket2::Socket;
use std::{io, time::Duration};

/// How long sent data may stay unacknowledged before the connection fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UserTimeout {
    /// As long as keepalive takes to give up, if it is on.
    ///
    /// Keepalive does not probe while data is unacknowledged, so only retransmissions would notice a peer
    /// that vanishes then. gRPC proposal A18 derives it in the same way.
    AsKeepalive,
    /// As given; `None` leaves it to the system.
    Given(Option<Duration>),
}

impl UserTimeout {
    /// Sets it on `socket`, on systems that have the option.
    pub(crate) fn set_on(self, socket: &Socket, keepalive: Option<Keepalive>) -> io::Result<()> {
        match self.with(keepalive) {
            Some(timeout) => set(socket, timeout),
            None => Ok(()),
        }
    }

    /// Returns the timeout for `keepalive`; `None` leaves it to the system.
    pub(crate) fn with(self, keepalive: Option<Keepalive>) -> Option<Duration> {
        let timeout = match self {
            Self::AsKeepalive => keepalive.map(Keepalive::patience),
            Self::Given(timeout) => timeout.map(whole_millis),
        };
        // For the system, zero means off.
        let timeout = timeout.filter(|timeout| !timeout.is_zero());
        timeout.map(|timeout| timeout.min(LONGEST))
    }
}

/// Rounds up to milliseconds, because zero would turn the option off.
fn whole_millis(timeout: Duration) -> Duration {
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(any(target_os = "android", target_os = "linux"))]
fn set(socket: &Socket, timeout: Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(timeout))
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
fn set(_: &Socket, _: Duration) -> io::Result<()> {
    Ok(())
}

/// The kernel stores the milliseconds as a signed 32-bit number.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);
