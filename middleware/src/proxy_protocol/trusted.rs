//! The sources whose headers are trusted.

use crate::{connection::Address, ip_set::IpSet};
use std::str::FromStr;

pub use crate::ip_set::InvalidNetwork;

/// The sources whose PROXY headers are trusted, which are networks and optionally Unix sockets.
///
/// It parses from text with commas or spaces between the networks, as in a configuration file:
///
/// ```
/// use portcullis_middleware::proxy_protocol::TrustedSources;
///
/// let trusted: TrustedSources = "10.0.0.0/8, fd00::/8, 192.0.2.7".parse()?;
/// # Ok::<_, portcullis_middleware::proxy_protocol::InvalidNetwork>(())
/// ```
///
/// Clones share the list.
#[derive(Clone, Debug)]
pub struct TrustedSources {
    networks: IpSet,
    unix: bool,
}

impl TrustedSources {
    /// Trusts these networks, such as `10.0.0.0/8`, `fd00::/8` or the single address `192.0.2.7`.
    ///
    /// An IPv4 network also matches the IPv4-mapped addresses of a dual-stack socket (`::ffff:10.1.2.3`). An
    /// empty list trusts no IP address.
    ///
    /// # Errors
    ///
    /// If a text is not a valid network. That includes an address with bits set behind its prefix
    /// (`10.1.2.3/8`), because it could mean the address or the network.
    pub fn new<N: AsRef<str>>(
        networks: impl IntoIterator<Item = N>,
    ) -> Result<Self, InvalidNetwork> {
        IpSet::new(networks).map(Self::from)
    }

    /// Trusts nothing yet, as a start for [`with_unix_sockets`](Self::with_unix_sockets).
    pub fn none() -> Self {
        Self::from(IpSet::default())
    }

    /// Also trusts all clients that connect through a Unix socket; off by default.
    ///
    /// The permissions of the socket's file and directory decide which processes can connect.
    #[must_use]
    pub const fn with_unix_sockets(mut self) -> Self {
        self.unix = true;
        self
    }

    /// Whether headers from `peer`, the peer of a socket, are trusted.
    ///
    /// Unknown peers are untrusted.
    pub fn contains(&self, peer: &Address) -> bool {
        match peer {
            Address::Ip(peer) => self.networks.contains(peer.ip()),
            Address::Unix(_) => self.unix,
            Address::Unknown => false,
        }
    }
}

/// Trusts these networks.
impl From<IpSet> for TrustedSources {
    fn from(networks: IpSet) -> Self {
        let unix = false;
        Self { networks, unix }
    }
}

impl FromStr for TrustedSources {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        text.parse::<IpSet>().map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::UnixAddress;

    fn trusts(networks: &str, peer: &str) -> bool {
        let networks: TrustedSources = networks.parse().unwrap();
        networks.contains(&Address::Ip(format!("{peer}:4000").parse().unwrap()))
    }

    #[test]
    fn a_network_reaches_from_its_first_to_its_last_address() {
        let trusted = "198.51.100.64/26, 2001:db8::/32 192.0.2.7";
        assert!(!trusts(trusted, "198.51.100.63"));
        assert!(trusts(trusted, "198.51.100.64"));
        assert!(trusts(trusted, "198.51.100.127"));
        assert!(!trusts(trusted, "198.51.100.128"));
        assert!(trusts(trusted, "[2001:db8:ffff::1]"));
        assert!(!trusts(trusted, "[2001:db9::1]"));
        assert!(trusts(trusted, "192.0.2.7"));
        assert!(!trusts(trusted, "192.0.2.8"));
    }

    #[test]
    fn an_ipv4_peer_of_a_dual_stack_socket_is_in_the_ipv4_network() {
        assert!(trusts("10.0.0.0/8", "[::ffff:10.1.2.3]"));
        assert!(!trusts("10.0.0.0/8", "[::ffff:11.1.2.3]"));
        assert!(trusts("::ffff:10.0.0.0/104", "10.1.2.3"));
        assert!(trusts("::ffff:10.1.2.3", "10.1.2.3"));
    }

    #[test]
    fn trust_in_all_of_ipv6_is_no_trust_in_ipv4() {
        assert!(trusts("::/0", "[2001:db8::1]"));
        assert!(!trusts("::/0", "10.1.2.3"));
        assert!(!trusts("::/0", "[::ffff:10.1.2.3]"));
    }

    #[test]
    fn nobody_is_trusted_by_accident() {
        let unix = Address::Unix(UnixAddress::default());
        let everybody: TrustedSources = "0.0.0.0/0, ::/0".parse().unwrap();
        assert!(!everybody.contains(&Address::Unknown));
        assert!(!everybody.contains(&unix));
        assert!(everybody.with_unix_sockets().contains(&unix));
        let local = TrustedSources::none().with_unix_sockets();
        assert!(!local.contains(&Address::Unknown));
        assert!(!trusts("", "127.0.0.1"));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for text in [
            "10.0.0.0/33",
            "10.0.0",
            "balancer",
            "10.0.0.0/-1",
            "::/129",
            "010.0.0.1",
        ] {
            let error = TrustedSources::new([text]).unwrap_err();
            assert_eq!(error.text(), text);
        }
        let error = TrustedSources::new(["10.0.0.0/8", "10.1.2.3/8"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"10.1.2.3/8\" is not a network: bits are set behind the prefix; \
             10.0.0.0/8 is the whole network, 10.1.2.3 the address alone"
        );
    }
}
