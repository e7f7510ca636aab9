//! Tests of the forwarder.

mod bytes;
mod endings;
mod support;
