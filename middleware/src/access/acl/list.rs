use super::Verdict;
use crate::{connection::Address, ip_set::IpSet};

/// A list of allowed and a list of denied networks; see the [module docs](super).
///
/// Without either, it admits every connection.
#[derive(Clone, Debug, Default)]
pub struct Acl {
    allow: Option<IpSet>,
    deny: IpSet,
    unix: bool,
}

impl Acl {
    /// The rule that rejects an address on the deny list.
    pub const ON_DENY_LIST: &'static str = "the address is on the deny list";
    /// The rule that rejects an address that is missing from the allow list.
    pub const NOT_ON_ALLOW_LIST: &'static str = "the address is not on the allow list";
    /// The rule that rejects a connection without an IP address if there is an allow list.
    pub const NO_ADDRESS: &'static str =
        "the connection has no IP address that could be on the allow list";

    /// Admits every connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `networks` to the allow list. From then on, all other addresses are rejected.
    ///
    /// An empty set rejects every address.
    #[must_use]
    pub fn allow(mut self, networks: IpSet) -> Self {
        self.allow = Some(match self.allow {
            Some(allowed) => allowed.union(&networks),
            None => networks,
        });
        self
    }

    /// Adds `networks` to the deny list, which takes precedence over the allow list.
    #[must_use]
    pub fn deny(mut self, networks: IpSet) -> Self {
        self.deny = self.deny.union(&networks);
        self
    }

    /// Also allows all clients that connect through a Unix socket; it matters only with an allow list.
    ///
    /// The permissions of the socket's file and directory decide which processes can connect.
    #[must_use]
    pub const fn with_unix_sockets(mut self) -> Self {
        self.unix = true;
        self
    }

    /// Whether a client with this address is admitted.
    pub fn judge(&self, address: &Address) -> Verdict {
        match (address, &self.allow) {
            (Address::Ip(address), _) if self.deny.contains(address.ip()) => {
                Verdict::Deny(Self::ON_DENY_LIST)
            }
            (_, None) => Verdict::Admit,
            (Address::Ip(address), Some(allow)) if allow.contains(address.ip()) => Verdict::Admit,
            (Address::Ip(_), Some(_)) => Verdict::Deny(Self::NOT_ON_ALLOW_LIST),
            (Address::Unix(_), Some(_)) if self.unix => Verdict::Admit,
            (Address::Unix(_) | Address::Unknown, Some(_)) => Verdict::Deny(Self::NO_ADDRESS),
        }
    }
}
