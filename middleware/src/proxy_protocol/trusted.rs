//! The sources whose headers are trusted.

use crate::connection::Address;
use ipnet::{IpNet, Ipv4Net};
use std::{
    error, fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

/// The sources whose PROXY headers are trusted, which are networks and optionally Unix sockets.
///
/// Every connection is compared with every network, so keep the list short. It parses from text with commas
/// or spaces between the networks, as in a configuration file:
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
    networks: Arc<[IpNet]>,
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
        let networks = networks.into_iter().map(|text| network(text.as_ref()));
        Ok(Self {
            networks: networks.collect::<Result<_, _>>()?,
            unix: false,
        })
    }

    /// Trusts nothing yet, as a start for [`with_unix_sockets`](Self::with_unix_sockets).
    pub fn none() -> Self {
        Self {
            networks: Arc::new([]),
            unix: false,
        }
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
            Address::Ip(peer) => {
                let ip = peer.ip().to_canonical();
                self.networks.iter().any(|network| network.contains(&ip))
            }
            Address::Unix(_) => self.unix,
            Address::Unknown => false,
        }
    }
}

impl FromStr for TrustedSources {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let separator = |c: char| c == ',' || c.is_ascii_whitespace();
        Self::new(text.split(separator).filter(|network| !network.is_empty()))
    }
}

fn network(text: &str) -> Result<IpNet, InvalidNetwork> {
    let invalid = |problem| InvalidNetwork {
        text: text.to_owned(),
        problem,
    };
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text
            .parse()
            .map_err(|_| invalid(NetworkProblem::NoNetwork))?,
    };
    if network.trunc() != network {
        return Err(invalid(NetworkProblem::HostBits(network)));
    }
    Ok(canonical(network))
}

/// Converts `::ffff:10.0.0.0/104` to `10.0.0.0/8`, because peers are compared by their canonical address.
fn canonical(network: IpNet) -> IpNet {
    if let IpNet::V6(v6) = network
        && let Some(address) = Ipv6Addr::to_ipv4_mapped(&v6.network())
        && let Some(prefix) = v6.prefix_len().checked_sub(MAPPED_BITS)
        && let Ok(v4) = Ipv4Net::new(address, prefix)
    {
        return v4.into();
    }
    network
}

/// An invalid network in a list of trusted sources.
#[derive(Clone, Debug)]
pub struct InvalidNetwork {
    text: String,
    problem: NetworkProblem,
}

#[derive(Clone, Copy, Debug)]
enum NetworkProblem {
    NoNetwork,
    HostBits(IpNet),
}

impl InvalidNetwork {
    /// The invalid text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for InvalidNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a network: ", self.text)?;
        match self.problem {
            NetworkProblem::NoNetwork => {
                f.write_str("expected an address, optionally with a prefix such as /24")
            }
            NetworkProblem::HostBits(network) => write!(
                f,
                "bits are set behind the prefix; {} is the whole network, {} the address alone",
                network.trunc(),
                network.addr()
            ),
        }
    }
}

impl error::Error for InvalidNetwork {}

/// Length of `::ffff:0:0/96`, the prefix of IPv4-mapped addresses (RFC 4291, 2.5.5.2).
const MAPPED_BITS: u8 = 96;

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
