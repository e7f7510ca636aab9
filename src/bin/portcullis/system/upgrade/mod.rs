//! An upgrade of the program, in which no connection is lost.
//!
//! The old process listens on a Unix socket (`process.upgrade-socket`). A new process connects to it when it has
//! read its configuration:
//!
//! | old process | | new process |
//! |---|---|---|
//! | checks the user of the peer | ← | `Hello`, with the version of the protocol |
//! | one `Socket` for each listening socket, and one `Activated` for each socket of systemd, with its file descriptor; one `Changed` for each change that operators made at run time; then `All` | → | checks the user of the peer; binds the sockets that it lacks, repeats the changes, and serves |
//! | stops accepting on these sockets and leaves their queues alone | ← | `Took` for each listener whose sockets it serves; then `Ready` |
//! | `HandedOver`; then it drains | → | listens for the next upgrade |
//!
//! Both accept connections for a moment. Whatever fails before `Ready` leaves the old process as it was; `Refused` tells
//! the other process why, if it still reads. The files of Unix sockets belong to the old process until `HandedOver`, or
//! until it is gone; a new process that is refused or was stopped gives the sockets back and drains. A process that drains
//! already hands over what it still accepts on.

mod channel;
mod message;
mod new;
mod old;
mod restart;
mod succession;

pub(crate) use self::{
    old::{Offer, Request},
    restart::Restart,
    succession::{Finished, Succession},
};

use message::Malformed;
use std::{fmt, io, time::Duration};

/// For each message of the other process. It may have many certificates to read before it is ready.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why an upgrade failed.
#[derive(Debug)]
pub(crate) enum UpgradeError {
    Io(io::Error),
    Malformed(Malformed),
    /// The other process did not answer in time.
    TimedOut,
    /// The other process runs as another user.
    Foreign(u32),
    /// The other process rejected the request, and says why.
    Refused(String),
    /// This process was stopped before it was ready.
    Stopped,
}

impl UpgradeError {
    /// Whether the other process has hung up before it has read everything. What it has sent follows.
    fn is_reset(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::ConnectionReset)
    }

    /// Whether the other process is gone, or has hung up without a reason.
    fn is_disconnect(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        let kinds = [BrokenPipe, ConnectionReset, UnexpectedEof];
        matches!(self, Self::Io(error) if kinds.contains(&error.kind()))
    }
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Malformed(error) => error.fmt(f),
            Self::TimedOut => write!(f, "the other process did not answer within {PATIENCE:?}"),
            Self::Foreign(user) => write!(f, "the other process runs as user {user}"),
            Self::Refused(why) => write!(f, "the other process refused: {}", why.escape_debug()),
            Self::Stopped => f.write_str("it was stopped"),
        }
    }
}

impl std::error::Error for UpgradeError {}

impl From<io::Error> for UpgradeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Malformed> for UpgradeError {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

/// Fails unless `user`, that of the other process, is root or the user of this process.
///
/// The mode of the socket's file says the same, where the system regards it.
fn check_user(user: u32) -> Result<(), UpgradeError> {
    let own = rustix::process::geteuid().as_raw();
    if user == own || user == 0 {
        Ok(())
    } else {
        Err(UpgradeError::Foreign(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_user_is_rejected_and_root_is_not() {
        let own = rustix::process::geteuid().as_raw();
        assert!(check_user(own).is_ok());
        assert!(check_user(0).is_ok());
        let foreign = check_user(own + 1).expect_err("another user");
        assert!(foreign.to_string().contains(&(own + 1).to_string()));
    }
}
