//! The kernel's buffers of a connection.

use std::io;

/// Their sizes in bytes. The system adapts those without one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) recv: Option<usize>,
    pub(crate) send: Option<usize>,
}

impl Buffers {
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            recv: self.recv.or(other.recv),
            send: self.send.or(other.send),
        }
    }

    /// Before the socket connects, because the handshake advertises the size.
    pub(super) fn set_on(self, socket: &socket2::Socket) -> io::Result<()> {
        if let Some(bytes) = self.recv {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.send {
            socket.set_send_buffer_size(bytes)?;
        }
        Ok(())
    }
}
