//! Checks the structure of a ClientHello and finds its fields.

use super::{
    error::{ClientHelloError, HelloProblem},
    server_name::check_host_name,
};
use std::{net::IpAddr, ops::Range};

/// Where the fields are in the message (RFC 8446, section 4.1.2). Absent ones are empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) version: u16,
    pub(super) cipher_suites: Range<usize>,
    pub(super) extensions: Range<usize>,
    /// Without a trailing dot; `None` also for an IP address, which TLS does not allow here.
    pub(super) server_name: Option<Range<usize>>,
    pub(super) has_server_name: bool,
    pub(super) alpn: Range<usize>,
    pub(super) supported_versions: Range<usize>,
    pub(super) signature_algorithms: Range<usize>,
}

impl Fields {
    pub(super) fn find(body: &[u8]) -> Result<Self, ClientHelloError> {
        let mut reader = Reader::new(body, 0..body.len());
        let mut fields = Self::default();
        let version = reader.u16().ok_or(malformed("version"))?;
        fields.version = version;
        reader.take(RANDOM).ok_or(malformed("random"))?;
        let session = reader.block(1).ok_or(malformed("session id"))?;
        if session.len() > 32 {
            return Err(malformed("session id"));
        }
        fields.cipher_suites = reader.pairs(2).ok_or(malformed("cipher suites"))?;
        let compression = reader.block(1).ok_or(malformed("compression methods"))?;
        if compression.is_empty() {
            return Err(malformed("compression methods"));
        }
        if !reader.is_empty() {
            fields.extensions = reader.last_block(2).ok_or(malformed("extensions"))?;
            fields.find_extensions(body)?;
        }
        Ok(fields)
    }

    fn find_extensions(&mut self, body: &[u8]) -> Result<(), ClientHelloError> {
        let mut reader = Reader::new(body, self.extensions.clone());
        let mut seen = [0_u64; 1 << 10];
        while !reader.is_empty() {
            let (kind, value) = reader.extension().ok_or(malformed("extensions"))?;
            let (word, bit) = (usize::from(kind >> 6), 1 << (kind & 63));
            if seen[word] & bit != 0 {
                return Err(HelloProblem::Duplicate(kind).into());
            }
            seen[word] |= bit;
            let mut value = Reader::new(body, value);
            match kind {
                SERVER_NAME => {
                    self.has_server_name = true;
                    self.server_name = value.server_name()?;
                }
                ALPN => {
                    self.alpn = value.protocol_names().ok_or(malformed("extension ALPN"))?;
                }
                SUPPORTED_VERSIONS => {
                    let versions = value.last_pairs(1);
                    self.supported_versions =
                        versions.ok_or(malformed("extension supported_versions"))?;
                }
                SIGNATURE_ALGORITHMS => {
                    let algorithms = value.last_pairs(2);
                    self.signature_algorithms =
                        algorithms.ok_or(malformed("extension signature_algorithms"))?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

const fn malformed(field: &'static str) -> ClientHelloError {
    ClientHelloError(HelloProblem::Malformed(field))
}

/// Reads a part of the message. Methods return `None` where the part ends early.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    rest: Range<usize>,
}

impl<'a> Reader<'a> {
    /// Reads `part` of `bytes`, which it must be inside of.
    pub(super) const fn new(bytes: &'a [u8], part: Range<usize>) -> Self {
        Self { bytes, rest: part }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.start == self.rest.end
    }

    fn take(&mut self, length: usize) -> Option<Range<usize>> {
        if length > self.rest.len() {
            return None;
        }
        let begin = self.rest.start;
        self.rest.start += length;
        Some(begin..self.rest.start)
    }

    /// A number of `width` bytes.
    fn number(&mut self, width: usize) -> Option<usize> {
        let bytes = &self.bytes[self.take(width)?];
        Some(bytes.iter().fold(0, |sum, &b| sum << 8 | usize::from(b)))
    }

    fn u16(&mut self) -> Option<u16> {
        self.number(2)?.try_into().ok()
    }

    /// A block behind its length, which is a number of `width` bytes.
    pub(super) fn block(&mut self, width: usize) -> Option<Range<usize>> {
        let length = self.number(width)?;
        self.take(length)
    }

    /// The same, and nothing behind it.
    fn last_block(&mut self, width: usize) -> Option<Range<usize>> {
        self.block(width).filter(|_| self.is_empty())
    }

    /// A block of at least one number of two bytes.
    fn pairs(&mut self, width: usize) -> Option<Range<usize>> {
        let block = self.block(width)?;
        (!block.is_empty() && block.len().is_multiple_of(2)).then_some(block)
    }

    fn last_pairs(&mut self, width: usize) -> Option<Range<usize>> {
        self.pairs(width).filter(|_| self.is_empty())
    }

    /// The type and the value of an extension.
    pub(super) fn extension(&mut self) -> Option<(u16, Range<usize>)> {
        Some((self.u16()?, self.block(2)?))
    }

    /// The list of protocol names without its length (RFC 7301, section 3.1).
    fn protocol_names(&mut self) -> Option<Range<usize>> {
        let list = self.last_block(2)?;
        let mut names = Reader::new(self.bytes, list.clone());
        while !names.is_empty() {
            names.block(1).filter(|name| !name.is_empty())?;
        }
        (!list.is_empty()).then_some(list)
    }

    /// The host name (RFC 6066, section 3).
    fn server_name(&mut self) -> Result<Option<Range<usize>>, ClientHelloError> {
        let list = self.last_block(2);
        let mut names = Reader::new(self.bytes, list.ok_or(malformed("extension server_name"))?);
        let mut found = None;
        while !names.is_empty() {
            // The length of names of other types is unknown, so the list cannot be read beyond them.
            if names.number(1) != Some(HOST_NAME) {
                break;
            }
            let name = names.block(2).ok_or(malformed("extension server_name"))?;
            if found.replace(name).is_some() {
                return Err(HelloProblem::ServerName.into());
            }
        }
        let mut name = found.ok_or(HelloProblem::ServerName)?;
        let text =
            str::from_utf8(&self.bytes[name.clone()]).map_err(|_| HelloProblem::ServerName)?;
        if text.parse::<IpAddr>().is_ok() {
            return Ok(None);
        }
        check_host_name(text)?;
        name.end -= usize::from(text.ends_with('.'));
        Ok(Some(name))
    }
}

pub(in crate::peek) const SERVER_NAME: u16 = 0;
const SIGNATURE_ALGORITHMS: u16 = 13;
pub(in crate::peek) const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const HOST_NAME: usize = 0;
const RANDOM: usize = 32;
