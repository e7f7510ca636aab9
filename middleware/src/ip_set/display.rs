//! A set as text.

use super::{IpSet, Range};
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

/// The fewest networks that are the set, in order and separated by commas; parsing them yields an equal set.
impl fmt::Display for IpSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut write = |address: &dyn fmt::Display, prefix: u32, bits: u32| {
            write!(f, "{separator}{address}")?;
            separator = ", ";
            if prefix < bits {
                write!(f, "/{prefix}")?;
            }
            Ok(())
        };
        for range in &*self.v4 {
            let wide = (u128::from(range.0), u128::from(range.1));
            for (first, size) in blocks(wide) {
                // Both came from 32 bits.
                let address = Ipv4Addr::from_bits(first as u32);
                write(&address, 32 - size, 32)?;
            }
        }
        for range in &*self.v6 {
            for (first, size) in blocks(*range) {
                write(&Ipv6Addr::from_bits(first), 128 - size, 128)?;
            }
        }
        Ok(())
    }
}

/// The networks that make up a range: the first address of each, and the number of bits behind its prefix.
fn blocks((first, last): Range<u128>) -> impl Iterator<Item = (u128, u32)> {
    let mut next = Some(first);
    std::iter::from_fn(move || {
        let first = next.filter(|first| *first <= last)?;
        // The range has 2^128 addresses at most, so their number less one is counted.
        let left = last - first;
        let fits = |size: &u32| *size == 0 || left >= (u128::MAX >> (128 - size));
        let size = (0..=first.trailing_zeros().min(128)).rev().find(fits)?;
        let span = u128::MAX.checked_shr(128 - size).unwrap_or(0);
        next = (first + span).checked_add(1);
        Some((first, size))
    })
}
