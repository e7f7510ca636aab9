//! I/O wrappers that several layers use.

mod box_io;
mod either;
mod forward;
mod prefixed;
#[cfg(test)]
mod tests;
mod unbuffered;

pub use self::{box_io::BoxIo, either::EitherIo, prefixed::PrefixedIo, unbuffered::unbuffered};
pub(crate) use self::{forward::forward_io, unbuffered::PIPELINED};
