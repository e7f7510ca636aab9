//! What decides about the plain text before TLS.

use std::borrow::Cow;

/// The plain text of a protocol before its TLS begins, as the server speaks it. It performs no I/O.
///
/// [`PreludeLayer`](super::PreludeLayer) clones it for each connection, so it may keep state between calls. It limits
/// bytes, replies and time, and rejects bytes behind the request for TLS.
pub trait Prelude: Clone {
    /// What the server sends first; nothing by default.
    fn greeting(&self) -> Cow<'static, [u8]> {
        Cow::Borrowed(b"")
    }

    /// Continues with `bytes`, at least one, that were received and not taken yet.
    fn advance(&mut self, bytes: &[u8]) -> PreludeStep;
}

/// The decision of a [`Prelude`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PreludeStep {
    /// The bytes do not suffice.
    Need,
    /// Takes `taken` bytes, at least one, and sends `reply`.
    Reply {
        /// Number of bytes of the request.
        taken: usize,
        /// The bytes to send.
        reply: Cow<'static, [u8]>,
    },
    /// Takes `taken` bytes and sends `reply`, after which TLS begins.
    StartTls {
        /// Number of bytes of the request.
        taken: usize,
        /// The bytes to send.
        reply: Cow<'static, [u8]>,
    },
    /// The client has begun TLS without a request. The bytes belong to TLS.
    Tls,
    /// Sends `reply` and closes the connection.
    Refuse {
        /// The bytes to send.
        reply: Cow<'static, [u8]>,
        /// The reason of the [`Refused`](crate::error::Refused).
        reason: &'static str,
    },
}

impl PreludeStep {
    pub(super) fn reply(taken: usize, reply: impl Into<Cow<'static, [u8]>>) -> Self {
        let reply = reply.into();
        Self::Reply { taken, reply }
    }

    pub(super) fn start_tls(taken: usize, reply: impl Into<Cow<'static, [u8]>>) -> Self {
        let reply = reply.into();
        Self::StartTls { taken, reply }
    }

    pub(super) fn refuse(reply: impl Into<Cow<'static, [u8]>>, reason: &'static str) -> Self {
        let reply = reply.into();
        Self::Refuse { reply, reason }
    }
}

/// The client ended the session before it requested TLS.
pub(super) const QUIT: &str = "the client quit before TLS";
