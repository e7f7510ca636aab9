//! Sets of IP networks with fast look-ups.
//!
//! An [`IpSet`] parses from text, such as `"10.0.0.0/8, fd00::/8, 192.0.2.7"`, or from a file with one network
//! per line. Layers use it for their lists of addresses: `AclLayer` and the trusted sources of
//! `ProxyProtocolLayer`.
//!
//! ```
//! use portcullis_middleware::ip_set::IpSet;
//!
//! let office: IpSet = "198.51.100.64/26, 2001:db8::/32".parse()?;
//! assert!(office.contains("198.51.100.70".parse()?));
//! assert!(!office.contains("198.51.100.128".parse()?));
//!
//! let blocked = IpSet::from_lines("# scanners\n203.0.113.0/24\n192.0.2.7 # since Tuesday\n")?;
//! assert!(blocked.contains("203.0.113.9".parse()?));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod display;
mod error;
mod network;
#[cfg(test)]
mod tests;

pub use self::error::{InvalidLine, InvalidNetwork, ReadError};

use self::network::Network;
use crate::file;
use std::{fmt, net::IpAddr, path::Path, str::FromStr, sync::Arc};

/// A set of IPv4 and IPv6 networks.
///
/// The networks are stored as sorted ranges that neither overlap nor touch, so a look-up is a binary search, and
/// sets of the same addresses are equal. IPv4-mapped
/// IPv6 addresses and networks (`::ffff:10.1.2.3`) count as IPv4; `::/0` therefore contains IPv6 addresses
/// only. Clones share the ranges.
///
/// A network with bits set behind its prefix (`10.1.2.3/8`) is invalid, because it could mean the network or
/// the address. Networks of other types, such as those of the crate `ipnet`, can be added by their text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct IpSet {
    v4: Arc<[Range<u32>]>,
    v6: Arc<[Range<u128>]>,
}

/// The first and the last address.
type Range<T> = (T, T);

impl IpSet {
    /// The set of these networks, such as `10.0.0.0/8`, `fd00::/8` or the single address `192.0.2.7`.
    ///
    /// # Errors
    ///
    /// The first text that is not a valid network.
    pub fn new<N: AsRef<str>>(
        networks: impl IntoIterator<Item = N>,
    ) -> Result<Self, InvalidNetwork> {
        let networks = networks.into_iter();
        let networks = networks.map(|text| text.as_ref().parse());
        Ok(Self::of(networks.collect::<Result<_, _>>()?))
    }

    /// The set of the networks in `text`, with any number per line, separated by commas or spaces. A `#` starts
    /// a comment.
    ///
    /// # Errors
    ///
    /// The first line with an invalid network.
    pub fn from_lines(text: &str) -> Result<Self, InvalidLine> {
        let mut networks = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let (line, _comment) = line.split_once('#').unwrap_or((line, ""));
            for network in words(line) {
                let network = network.parse();
                networks.push(network.map_err(|source| InvalidLine::new(index + 1, source))?);
            }
        }
        Ok(Self::of(networks))
    }

    /// The set of the networks in a file; see [`from_lines`](Self::from_lines). It blocks while it reads.
    ///
    /// The file has to be a regular one of at most 64 MiB.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or at its first line with an invalid network.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        let path = path.as_ref();
        let text = file::read_text(path).map_err(|source| ReadError::io(path, source))?;
        Self::from_lines(&text).map_err(|source| ReadError::line(path, source))
    }

    /// Whether `address` is in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => find(&self.v4, v4.to_bits()),
            IpAddr::V6(v6) => find(&self.v6, v6.to_bits()),
        }
    }

    /// Whether the set contains no address.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// The set of all addresses that are in this set or in `other`.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self {
            v4: disjoint([&*self.v4, &*other.v4].concat()),
            v6: disjoint([&*self.v6, &*other.v6].concat()),
        }
    }

    fn of(networks: Vec<Network>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                Network::V4(range) => v4.push(range),
                Network::V6(range) => v6.push(range),
            }
        }
        Self {
            v4: disjoint(v4),
            v6: disjoint(v6),
        }
    }
}

/// Networks separated by commas or spaces.
impl FromStr for IpSet {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        Self::new(words(text))
    }
}

/// Prints the number of ranges only, because lists may have many thousands.
impl fmt::Debug for IpSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IpSet")
            .field("v4", &self.v4.len())
            .field("v6", &self.v6.len())
            .finish()
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let separator = |c: char| c == ',' || c.is_ascii_whitespace();
    text.split(separator).filter(|word| !word.is_empty())
}

/// Sorts the ranges and joins those that overlap or touch, so that equal sets have equal ranges.
fn disjoint<T: Bits>(mut ranges: Vec<Range<T>>) -> Arc<[Range<T>]> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, range| {
        // Nothing follows the last address.
        let joins = range.1.successor().is_none_or(|after| next.0 <= after);
        if joins {
            range.1 = range.1.max(next.1);
        }
        joins
    });
    ranges.into()
}

/// An address as a number.
trait Bits: Ord + Copy {
    /// The next address, if there is one.
    fn successor(self) -> Option<Self>;
}

impl Bits for u32 {
    fn successor(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Bits for u128 {
    fn successor(self) -> Option<Self> {
        self.checked_add(1)
    }
}

fn find<T: Ord + Copy>(ranges: &[Range<T>], address: T) -> bool {
    // Comparing with each takes fewer instructions than a search.
    if ranges.len() <= FEW {
        let contains = |&(first, last): &Range<T>| first <= address && address <= last;
        return ranges.iter().any(contains);
    }
    let after = ranges.partition_point(|&(first, _)| first <= address);
    after > 0 && address <= ranges[after - 1].1
}

/// Ranges that are compared one after the other.
const FEW: usize = 8;
