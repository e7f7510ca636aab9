//! The facts of a certificate, for access rules and reports.
//!
//! Verifiers have accepted the certificate before, but they skip most of these fields. A certificate whose
//! structure is damaged has no facts, and a name that is unusual as text is left out, so that it grants no
//! rights.

use super::{
    OBJECT_IDENTIFIER, Outline, SEQUENCE,
    der::Der,
    extension::{extension, extensions_of},
};
use crate::{
    connection::{CertificateFacts, CertificateName},
    tls::rustls::{
        SupportedCipherSuite,
        crypto::{
            CryptoProvider,
            hash::{Hash, HashAlgorithm},
        },
    },
};
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime},
};

/// The facts of a certificate in DER; `None` if it is damaged.
pub(in crate::tls) fn facts(
    certificate: &[u8],
    sha256: Option<&dyn Hash>,
) -> Option<CertificateFacts> {
    let outline = Outline::read(certificate)?;
    let key = Der(outline.rest).element(SEQUENCE)?;
    let mut facts = CertificateFacts::new(time(outline.not_before)?, time(outline.not_after)?);
    facts.names = names(extensions_of(&outline)?)?;
    facts.subject = attribute(outline.subject, COMMON_NAME);
    facts.issuer = named(outline.issuer);
    facts.serial = hexadecimal(outline.serial);
    facts.spki_sha256 = sha256.and_then(|sha256| sha256.hash(key).as_ref().try_into().ok());
    Some(facts)
}

/// The SHA-256 of `provider`, which its cipher suites contain.
pub(in crate::tls) fn sha256(provider: &CryptoProvider) -> Option<&'static dyn Hash> {
    let suites = provider.cipher_suites.iter();
    suites
        .map(|suite| match suite {
            SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider,
            SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider,
        })
        .find(|hash| hash.algorithm() == HashAlgorithm::SHA256)
}

/// The alternative names in the list of extensions (RFC 5280, section 4.2.1.6).
fn names(extensions: &[u8]) -> Option<Vec<CertificateName>> {
    let mut found = Vec::new();
    let Some(content) = extension(extensions, SUBJECT_ALT_NAME)? else {
        return Some(found);
    };
    let mut names = Der(Der(content).value(SEQUENCE)?);
    while !names.is_empty() {
        let (tag, name) = names.any()?;
        found.extend(general_name(tag, name));
    }
    Some(found)
}

/// A name of a kind that is reported.
fn general_name(tag: u8, name: &[u8]) -> Option<CertificateName> {
    // An IA5String.
    let ascii = || name.is_ascii().then(|| text(name)).flatten();
    Some(match tag {
        MAIL => CertificateName::Mail(ascii()?),
        DNS => CertificateName::Dns(ascii()?),
        URI => CertificateName::Uri(ascii()?),
        IP => CertificateName::Ip(match name.len() {
            4 => Ipv4Addr::from(<[u8; 4]>::try_from(name).ok()?).into(),
            _ => Ipv6Addr::from(<[u8; 16]>::try_from(name).ok()?).into(),
        }),
        _ => return None,
    })
}

/// The common name in the name of an authority, or its organization if it has none.
pub(super) fn named(authority: &[u8]) -> Option<String> {
    attribute(authority, COMMON_NAME).or_else(|| attribute(authority, ORGANIZATION))
}

/// The only value of an attribute in a name (RFC 5280, section 4.1.2.4); `None` if it is ambiguous.
fn attribute(name: &[u8], attribute: &[u8]) -> Option<String> {
    let mut found = None;
    let mut name = Der(name);
    while !name.is_empty() {
        let mut relative = Der(name.value(SET)?);
        while !relative.is_empty() {
            let mut pair = Der(relative.value(SEQUENCE)?);
            if pair.value(OBJECT_IDENTIFIER)? != attribute {
                continue;
            }
            if found.is_some() {
                return None;
            }
            found = Some(match pair.any()? {
                (UTF8_STRING, value) => text(value),
                (PRINTABLE_STRING | IA5_STRING | TELETEX_STRING, value) if value.is_ascii() => {
                    text(value)
                }
                (BMP_STRING, value) => text_of_units(value),
                _ => None,
            });
        }
    }
    found?
}

/// `bytes` as UTF-8, unless a control character could hide a part of it.
fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.contains(char::is_control)).then(|| text.to_owned())
}

/// Two bytes for each character.
fn text_of_units(bytes: &[u8]) -> Option<String> {
    let (units, rest) = bytes.as_chunks();
    let units = units.iter().map(|unit| u16::from_be_bytes(*unit));
    let text: String = char::decode_utf16(units).collect::<Result<_, _>>().ok()?;
    (rest.is_empty() && !text.contains(char::is_control)).then_some(text)
}

fn hexadecimal(number: &[u8]) -> String {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let digits = number[zeros..].iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

pub(super) fn time(seconds: i64) -> Option<SystemTime> {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    match seconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(distance),
        _ => SystemTime::UNIX_EPOCH.checked_sub(distance),
    }
}

const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ORGANIZATION: &[u8] = &[0x55, 4, 10];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 29, 17];
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const BMP_STRING: u8 = 0x1e;
const SET: u8 = 0x31;
const MAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const IP: u8 = 0x87;
