//! Looks at the first bytes of a connection without consuming them.

mod client_hello;
mod ja4;
mod sha256;

pub use self::client_hello::{ClientHello, ClientHelloError, ClientHelloParser};
