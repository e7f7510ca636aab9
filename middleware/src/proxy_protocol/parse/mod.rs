//! Detects and parses a header in the first bytes of a connection.
//!
//! The parser works on bytes only. Once it has decided on some bytes, more bytes behind them do not change
//! the result, so it does not matter how a header is split.
//!
//! The crate `proxy-header` decodes the addresses once a header is complete and checked. On its own it would
//! accept `PROXYxTCP4`, ports such as `+80` and `080`, and lines of any length that arrive in one read. It
//! would wait for more input after a complete header that is too short. It supports neither the addresses of
//! `AF_UNIX` nor checksums.

mod v1;
mod v2;

pub(super) use self::v2::{CRC32C_LEN, SIGNATURE as V2_SIGNATURE, TYPE_CRC32C, crc32c};

use super::{ProxyHeader, error::HeaderProblem};
use crate::connection::Address;
use proxy_header::{ParseConfig, ProxyHeader as Decoded};

/// Classification of the bytes received so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// Too few to decide.
    Undecided,
    /// The beginning of a header.
    Incomplete,
    /// Something else than a header.
    Absent,
    /// A header that violates the protocol.
    Invalid(HeaderProblem),
    /// A header, possibly followed by more bytes.
    Complete(Header),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Its length in bytes.
    pub(super) length: usize,
    /// The client and its destination, if the header contains them.
    pub(super) addresses: Option<(Address, Address)>,
    /// Its version and fields.
    pub(super) header: ProxyHeader,
}

/// Parses a header of at most `max_len` bytes; version 1 has its own limit.
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

/// Whether `bytes` match the beginning of `signature`, and if so, whether all of it has arrived.
fn begins_with(bytes: &[u8], signature: &[u8]) -> Option<bool> {
    let common = bytes.len().min(signature.len());
    (bytes[..common] == signature[..common]).then_some(common == signature.len())
}

/// The addresses of a complete header that contains some.
fn ip_addresses(header: &[u8]) -> Option<(Address, Address)> {
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    let (decoded, length) = Decoded::parse(header, config).ok()?;
    let addresses = decoded.proxied_address()?;
    (length == header.len()).then(|| (addresses.source.into(), addresses.destination.into()))
}
