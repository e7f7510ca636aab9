//! Version 1: a line of text.

use super::{Header, ip_addresses};
use crate::proxy_protocol::{ProxyHeader, error::HeaderProblem};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// Bytes that begin with the signature: `None` while the line has no end.
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
        // Whatever follows on the line is to be ignored.
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

/// No sign and no leading zero, which `u16::from_str` allows; it checks the rest.
fn is_plain_number(port: &[u8]) -> bool {
    matches!(port, [b'0'] | [b'1'..=b'9', ..])
}

/// The longest line, its end included, as the protocol has it.
const MAX_LEN: usize = 107;
