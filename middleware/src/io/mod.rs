//! I/O wrappers that several layers use.

mod box_io;
mod either;
mod forward;
mod passthrough;
mod pipe;
mod prefixed;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod splice_tests;
#[cfg(test)]
mod tests;

pub use self::{
    box_io::BoxIo, either::EitherIo, passthrough::Passthrough, pipe::Pipe, prefixed::PrefixedIo,
};
pub(crate) use self::{forward::forward_io, passthrough::forward_passthrough};
