//! Addresses of connections.

use std::{fmt, net::SocketAddr, path::Path, sync::Arc};

/// Address of one end of a connection.
///
/// A missing address is [`Unknown`](Self::Unknown) and not an error. For example, a connection that was reset
/// before it was accepted has lost its peer address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address with its port.
    Ip(SocketAddr),
    /// A Unix domain socket.
    Unix(UnixAddress),
    /// Unknown, or a transport without addresses (memory, pipes).
    #[default]
    Unknown,
}

impl Address {
    /// The IP address and port, if it has them.
    pub const fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix(_) | Self::Unknown => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

#[cfg(unix)]
impl From<tokio::net::unix::SocketAddr> for Address {
    fn from(address: tokio::net::unix::SocketAddr) -> Self {
        Self::Unix(UnixAddress(address.as_pathname().map(Arc::from)))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(address) => address.fmt(f),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Address of a Unix domain socket, its path if it has one.
///
/// The connecting side of a Unix socket is usually unnamed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UnixAddress(Option<Arc<Path>>);

impl UnixAddress {
    /// The address of a socket bound to `path`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self(Some(path.as_ref().into()))
    }

    /// The path that the socket is bound to; `None` for an unnamed or abstract one.
    pub fn as_pathname(&self) -> Option<&Path> {
        self.0.as_deref()
    }
}

impl fmt::Display for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_pathname() {
            // `escape_debug`, because a path may contain anything and a log line must remain one line.
            Some(path) => write!(f, "unix:{}", path.to_string_lossy().escape_debug()),
            None => f.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_ip_address_has_an_ip() {
        let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
        assert_eq!(Address::from(address).ip(), Some(address));
        assert_eq!(Address::Unix(UnixAddress::new("/run/x")).ip(), None);
        assert_eq!(Address::Unknown.ip(), None);
    }

    #[test]
    fn addresses_print_on_one_line() {
        let path = Address::Unix(UnixAddress::new("/run/a\nb"));
        assert_eq!(path.to_string(), "unix:/run/a\\nb");
        assert_eq!(Address::Unix(UnixAddress::default()).to_string(), "unix");
        assert_eq!(Address::default().to_string(), "unknown");
    }
}
