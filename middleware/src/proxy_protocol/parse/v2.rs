//! Version 2, a binary header.

use super::{Header, ip_addresses};
use crate::{
    connection::{Address, UnixAddress},
    proxy_protocol::{ProxyHeader, error::HeaderProblem, header::split_field},
};
use std::path::PathBuf;

pub(in crate::proxy_protocol) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Parses bytes that begin with the signature; `None` until the header is complete.
///
/// Each byte is checked as soon as it arrives, so that an invalid header is rejected early.
pub(super) fn parse(bytes: &[u8], max_len: usize) -> Result<Option<Header>, HeaderProblem> {
    let mut fixed = bytes[SIGNATURE.len()..].iter().copied();
    let Some(version_and_command) = fixed.next() else {
        return Ok(None);
    };
    let local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(HeaderProblem::Command),
    };
    let Some(family) = fixed.next() else {
        return Ok(None);
    };
    let kind = match local {
        true => AddressBlock::ignored(family),
        false => AddressBlock::of(family).ok_or(HeaderProblem::Family)?,
    };
    let (Some(high), Some(low)) = (fixed.next(), fixed.next()) else {
        return Ok(None);
    };
    let length = FIXED_LEN + usize::from(u16::from_be_bytes([high, low]));
    if length > max_len {
        return Err(HeaderProblem::TooLong(length));
    }
    if length < FIXED_LEN + kind.addresses_len() {
        return Err(HeaderProblem::TooShort);
    }
    bytes
        .get(..length)
        .map(|bytes| decode(bytes, kind))
        .transpose()
}

/// Decodes a complete header.
fn decode(bytes: &[u8], kind: AddressBlock) -> Result<Header, HeaderProblem> {
    let (addresses, tlvs) = bytes[FIXED_LEN..].split_at(kind.addresses_len());
    let (addresses, tlvs) = match kind {
        // The block is skipped, so it may contain anything, including something other than fields.
        AddressBlock::Ignored(length) => {
            let fields = length.and_then(|length| tlvs.get(length..));
            (
                None,
                fields.filter(|tlvs| are_fields(tlvs)).unwrap_or_default(),
            )
        }
        AddressBlock::Ip(_) => (
            Some(ip_addresses(bytes).ok_or(HeaderProblem::Family)?),
            tlvs,
        ),
        AddressBlock::Unix => {
            let (source, destination) = addresses.split_at(UNIX_LEN);
            (
                Some((unix_address(source), unix_address(destination))),
                tlvs,
            )
        }
    };
    if !are_fields(tlvs) {
        return Err(HeaderProblem::Field);
    }
    check_sum(bytes, tlvs)?;
    Ok(Header {
        length: bytes.len(),
        header: ProxyHeader::new(2, addresses.is_some(), tlvs),
        addresses,
    })
}

#[derive(Clone, Copy)]
enum AddressBlock {
    /// `LOCAL` or unspecified. That many bytes of addresses are skipped, if their length is known.
    Ignored(Option<usize>),
    /// That many bytes of IP addresses.
    Ip(usize),
    Unix,
}

impl AddressBlock {
    fn of(family: u8) -> Option<Self> {
        match (family >> 4, family & 0x0F) {
            (0..=3, 0) | (0, 0..=2) => Some(Self::ignored(family)),
            (1, 1 | 2) => Some(Self::Ip(4)),
            (2, 1 | 2) => Some(Self::Ip(16)),
            (3, 1 | 2) => Some(Self::Unix),
            _ => None,
        }
    }

    fn ignored(family: u8) -> Self {
        Self::Ignored(match family >> 4 {
            0 => Some(0),
            1 => Some(Self::Ip(4).addresses_len()),
            2 => Some(Self::Ip(16).addresses_len()),
            3 => Some(Self::Unix.addresses_len()),
            _ => None,
        })
    }

    /// The minimum length of the block.
    const fn addresses_len(self) -> usize {
        match self {
            Self::Ignored(_) => 0,
            Self::Ip(ip) => 2 * (ip + PORT_LEN),
            Self::Unix => 2 * UNIX_LEN,
        }
    }
}

/// The path, up to its end or the first NUL; empty for an unnamed or abstract socket.
fn unix_address(bytes: &[u8]) -> Address {
    let path = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    Address::Unix(match path {
        [] => UnixAddress::default(),
        path => UnixAddress::new(path_buf(path)),
    })
}

#[cfg(unix)]
fn path_buf(path: &[u8]) -> PathBuf {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    OsStr::from_bytes(path).into()
}

#[cfg(not(unix))]
fn path_buf(path: &[u8]) -> PathBuf {
    String::from_utf8_lossy(path).into_owned().into()
}

/// Whether the bytes consist of fields only.
fn are_fields(mut tlvs: &[u8]) -> bool {
    while let Some((_, rest)) = split_field(tlvs) {
        tlvs = rest;
    }
    tlvs.is_empty()
}

/// Verifies the checksum, if there is one. Two of them are rejected, because neither could be right.
fn check_sum(header: &[u8], tlvs: &[u8]) -> Result<(), HeaderProblem> {
    let (mut left, mut found) = (tlvs, None);
    while let Some(((kind, value), rest)) = split_field(left) {
        if kind == TYPE_CRC32C {
            let expected = value.try_into().map_err(|_| HeaderProblem::Field)?;
            let end = header.len() - rest.len();
            if found.replace((u32::from_be_bytes(expected), end)).is_some() {
                return Err(HeaderProblem::Field);
            }
        }
        left = rest;
    }
    let Some((expected, end)) = found else {
        return Ok(());
    };
    // The sender computed it with zeros in this position.
    let (before, after) = (&header[..end - CRC32C_LEN], &header[end..]);
    let bytes = before.iter().chain(&[0; CRC32C_LEN]).chain(after);
    match crc32c(bytes) == expected {
        true => Ok(()),
        false => Err(HeaderProblem::Checksum),
    }
}

/// The checksum of RFC 4960, appendix B. Headers are short, so a table is not needed.
pub(in crate::proxy_protocol) fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (crc & 1).wrapping_neg() & CASTAGNOLI
        })
    })
}

const FIXED_LEN: usize = 16;
const PORT_LEN: usize = 2;
const UNIX_LEN: usize = 108;
pub(in crate::proxy_protocol) const TYPE_CRC32C: u8 = 0x03;
pub(in crate::proxy_protocol) const CRC32C_LEN: usize = 4;
/// The polynomial with its bits reversed.
const CASTAGNOLI: u32 = 0x82F6_3B78;
