//! Reads the dates of an OCSP response (RFC 6960, section 4.2.1).
//!
//! Its signature is left to the client, which verifies it in any case.

use crate::tls::x509::{
    INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Outline, SEQUENCE,
    der::{Der, GENERALIZED_TIME},
};
use std::fmt;

/// Why a response is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tls) enum StapleFault {
    Malformed,
    OtherCertificate,
    NotGood,
    NotYetValid,
    OutOfDate,
}

impl fmt::Display for StapleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it is malformed",
            Self::OtherCertificate => "it is for another certificate",
            Self::NotGood => "the certificate is revoked or unknown",
            Self::NotYetValid => "it is not valid yet",
            Self::OutOfDate => "it is out of date",
        })
    }
}

/// The last second in which `response` may be sent with `certificate`.
pub(in crate::tls) fn valid_until(
    response: &[u8],
    certificate: &[u8],
    now: i64,
) -> Result<i64, StapleFault> {
    let outline = Outline::read(certificate).ok_or(StapleFault::Malformed)?;
    let responses = responses(response).ok_or(StapleFault::Malformed)?;
    let found = responses.iter().find(|one| one.serial == outline.serial);
    let single = found.ok_or(StapleFault::OtherCertificate)?;
    if single.status != GOOD {
        return Err(StapleFault::NotGood);
    }
    if now < single.this_update {
        return Err(StapleFault::NotYetValid);
    }
    // Without a date, newer responses are always available and this one stays usable.
    let until = single.next_update.unwrap_or(i64::MAX);
    match now <= until {
        true => Ok(until),
        false => Err(StapleFault::OutOfDate),
    }
}

struct SingleResponse<'a> {
    serial: &'a [u8],
    status: u8,
    this_update: i64,
    next_update: Option<i64>,
}

/// The responses in a successful answer of a responder.
fn responses(response: &[u8]) -> Option<Vec<SingleResponse<'_>>> {
    let mut der = Der(response);
    let mut answer = Der(der.value(SEQUENCE)?);
    let is_successful = der.is_empty() && answer.value(ENUMERATED)? == [0];
    let mut bytes = Der(Der(answer.value(CONTEXT_0)?).value(SEQUENCE)?);
    let is_basic = bytes.value(OBJECT_IDENTIFIER)? == BASIC;
    if !is_successful || !is_basic {
        return None;
    }
    let mut basic = Der(Der(bytes.value(OCTET_STRING)?).value(SEQUENCE)?);
    let mut data = Der(basic.value(SEQUENCE)?);
    data.optional(CONTEXT_0)?; // version
    data.any()?; // responder
    data.value(GENERALIZED_TIME)?; // when it was produced
    let mut list = Der(data.value(SEQUENCE)?);
    let mut found = Vec::new();
    while !list.is_empty() {
        found.push(single(Der(list.value(SEQUENCE)?))?);
    }
    Some(found)
}

fn single(mut response: Der<'_>) -> Option<SingleResponse<'_>> {
    let mut certificate = Der(response.value(SEQUENCE)?);
    certificate.value(SEQUENCE)?; // hash algorithm
    certificate.value(OCTET_STRING)?; // issuer's name
    certificate.value(OCTET_STRING)?; // issuer's key
    let serial = certificate.value(INTEGER)?;
    let (status, _) = response.any()?;
    let this_update = response.time()?;
    let next_update = match response.next_tag() {
        Some(CONTEXT_0) => Some(Der(response.value(CONTEXT_0)?).time()?),
        _ => None,
    };
    Some(SingleResponse {
        serial,
        status,
        this_update,
        next_update,
    })
}

/// id-pkix-ocsp-basic.
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];
const ENUMERATED: u8 = 0x0a;
const CONTEXT_0: u8 = 0xa0;
const GOOD: u8 = 0x80;
