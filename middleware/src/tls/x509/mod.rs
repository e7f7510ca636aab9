//! Reads what rustls does not expose of certificates: names, validity, serial number.

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod authority;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod crl;
pub(super) mod der;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod doubts;
mod extension;
mod facts;
#[cfg(test)]
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod tests;

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub(super) use self::authority::{can_issue, issuer};
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub(super) use self::crl::crl_facts;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub(super) use self::doubts::warn_about;
pub(super) use self::facts::{facts, sha256};

use self::der::Der;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
use std::time::SystemTime;

/// Whether `der` is exactly one SEQUENCE.
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub(super) fn is_sequence(der: &[u8]) -> bool {
    let mut der = Der(der);
    der.value(SEQUENCE).is_some() && der.is_empty()
}

/// Whether `der` has the structure of a certificate, of any version and with any extensions.
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub(super) fn is_certificate(der: &[u8]) -> bool {
    let is_signed = || {
        let mut parts = Der(Der(der).value(SEQUENCE)?);
        parts.value(SEQUENCE)?; // what is signed
        parts.value(SEQUENCE)?; // signature algorithm
        parts.value(BIT_STRING)?;
        Some(parts.is_empty())
    };
    is_signed() == Some(true) && Outline::read(der).is_some()
}

/// The fields needed here (RFC 5280, section 4.1), names in DER and times in Unix seconds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outline<'a> {
    /// Whether its version is 3, the only one with extensions.
    is_v3: bool,
    pub(super) serial: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// What follows the subject.
    rest: &'a [u8],
}

impl<'a> Outline<'a> {
    pub(super) fn read(certificate: &'a [u8]) -> Option<Self> {
        let mut der = Der(certificate);
        let mut certificate = Der(der.value(SEQUENCE)?);
        if !der.is_empty() {
            return None;
        }
        let mut fields = Der(certificate.value(SEQUENCE)?);
        let version = Der(fields.optional(VERSION)?).optional(INTEGER)?;
        let serial = fields.value(INTEGER)?;
        fields.value(SEQUENCE)?; // signature algorithm
        let issuer = fields.value(SEQUENCE)?;
        let mut validity = Der(fields.value(SEQUENCE)?);
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let subject = fields.value(SEQUENCE)?;
        validity.is_empty().then_some(Self {
            is_v3: version == [2],
            serial,
            issuer,
            subject,
            not_before,
            not_after,
            rest: fields.0,
        })
    }
}

/// The current time in Unix seconds.
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub(super) fn now() -> i64 {
    let now = SystemTime::UNIX_EPOCH.elapsed();
    now.map_or(0, |now| now.as_secs() as i64)
}

pub(super) const INTEGER: u8 = 0x02;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
