//! What connections are counted by.

use crate::ConnectionInfo;
use std::{
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::OnceLock,
};

/// Chooses what connections are counted by, such as the client's address.
///
/// [`ClientIp`] and [`ListenerName`] are keys, and so is each function of a connection's information. `()` is
/// one key for all connections.
///
/// ```
/// use portcullis_middleware::{ConnectionInfo, limit::{KeyBytes, KeyedLimitLayer}};
///
/// // By the name that the TLS client requested.
/// let by_name = |info: &ConnectionInfo| Some(KeyBytes::of(info.tls()?.server_name.as_deref()?));
/// let layer = KeyedLimitLayer::new(by_name, 100);
/// ```
pub trait Key: Send + Sync + 'static {
    /// The key of a connection. `None` excludes it from the limit.
    fn of(&self, info: &ConnectionInfo) -> Option<KeyBytes>;
}

impl<F> Key for F
where
    F: Fn(&ConnectionInfo) -> Option<KeyBytes> + Send + Sync + 'static,
{
    fn of(&self, info: &ConnectionInfo) -> Option<KeyBytes> {
        self(info)
    }
}

/// One key for all connections.
impl Key for () {
    fn of(&self, _: &ConnectionInfo) -> Option<KeyBytes> {
        Some(KeyBytes([0; 16]))
    }
}

/// The client's address, from a trusted PROXY header or else from the socket, by network.
///
/// By default a key is a whole IPv4 address or a /64 of IPv6, which is what providers usually assign to one
/// customer. IPv4-mapped IPv6 addresses count as IPv4. Connections without an IP address are not limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientIp {
    /// Length of the prefix of IPv4 addresses; 32 or more for the whole address.
    pub v4: u8,
    /// Length of the prefix of IPv6 addresses; 128 or more for the whole address.
    pub v6: u8,
}

impl ClientIp {
    /// A whole IPv4 address, or a /64 of IPv6.
    pub const fn new() -> Self {
        Self { v4: 32, v6: 64 }
    }
}

impl Default for ClientIp {
    fn default() -> Self {
        Self::new()
    }
}

impl Key for ClientIp {
    fn of(&self, info: &ConnectionInfo) -> Option<KeyBytes> {
        let network = match info.peer().ip()?.ip().to_canonical() {
            IpAddr::V4(v4) => {
                let host = u32::MAX.checked_shr(self.v4.into()).unwrap_or(0);
                Ipv4Addr::from_bits(v4.to_bits() & !host).to_ipv6_mapped()
            }
            IpAddr::V6(v6) => {
                let host = u128::MAX.checked_shr(self.v6.into()).unwrap_or(0);
                Ipv6Addr::from_bits(v6.to_bits() & !host)
            }
        };
        Some(KeyBytes(network.octets()))
    }
}

/// The name of the listener. Connections of listeners without a name are not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerName;

impl Key for ListenerName {
    fn of(&self, info: &ConnectionInfo) -> Option<KeyBytes> {
        info.listener().map(KeyBytes::of)
    }
}

/// The 16 bytes of a key.
///
/// Longer and shorter values are hashed to 16 bytes, with a random key that each process chooses, so that clients
/// cannot produce collisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyBytes([u8; 16]);

impl KeyBytes {
    /// Uses 16 bytes as they are.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Hashes a value of any length, such as a host name.
    pub fn of(value: impl AsRef<[u8]>) -> Self {
        static HASHERS: OnceLock<[RandomState; 2]> = OnceLock::new();
        let hashers = HASHERS.get_or_init(|| [RandomState::new(), RandomState::new()]);
        let [high, low] = hashers
            .each_ref()
            .map(|hasher| hasher.hash_one(value.as_ref()));
        Self((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }

    /// As two numbers, which hash faster than bytes.
    pub(super) fn words(self) -> (u64, u64) {
        let bits = u128::from_ne_bytes(self.0);
        ((bits >> 64) as u64, bits as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Address, ListenerInfo};
    use std::{collections::HashSet, net::SocketAddr, sync::Arc};

    fn key(of: ClientIp, ip: &str) -> Option<KeyBytes> {
        let peer = SocketAddr::new(ip.parse().unwrap(), 4000);
        of.of(&ConnectionInfo::new(peer, Address::Unknown))
    }

    #[test]
    fn addresses_of_one_network_have_one_key_and_others_have_others() {
        let whole = ClientIp::new();
        assert_eq!(
            key(whole, "2001:db8::1"),
            key(whole, "2001:db8::ffff:ffff:ffff:ffff")
        );
        assert_ne!(key(whole, "2001:db8::1"), key(whole, "2001:db8:0:1::1"));
        assert_ne!(key(whole, "192.0.2.1"), key(whole, "192.0.2.2"));
        assert_eq!(key(whole, "::ffff:192.0.2.1"), key(whole, "192.0.2.1"));
        assert_ne!(key(whole, "::1"), key(whole, "0.0.0.0"));
        let networks = ClientIp { v4: 24, v6: 48 };
        assert_eq!(key(networks, "192.0.2.0"), key(networks, "192.0.2.255"));
        assert_ne!(key(networks, "192.0.2.255"), key(networks, "192.0.3.0"));
        assert_eq!(
            key(networks, "2001:db8::1"),
            key(networks, "2001:db8:0:ffff::1")
        );
        assert_ne!(key(networks, "2001:db8::1"), key(networks, "2001:db8:1::1"));
    }

    #[test]
    fn lengths_of_prefixes_cannot_be_wrong() {
        let all = ClientIp { v4: 0, v6: 0 };
        assert_eq!(key(all, "192.0.2.1"), key(all, "255.255.255.255"));
        assert_eq!(key(all, "2001:db8::1"), key(all, "::1"));
        assert_ne!(key(all, "192.0.2.1"), key(all, "::1"));
        let too_long = ClientIp { v4: 255, v6: 255 };
        assert_ne!(key(too_long, "192.0.2.1"), key(too_long, "192.0.2.0"));
        assert_ne!(key(too_long, "2001:db8::1"), key(too_long, "2001:db8::"));
    }

    #[test]
    fn what_has_no_address_or_no_listener_has_no_key() {
        let info = ConnectionInfo::new(Address::Unknown, Address::Unknown);
        assert_eq!(ClientIp::new().of(&info), None);
        assert_eq!(ListenerName.of(&info), None);
        assert!(().of(&info).is_some());
        let named = |name: &str| {
            let listener = Arc::new(ListenerInfo::new().with_name(name));
            ListenerName.of(&ConnectionInfo::from_listener(
                listener,
                Address::Unknown,
                Address::Unknown,
            ))
        };
        assert_eq!(named("web"), named("web"));
        assert_ne!(named("web"), named("admin"));
    }

    #[test]
    fn values_of_any_length_have_keys_of_their_own() {
        let values = (0..100).map(|length| "a".repeat(length));
        let keys: HashSet<_> = values.clone().map(KeyBytes::of).collect();
        assert_eq!(keys.len(), 100);
        assert!(values.map(KeyBytes::of).all(|key| keys.contains(&key)));
        let both_halves = keys.iter().all(|key| key.words().0 != key.words().1);
        assert!(both_halves);
    }
}
