//! Reads issuer and validity of certificates, to warn about chains that clients will reject.
//!
//! A server does not verify its own chain, and rustls does not expose these fields. The warning is only
//! logged, because the clock may be wrong and clients may have the missing certificate.

use super::rustls::pki_types::CertificateDer;
use std::time::SystemTime;

/// Logs problems of `chain` that may make clients reject it, at level WARN.
pub(super) fn warn_about(chain: &[CertificateDer<'_>]) {
    let now = SystemTime::UNIX_EPOCH.elapsed();
    let now = now.map_or(0, |now| now.as_secs() as i64);
    for (number, doubt) in doubts(chain, now) {
        tracing::warn!(certificate = number, "{doubt}");
    }
}

/// Problems of `chain`, each with the number of its certificate, counted from one.
fn doubts(chain: &[CertificateDer<'_>], now: i64) -> Vec<(usize, &'static str)> {
    let outlines: Vec<_> = chain.iter().map(|der| Outline::read(der)).collect();
    let mut doubts = Vec::new();
    for (index, outline) in outlines.iter().enumerate() {
        let Some(outline) = outline else { continue };
        if now > outline.not_after {
            doubts.push((
                index + 1,
                "a certificate of the server has expired, and clients will reject it",
            ));
        }
        if now < outline.not_before {
            doubts.push((
                index + 1,
                "a certificate of the server is not valid yet, and clients will reject it",
            ));
        }
        let before = index.checked_sub(1).and_then(|at| outlines[at].as_ref());
        if before.is_some_and(|before| before.issuer != outline.subject) {
            let doubt = "a certificate of the server's chain did not issue the one before it, and clients may reject it";
            doubts.push((index + 1, doubt));
        }
    }
    doubts
}

/// Whether `der` is exactly one SEQUENCE.
pub(super) fn is_sequence(der: &[u8]) -> bool {
    let mut der = Der(der);
    der.value(SEQUENCE).is_some() && der.0.is_empty()
}

/// Whether `der` has the structure of a certificate, of any version and with any extensions.
pub(super) fn is_certificate(der: &[u8]) -> bool {
    let is_signed = || {
        let mut parts = Der(Der(der).value(SEQUENCE)?);
        parts.value(SEQUENCE)?; // what is signed
        parts.value(SEQUENCE)?; // signature algorithm
        parts.value(BIT_STRING)?;
        Some(parts.0.is_empty())
    };
    is_signed() == Some(true) && Outline::read(der).is_some()
}

/// The fields needed here (RFC 5280, section 4.1), names in DER and times in Unix seconds.
#[derive(Debug, PartialEq, Eq)]
struct Outline<'a> {
    issuer: &'a [u8],
    subject: &'a [u8],
    not_before: i64,
    not_after: i64,
}

impl<'a> Outline<'a> {
    fn read(certificate: &'a [u8]) -> Option<Self> {
        let mut der = Der(certificate);
        let mut certificate = Der(der.value(SEQUENCE)?);
        if !der.0.is_empty() {
            return None;
        }
        let mut fields = Der(certificate.value(SEQUENCE)?);
        if fields.0.first() == Some(&VERSION) {
            fields.value(VERSION)?;
        }
        fields.value(INTEGER)?; // serial number
        fields.value(SEQUENCE)?; // signature algorithm
        let issuer = fields.value(SEQUENCE)?;
        let mut validity = Der(fields.value(SEQUENCE)?);
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let subject = fields.value(SEQUENCE)?;
        validity.0.is_empty().then_some(Self {
            issuer,
            subject,
            not_before,
            not_after,
        })
    }
}

/// The unread part of a DER encoding (X.690).
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The contents of the next element, which must have this tag and a definite, shortest length.
    fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                let push = |length, byte: &u8| length << 8 | usize::from(*byte);
                let length = bytes.iter().fold(0, push);
                let is_shortest = length >= 0x80 && bytes.first() != Some(&0);
                is_shortest.then_some((length, rest))?
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        (*found == tag).then(|| {
            self.0 = rest;
            value
        })
    }

    /// UTCTime or GeneralizedTime in the form that RFC 5280 requires.
    fn time(&mut self) -> Option<i64> {
        if self.0.first() == Some(&UTC_TIME) {
            let (year, rest) = self.value(UTC_TIME)?.split_at_checked(2)?;
            let year = number(year)?;
            let century = if year < 50 { 2000 } else { 1900 };
            return seconds(century + year, rest);
        }
        let (year, rest) = self.value(GENERALIZED_TIME)?.split_at_checked(4)?;
        seconds(number(year)?, rest)
    }
}

/// Unix seconds of `MMDDHHMMSSZ` in `year`.
fn seconds(year: i64, rest: &[u8]) -> Option<i64> {
    let rest = rest.strip_suffix(b"Z").filter(|rest| rest.len() == 10)?;
    let mut fields = [0; 5];
    for (field, digits) in fields.iter_mut().zip(rest.chunks(2)) {
        *field = number(digits)?;
    }
    let [month, day, hour, minute, second] = fields;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Years that begin in March have their odd day at the end (Hinnant, "chrono-Compatible Low-Level
    // Date Algorithms").
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = 365 * year + leap_days + day_of_year - DAYS_TO_1970;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn number(digits: &[u8]) -> Option<i64> {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| {
        digits
            .iter()
            .fold(0, |n, digit| n * 10 + i64::from(digit - b'0'))
    })
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
/// From 1 March of the year 0 to 1 January 1970.
const DAYS_TO_1970: i64 = 719_468;

#[cfg(test)]
mod tests;
