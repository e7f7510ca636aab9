//! I/O wrappers that several layers use.

mod box_io;
mod either;
mod forward;
mod prefixed;
#[cfg(test)]
mod tests;

pub(crate) use self::forward::forward_io;
pub use self::{box_io::BoxIo, either::EitherIo, prefixed::PrefixedIo};
