//! Version 1, a line of text.

use super::{Header, ip_addresses};
use crate::proxy_protocol::{ProxyHeader, error::HeaderProblem};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// Parses bytes that begin with the signature; `None` until the line is complete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, HeaderProblem> {
    let bytes = &bytes[..bytes.len().min(MAX_LEN)];
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        return match bytes.len() {
            MAX_LEN => Err(HeaderProblem::LineTooLong),
            _ => Ok(None),
        };
    };
    let line = &bytes[..=end];
    let fields = line.strip_suffix(b"\r\n").ok_or(HeaderProblem::Line)?;
    let mut fields = fields[SIGNATURE.len()..].split(|&byte| byte == b' ');
    let addresses = match fields.next() {
        // The rest of the line must be ignored.
        Some(b"UNKNOWN") => None,
        _ if fields.skip(2).all(is_plain_number) => {
            Some(ip_addresses(line).ok_or(HeaderProblem::Line)?)
        }
        _ => return Err(HeaderProblem::Line),
    };
    Ok(Some(Header {
        length: line.len(),
        header: ProxyHeader::new(1, addresses.is_some(), &[]),
        addresses,
    }))
}

/// Rejects signs and leading zeros, which `u16::from_str` allows; it checks the rest.
fn is_plain_number(port: &[u8]) -> bool {
    matches!(port, [b'0'] | [b'1'..=b'9', ..])
}

/// The longest line that the protocol allows, including its end.
const MAX_LEN: usize = 107;
