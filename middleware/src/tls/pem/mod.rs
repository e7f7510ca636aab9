//! Splits PEM (RFC 7468) into all of its sections, or fails with the faulty line.
//!
//! A parser that skips unknown text serves half of a chain, or trusts half of a bundle. Text between sections
//! is allowed unless it resembles a BEGIN or END line.

mod line;
#[cfg(test)]
mod tests;

use self::line::{Line, classify, lines};
use crate::tls::rustls::pki_types::pem::{PemObject, SectionKind};
use std::fmt;

/// One section, with its label, position and Base64.
pub(super) struct Section<'a> {
    pub(super) label: &'a str,
    pub(super) place: PemPlace,
    /// The key is encrypted as in RFC 1421: `Proc-Type: 4,ENCRYPTED`.
    pub(super) is_encrypted: bool,
    base64: Vec<u8>,
}

/// Position of a problem in a file; both numbers count from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PemPlace {
    pub(super) section: usize,
    pub(super) line: usize,
}

/// Why a text is not PEM. It does not quote the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PemFault {
    /// UTF-16, by its byte-order mark.
    Utf16,
    /// A line that resembles a BEGIN or END line.
    Boundary,
    /// Two of them on one line.
    Joined,
    /// A byte-order mark before a BEGIN line that is not the first.
    ByteOrderMark,
    /// END without BEGIN.
    NotBegun,
    /// BEGIN without END.
    NotEnded,
    /// END with another label than BEGIN.
    OtherEnd,
    /// Anything but Base64 between BEGIN and END.
    NotBase64,
}

/// All sections of `pem`.
pub(super) fn sections(pem: &[u8]) -> Result<Vec<Section<'_>>, (PemPlace, PemFault)> {
    let utf16 = [&[0xff, 0xfe], &[0xfe, 0xff]];
    if utf16.iter().any(|mark| pem.starts_with(*mark)) {
        let place = PemPlace {
            section: 1,
            line: 1,
        };
        return Err((place, PemFault::Utf16));
    }
    let pem = pem.strip_prefix(BYTE_ORDER_MARK).unwrap_or(pem);
    let mut done = Vec::new();
    let mut open: Option<Section<'_>> = None;
    for (number, line) in lines(pem) {
        let place = PemPlace {
            section: done.len() + 1,
            line: number,
        };
        match (classify(line), open.as_mut()) {
            (Line::Suspicious(fault), _) => return Err((place, fault)),
            (Line::Begin(label), None) => open = Some(Section::new(label, place)),
            (Line::Begin(_), Some(section)) => return Err((section.place, PemFault::NotEnded)),
            (Line::End(_), None) => return Err((place, PemFault::NotBegun)),
            (Line::End(label), Some(section)) if label != section.label => {
                return Err((place, PemFault::OtherEnd));
            }
            (Line::End(_), Some(_)) => done.extend(open.take()),
            (Line::Text, Some(section)) => section.push(line).map_err(|fault| (place, fault))?,
            (Line::Text, None) => {}
        }
    }
    match open {
        Some(section) => Err((section.place, PemFault::NotEnded)),
        None => Ok(done),
    }
}

impl<'a> Section<'a> {
    const fn new(label: &'a str, place: PemPlace) -> Self {
        Self {
            label,
            place,
            is_encrypted: false,
            base64: Vec::new(),
        }
    }

    fn push(&mut self, line: &[u8]) -> Result<(), PemFault> {
        let in_header = self.base64.is_empty();
        if in_header && line.starts_with(b"Proc-Type:") {
            self.is_encrypted |= line.ends_with(b"ENCRYPTED");
            return Ok(());
        }
        if in_header && line.starts_with(b"DEK-Info:") {
            return Ok(());
        }
        for byte in line.iter().filter(|byte| !byte.is_ascii_whitespace()) {
            if !is_base64(*byte) {
                return Err(PemFault::NotBase64);
            }
            self.base64.push(*byte);
        }
        Ok(())
    }

    /// Decodes the section; `label` is the parser's name for it.
    pub(super) fn decode(&self, label: &str) -> Result<(SectionKind, Vec<u8>), PemFault> {
        let mut canonical = format!("-----BEGIN {label}-----\n").into_bytes();
        canonical.extend_from_slice(&self.base64);
        canonical.extend_from_slice(format!("\n-----END {label}-----\n").as_bytes());
        // The error quotes its input, which may be a key.
        PemObject::from_pem_slice(&canonical).map_err(|_| PemFault::NotBase64)
    }
}

const fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

impl fmt::Display for PemFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Utf16 => "it is UTF-16; save it as ASCII or UTF-8",
            Self::Boundary => {
                "the line resembles a BEGIN or END line; such a line starts in the first column \
                 and has five hyphens on each side of capital letters, with nothing before or after"
            }
            Self::Joined => {
                "an END line and a BEGIN line run together; put a line end between them (files \
                 without a final line end cannot just be joined)"
            }
            Self::ByteOrderMark => {
                "there is a byte-order mark before the BEGIN line; remove it (files that begin with \
                 one cannot just be joined)"
            }
            Self::NotBegun => "there is an END line without its BEGIN line",
            Self::NotEnded => "there is a BEGIN line without its END line",
            Self::OtherEnd => "the END line has another label than its BEGIN line",
            Self::NotBase64 => "the text between BEGIN and END is not Base64",
        })
    }
}

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
