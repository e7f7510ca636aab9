//! I/O wrappers that several layers use.

mod box_io;
mod either;
mod forward;
mod passthrough;
mod pipe;
mod prefixed;
mod sent;
#[cfg(test)]
#[cfg(target_os = "linux")]
pub(crate) mod splice_tests;
#[cfg(test)]
mod tests;
mod unbuffered;

pub use self::{
    box_io::BoxIo, either::EitherIo, passthrough::Passthrough, pipe::Pipe, prefixed::PrefixedIo,
    unbuffered::unbuffered,
};
pub(crate) use self::{
    forward::forward_io, passthrough::forward_passthrough, unbuffered::PIPELINED,
};
