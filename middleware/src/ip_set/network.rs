//! One network, as the range of its addresses.

use super::{
    Range,
    error::{InvalidNetwork, NetworkProblem},
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

pub(super) enum Network {
    V4(Range<u32>),
    V6(Range<u128>),
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        parse(text).map_err(|problem| InvalidNetwork::new(text, problem))
    }
}

fn parse(text: &str) -> Result<Network, NetworkProblem> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix_length(prefix)?)),
        None => (text, None),
    };
    let invalid = |_| NetworkProblem::NotANetwork;
    match address.parse().map_err(invalid)? {
        IpAddr::V4(v4) => v4_network(v4, prefix.unwrap_or(32)),
        IpAddr::V6(v6) => match (v6.to_ipv4_mapped(), prefix.unwrap_or(128)) {
            // `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
            (Some(v4), prefix @ MAPPED_BITS..) => v4_network(v4, prefix - MAPPED_BITS),
            (_, prefix) => v6_network(v6, prefix),
        },
    }
}

/// Digits only, because `u8` also parses a sign.
fn prefix_length(text: &str) -> Result<u32, NetworkProblem> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let length = text.parse::<u8>().ok().filter(|_| digits);
    length.map(u32::from).ok_or(NetworkProblem::NotANetwork)
}

fn v4_network(address: Ipv4Addr, prefix: u32) -> Result<Network, NetworkProblem> {
    if prefix > 32 {
        return Err(NetworkProblem::NotANetwork);
    }
    let host = u32::MAX.checked_shr(prefix).unwrap_or(0);
    let bits = address.to_bits();
    if bits & host != 0 {
        return Err(NetworkProblem::HostBits {
            network: Ipv4Addr::from_bits(bits & !host).into(),
            prefix,
            address: address.into(),
        });
    }
    Ok(Network::V4((bits, bits | host)))
}

fn v6_network(address: Ipv6Addr, prefix: u32) -> Result<Network, NetworkProblem> {
    if prefix > 128 {
        return Err(NetworkProblem::NotANetwork);
    }
    let host = u128::MAX.checked_shr(prefix).unwrap_or(0);
    let bits = address.to_bits();
    if bits & host != 0 {
        return Err(NetworkProblem::HostBits {
            network: Ipv6Addr::from_bits(bits & !host).into(),
            prefix,
            address: address.into(),
        });
    }
    Ok(Network::V6((bits, bits | host)))
}

/// Length of `::ffff:0:0/96`, the prefix of IPv4-mapped addresses (RFC 4291, 2.5.5.2).
const MAPPED_BITS: u32 = 96;
