//! Waits until the system has sent what was written to a socket.

use crate::connection::KernelSocket;
use std::{
    io,
    task::{Context, Poll},
};

impl KernelSocket<'_> {
    /// See [`Passthrough::poll_sent`](super::Passthrough::poll_sent).
    ///
    /// With `TCP_NOTSENT_LOWAT` of one byte (`tcp(7)`), a socket is writable only while nothing is unsent.
    #[cfg(any(target_os = "android", target_os = "linux"))]
    pub(crate) fn poll_sent(self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        use std::task::ready;
        use tokio::io::Interest;

        let Self::Tcp(socket) = self else {
            // The bytes already are in the receive buffer of the peer.
            return Poll::Ready(Ok(()));
        };
        if socket2::SockRef::from(socket)
            .set_tcp_notsent_lowat(1)
            .is_err()
        {
            // Multipath TCP has it only in newer kernels.
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(socket.poll_write_ready(cx))?;
            match socket.try_io(Interest::WRITABLE, || is_writable(socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Only Linux has a way to wait without a timer.
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    pub(crate) fn poll_sent(self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Also if the peer is gone. An operation then returns the error.
#[cfg(any(target_os = "android", target_os = "linux"))]
fn is_writable(socket: &tokio::net::TcpStream) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let immediately = Timespec::default();
    let mut sockets = [PollFd::new(socket, PollFlags::OUT)];
    match poll(&mut sockets, Some(&immediately))? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}
