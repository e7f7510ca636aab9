//! A stream with its type erased.

use super::{Passthrough, forward_io};
use std::{fmt, pin::Pin};
use tokio::io::{AsyncRead, AsyncWrite};

/// A stream of any type in a box.
///
/// It takes one allocation per connection and one virtual call per operation. It shortens types and compile
/// times of deep stacks. See [`Connection::box_io`](crate::Connection::box_io).
pub struct BoxIo(Pin<Box<dyn Io>>);

trait Io: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

impl BoxIo {
    /// Puts `io` in a box.
    pub fn new(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        Self(Box::pin(io))
    }
}

impl fmt::Debug for BoxIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxIo").finish_non_exhaustive()
    }
}

forward_io!([] BoxIo, io => [Self(io)]);

/// Bytes are copied, as any stream fits into the box.
impl Passthrough for BoxIo {}
