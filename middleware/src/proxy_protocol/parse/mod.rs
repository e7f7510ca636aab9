//! Tells from the first bytes of a connection whether a header is there, and what it says.
//!
//! No IO happens here. What was answered for some bytes, other than that more are needed, is
//! answered for the same bytes with any others behind them: how a header is split does not matter.
//!
//! The addresses are decoded by the crate `proxy-header`, once a header is complete and checked.
//! It alone would accept `PROXYxTCP4`, ports such as `+80` and `080`, and lines of any length if
//! they come at once; it would wait for more input where a header is complete but too short; and it
//! knows neither the addresses of `AF_UNIX` nor checksums.

mod v1;
mod v2;

use super::{ProxyHeader, error::HeaderProblem};
use crate::connection::Address;
use proxy_header::{ParseConfig, ProxyHeader as Decoded};

/// What the bytes of a connection so far are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// Too few to tell.
    Undecided,
    /// A header's beginning.
    Incomplete,
    /// No header.
    Absent,
    /// A header that breaks the protocol.
    Invalid(HeaderProblem),
    /// A header, and maybe more.
    Complete(Header),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// How many bytes it takes.
    pub(super) length: usize,
    /// The client and whom it connected to, where the header tells.
    pub(super) addresses: Option<(Address, Address)>,
    /// What else it tells.
    pub(super) header: ProxyHeader,
}

/// Looks for a header of at most `max_len` bytes; the text of version 1 has a bound of its own.
pub(super) fn parse(bytes: &[u8], max_len: usize) -> Parsed {
    let parsed = if let Some(complete) = begins_with(bytes, v1::SIGNATURE) {
        complete.then(|| v1::parse(bytes))
    } else if let Some(complete) = begins_with(bytes, v2::SIGNATURE) {
        complete.then(|| v2::parse(bytes, max_len))
    } else {
        return Parsed::Absent;
    };
    match parsed {
        None => Parsed::Undecided,
        Some(Ok(None)) => Parsed::Incomplete,
        Some(Ok(Some(header))) => Parsed::Complete(header),
        Some(Err(problem)) => Parsed::Invalid(problem),
    }
}

/// Whether `bytes` begin with `signature` so far, and if so, whether all of it is there.
fn begins_with(bytes: &[u8], signature: &[u8]) -> Option<bool> {
    let common = bytes.len().min(signature.len());
    (bytes[..common] == signature[..common]).then_some(common == signature.len())
}

/// The addresses of a complete header that has some.
fn ip_addresses(header: &[u8]) -> Option<(Address, Address)> {
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    let (decoded, length) = Decoded::parse(header, config).ok()?;
    let addresses = decoded.proxied_address()?;
    (length == header.len()).then(|| (addresses.source.into(), addresses.destination.into()))
}
