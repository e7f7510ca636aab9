//! I/O wrappers that several layers use.

mod box_io;
mod prefixed;
#[cfg(test)]
mod tests;

pub use self::{box_io::BoxIo, prefixed::PrefixedIo};
