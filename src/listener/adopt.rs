//! Adopts a listening socket that was inherited or set up by other code.

use super::bind_error::{FailedStep, NotListening, OrFail};
use socket2::Socket;
use std::io;

/// Checks that `socket` listens, sets close-on-exec and makes it non-blocking.
///
/// A supervisor passes a socket across `exec`, so close-on-exec is off. Without it, each child process would
/// inherit the socket and keep the port in use after the server has stopped. `sd_listen_fds(3)` sets it for
/// the same reason.
pub(super) fn take_over(socket: &Socket) -> Result<(), FailedStep> {
    if !is_listening(socket).or_fail("adopt")? {
        let error = io::Error::new(io::ErrorKind::InvalidInput, NotListening);
        return Err(error).or_fail("adopt");
    }
    keep_from_children(socket).or_fail("close_on_exec")?;
    socket.set_nonblocking(true).or_fail("nonblocking")
}

/// Reads `SO_ACCEPTCONN`; true on systems without it, where accept fails instead.
fn is_listening(socket: &Socket) -> io::Result<bool> {
    #[cfg(all(unix, not(target_vendor = "apple")))]
    return Ok(rustix::net::sockopt::socket_acceptconn(socket)?);
    #[cfg(not(all(unix, not(target_vendor = "apple"))))]
    {
        let _ = socket;
        Ok(true)
    }
}

fn keep_from_children(socket: &Socket) -> io::Result<()> {
    #[cfg(unix)]
    return socket.set_cloexec(true);
    #[cfg(windows)]
    return socket.set_no_inherit(true);
    #[cfg(not(any(unix, windows)))]
    {
        let _ = socket;
        Ok(())
    }
}

pub(super) const ADVICE: &str = "call listen(2) on it before passing it on";
