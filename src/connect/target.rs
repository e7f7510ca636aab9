//! The target of an outgoing connection.

use super::{ConnectError, services};
use std::{
    error, fmt, io,
    net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs},
};
use tokio::task::spawn_blocking;

/// A host and a port to connect to.
///
/// Made from `"host:port"`, `(host, port)` or a [`SocketAddr`]. The host is a name or an IP address; in a
/// single string, write an IPv6 address in brackets. The port is a number or a service name. Only the form is
/// checked here, because names are resolved for each connection.
///
/// ```
/// use portcullis::connect::{BadTarget, Target};
///
/// assert!(Target::try_from("example.org:443").is_ok());
/// assert!(Target::try_from("[::1]:https").is_ok());
/// assert!(Target::try_from(("::1", 443)).is_ok());
/// assert!(Target::try_from(("example.org", "https")).is_ok());
///
/// let error = Target::try_from("example.org:99999").unwrap_err();
/// assert_eq!(error.bad_target(), Some(BadTarget::PortOutOfRange));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Target(TargetKind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TargetKind {
    Address(SocketAddr),
    Name { host: String, port: Port },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Port {
    Number(u16),
    Service(String),
}

impl Target {
    pub(super) const fn kind(&self) -> &TargetKind {
        &self.0
    }

    /// The host, as a name or an IP address without brackets.
    pub(crate) fn host(&self) -> String {
        match &self.0 {
            TargetKind::Address(address) => address.ip().to_string(),
            TargetKind::Name { host, .. } => host.clone(),
        }
    }

    /// The host, if it is a name.
    #[cfg(feature = "dns")]
    pub(crate) fn host_name(&self) -> Option<&str> {
        match &self.0 {
            TargetKind::Name { host, .. } if !is_v6(host) && host.parse::<IpAddr>().is_err() => {
                Some(host)
            }
            _ => None,
        }
    }

    /// The port. A service name is looked up.
    pub(crate) async fn port(&self) -> Result<u16, ConnectError> {
        let service = match &self.0 {
            TargetKind::Address(address) => return Ok(address.port()),
            TargetKind::Name { port, .. } => match port {
                Port::Number(port) => return Ok(*port),
                Port::Service(service) => service.clone(),
            },
        };
        let name = service.clone();
        let found = spawn_blocking(move || services::look_up(&name)).await;
        let found = found.unwrap_or_else(|cancelled| Err(cancelled.into()));
        let found = found.map_err(|error| ConnectError::services(self, error))?;
        found.ok_or_else(|| ConnectError::unknown_service(self, &service))
    }

    /// The address, if the host is an IP address and the port a number.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            TargetKind::Address(address) => Some(*address),
            TargetKind::Name { host, port } => match port {
                Port::Number(port) => Some(SocketAddr::new(host.parse().ok()?, *port)),
                Port::Service(_) => None,
            },
        }
    }

    fn named(host: &str, port: Port) -> Result<Self, BadTarget> {
        let in_brackets = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = in_brackets.unwrap_or(host);
        if host.is_empty() {
            return Err(BadTarget::NoHost);
        }
        if host.contains('/') {
            return Err(BadTarget::Url);
        }
        if host.contains(['[', ']']) || host.contains(':') && !is_v6(host) {
            return Err(BadTarget::Brackets);
        }
        let host = host.to_owned();
        Ok(Self(TargetKind::Name { host, port }))
    }

    fn parse(text: &str) -> Result<Self, BadTarget> {
        // Also parses IPv6 addresses with a scope.
        if let Ok(address) = text.parse() {
            return Ok(Self(TargetKind::Address(address)));
        }
        let (host, port) = split(text)?;
        Self::named(host, port.parse()?)
    }
}

/// Splits `host:port`; the brackets of a host stay.
fn split(text: &str) -> Result<(&str, &str), BadTarget> {
    if text.is_empty() {
        return Err(BadTarget::NoHost);
    }
    if text.contains('/') {
        return Err(BadTarget::Url);
    }
    let (host, port) = match text.rfind(']') {
        Some(end) => text.split_at(end + 1),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    if port.is_empty() {
        return Err(BadTarget::NoPort);
    }
    let port = port.strip_prefix(':').ok_or(BadTarget::Brackets)?;
    if port.contains(':') {
        return Err(BadTarget::Brackets);
    }
    Ok((host, port))
}

/// Whether it is an IPv6 address, possibly with a scope: `fe80::1%eth0` (RFC 4007, 11).
fn is_v6(host: &str) -> bool {
    let address = host.split_once('%').map_or(host, |(address, _)| address);
    address.parse::<Ipv6Addr>().is_ok()
}

impl std::str::FromStr for Port {
    type Err = BadTarget;

    fn from_str(port: &str) -> Result<Self, BadTarget> {
        if port.is_empty() {
            return Err(BadTarget::NoPort);
        }
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Service(port.to_owned()));
        }
        let number = port.parse().map_err(|_| BadTarget::PortOutOfRange)?;
        Ok(Self::Number(number))
    }
}

/// For listening: a [`TcpListener`](crate::listener::TcpListener) can also be bound to `"localhost:http"`.
///
/// The calling thread blocks until names are resolved.
///
/// ```
/// use portcullis::{connect::Target, listener::TcpListener};
///
/// # fn main() -> Result<(), portcullis::BoxError> {
/// let listener = TcpListener::bind(Target::try_from("localhost:0")?)?;
/// # Ok(())
/// # }
/// ```
impl ToSocketAddrs for Target {
    type Iter = std::vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let (host, port) = match &self.0 {
            TargetKind::Address(address) => return Ok(vec![*address].into_iter()),
            TargetKind::Name { host, port } => (host.as_str(), port),
        };
        let port = match port {
            Port::Number(port) => *port,
            Port::Service(service) => services::look_up(service)?.ok_or_else(|| {
                let path = services::path();
                let message =
                    format!("service {service:?} is not in {path:?}; give the port as a number");
                io::Error::new(io::ErrorKind::NotFound, message)
            })?,
        };
        (host, port).to_socket_addrs()
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self(TargetKind::Address(address))
    }
}

impl From<(IpAddr, u16)> for Target {
    fn from(address: (IpAddr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl TryFrom<&str> for Target {
    type Error = ConnectError;

    fn try_from(text: &str) -> Result<Self, ConnectError> {
        Self::parse(text).map_err(|bad| ConnectError::bad_target_of(text, bad))
    }
}

impl TryFrom<String> for Target {
    type Error = ConnectError;

    fn try_from(text: String) -> Result<Self, ConnectError> {
        text.as_str().try_into()
    }
}

impl TryFrom<&String> for Target {
    type Error = ConnectError;

    fn try_from(text: &String) -> Result<Self, ConnectError> {
        text.as_str().try_into()
    }
}

impl std::str::FromStr for Target {
    type Err = ConnectError;

    fn from_str(text: &str) -> Result<Self, ConnectError> {
        text.try_into()
    }
}

impl TryFrom<(&str, u16)> for Target {
    type Error = ConnectError;

    fn try_from((host, port): (&str, u16)) -> Result<Self, ConnectError> {
        let target = Self::named(host, Port::Number(port));
        target.map_err(|bad| ConnectError::bad_target_of(format_args!("{host}:{port}"), bad))
    }
}

impl TryFrom<(String, u16)> for Target {
    type Error = ConnectError;

    fn try_from((host, port): (String, u16)) -> Result<Self, ConnectError> {
        (host.as_str(), port).try_into()
    }
}

impl TryFrom<(&str, &str)> for Target {
    type Error = ConnectError;

    fn try_from((host, port): (&str, &str)) -> Result<Self, ConnectError> {
        let target = port.parse().and_then(|port| Self::named(host, port));
        target.map_err(|bad| ConnectError::bad_target_of(format_args!("{host}:{port}"), bad))
    }
}

/// The target as it was written, in quotes.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            TargetKind::Address(address) => address.fmt(f),
            TargetKind::Name { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            TargetKind::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Service(name) => name.fmt(f),
        }
    }
}

/// The problem with an invalid [`Target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BadTarget {
    /// The host is missing.
    NoHost,
    /// The port is missing.
    NoPort,
    /// The port is a number above 65535.
    PortOutOfRange,
    /// A colon or a bracket is misplaced, as in an IPv6 address without brackets.
    Brackets,
    /// It contains a slash, like a URL or a path.
    Url,
    /// It is no name of SRV records.
    BadSrvName,
    /// SRV records are not compiled in.
    NoSrvRecords,
}

impl fmt::Display for BadTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHost => "the host is missing; write host:port",
            Self::NoPort => "the port is missing; write host:port, a number or a service name",
            Self::PortOutOfRange => "the port is out of range; the highest is 65535",
            Self::Brackets => {
                "a colon or bracket is misplaced; write an IPv6 address as in [::1]:80"
            }
            Self::Url => "it contains a slash; write host:port alone, without scheme or path",
            Self::BadSrvName => "SRV records have a name such as srv:_postgresql._tcp.internal",
            Self::NoSrvRecords => "SRV records need the feature `dns`, which is not compiled in",
        })
    }
}

impl error::Error for BadTarget {}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(host: &str, port: Port) -> Target {
        let host = host.to_owned();
        Target(TargetKind::Name { host, port })
    }

    fn service(name: &str) -> Port {
        Port::Service(name.to_owned())
    }

    #[test]
    fn a_target_names_addresses_to_listen_on_too() {
        let addresses = |text| {
            let target = Target::try_from(text).unwrap();
            target.to_socket_addrs().map(Iterator::collect::<Vec<_>>)
        };
        assert_eq!(
            addresses("127.0.0.1:80").unwrap(),
            ["127.0.0.1:80".parse().unwrap()]
        );
        assert!(
            addresses("localhost:http")
                .unwrap()
                .iter()
                .all(|a| a.port() == 80)
        );
        let error = addresses("127.0.0.1:no-such-service").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("no-such-service"), "{error}");
        let target = Target::try_from("localhost:no-such-service").unwrap();
        let error = crate::listener::TcpListener::bind(target)
            .unwrap_err()
            .to_string();
        let begin = "cannot listen on \"localhost:no-such-service\": resolve failed: service";
        assert!(error.starts_with(begin), "{error}");
        assert!(error.ends_with("give the port as a number"), "{error}");
    }

    #[test]
    fn a_host_and_a_port_are_told_apart() {
        for (text, expected) in [
            ("localhost:80", named("localhost", Port::Number(80))),
            ("localhost:080", named("localhost", Port::Number(80))),
            ("localhost:http", named("localhost", service("http"))),
            ("localhost:-1", named("localhost", service("-1"))),
            ("localhost:65535", named("localhost", Port::Number(65535))),
            ("127.0.0.1:http", named("127.0.0.1", service("http"))),
            ("[::1]:http", named("::1", service("http"))),
            ("[fe80::1%eth0]:80", named("fe80::1%eth0", Port::Number(80))),
        ] {
            assert_eq!(Target::parse(text), Ok(expected), "{text}");
        }
        for text in ["127.0.0.1:80", "[::1]:80", "[fe80::1%2]:80"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Target::parse(text), Ok(address.into()));
        }
    }

    #[cfg(feature = "dns")]
    #[test]
    fn addresses_with_and_without_a_scope_are_no_names() {
        for (text, expected) in [
            ("db.internal:https", Some("db.internal")),
            ("[fe80::1%eth0]:80", None),
            ("[::1]:https", None),
            ("127.0.0.1:https", None),
            ("127.0.0.1:80", None),
        ] {
            assert_eq!(Target::parse(text).unwrap().host_name(), expected, "{text}");
        }
    }

    #[test]
    fn each_mistake_has_an_error_of_its_own() {
        for (text, expected) in [
            ("", BadTarget::NoHost),
            (":80", BadTarget::NoHost),
            ("[]:80", BadTarget::NoHost),
            ("localhost", BadTarget::NoPort),
            ("localhost:", BadTarget::NoPort),
            ("[::1]", BadTarget::NoPort),
            ("[::1]:", BadTarget::NoPort),
            ("127.0.0.1:65536", BadTarget::PortOutOfRange),
            ("127.0.0.1:99999", BadTarget::PortOutOfRange),
            ("localhost:99999999999999999999", BadTarget::PortOutOfRange),
            ("::1", BadTarget::Brackets),
            ("::1:80", BadTarget::Brackets),
            ("2001:db8::1", BadTarget::Brackets),
            ("[::1]80", BadTarget::Brackets),
            ("[::1:80", BadTarget::Brackets),
            ("[a:b]:80", BadTarget::Brackets),
            ("a:b:80", BadTarget::Brackets),
            ("[[a]]:80", BadTarget::Brackets),
            ("[a:80", BadTarget::Brackets),
            ("http://localhost", BadTarget::Url),
            ("http://localhost:80/", BadTarget::Url),
        ] {
            assert_eq!(Target::parse(text), Err(expected), "{text}");
            assert!(Target::try_from(text).is_err());
        }
        for (host, port, expected) in [
            ("", "80", BadTarget::NoHost),
            ("localhost", "", BadTarget::NoPort),
            ("localhost", "65536", BadTarget::PortOutOfRange),
            ("localhost:80", "80", BadTarget::Brackets),
            ("http://localhost", "80", BadTarget::Url),
        ] {
            let error = Target::try_from((host, port)).unwrap_err();
            assert_eq!(error.bad_target(), Some(expected), "{host} {port}");
        }
    }

    #[test]
    fn a_pair_needs_no_brackets_and_takes_them() {
        for host in ["::1", "[::1]"] {
            let target = Target::try_from((host, 80)).unwrap();
            assert_eq!(target, named("::1", Port::Number(80)));
            assert_eq!(target.to_string(), "[::1]:80");
            assert_eq!(Target::try_from((host, "80")).unwrap(), target);
        }
        let target = Target::try_from(("fe80::1%eth0", "http")).unwrap();
        assert_eq!(target.to_string(), "[fe80::1%eth0]:http");
        assert_eq!(target.to_string().parse::<Target>().unwrap(), target);
    }

    #[test]
    fn no_text_whatever_makes_the_parser_panic() {
        let pieces = ["[", "]", ":", "%", "a", "é", "0", "::1", "/", " ", "\0"];
        for number in 0..pieces.len().pow(4) {
            let digits = (0..4).map(|place| number / pieces.len().pow(place) % pieces.len());
            let text: String = digits.map(|digit| pieces[digit]).collect();
            if let Ok(target) = Target::parse(&text) {
                assert_eq!(Target::parse(&target.to_string()), Ok(target), "{text:?}");
            }
        }
    }
}
