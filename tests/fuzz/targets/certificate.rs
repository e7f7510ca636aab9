//! What is read of a certificate is what other parsers read.
//!
//! webpki is the verifier, so only certificates that it can read are compared. No name may be missing that it would
//! compare, and none may be there that x509-parser does not find.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_middleware::{
    connection::{CertificateFacts, CertificateName},
    internal::certificate_facts,
    tls::rustls::pki_types::CertificateDer,
};
use std::time::{Duration, SystemTime};
use x509_parser::{
    prelude::{FromDer, GeneralName, X509Certificate},
    x509::X509Name,
};

fn at(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    match seconds {
        0.. => SystemTime::UNIX_EPOCH + distance,
        _ => SystemTime::UNIX_EPOCH - distance,
    }
}

fn is_usual(text: &str) -> bool {
    text.is_ascii() && !text.contains(char::is_control)
}

/// The names that are reported; `None` if the parser doubts one.
fn names(theirs: &X509Certificate<'_>) -> Option<Vec<CertificateName>> {
    let names = theirs.subject_alternative_name().ok()?;
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let mut found = Vec::new();
    for name in names {
        match *name {
            GeneralName::Invalid(..) => return None,
            GeneralName::DNSName(name) if is_usual(name) => {
                found.push(CertificateName::Dns(name.into()))
            }
            GeneralName::URI(name) if is_usual(name) => {
                found.push(CertificateName::Uri(name.into()))
            }
            GeneralName::RFC822Name(name) if is_usual(name) => {
                found.push(CertificateName::Mail(name.into()))
            }
            GeneralName::IPAddress(bytes) => {
                let four = <[u8; 4]>::try_from(bytes).map(Into::into);
                let sixteen = <[u8; 16]>::try_from(bytes).map(Into::into);
                found.extend(four.or(sixteen).map(CertificateName::Ip));
            }
            _ => {}
        }
    }
    Some(found)
}

/// The common name, if there is exactly one.
fn common_name<'a>(name: &'a X509Name<'_>) -> Option<&'a str> {
    let mut names = name.iter_common_name();
    let name = names.next()?.as_str().ok()?;
    names.next().is_none().then_some(name)
}

fn compare(ours: &CertificateFacts, theirs: &X509Certificate<'_>) {
    assert_eq!(ours.not_before, at(theirs.validity().not_before.timestamp()));
    assert_eq!(ours.not_after, at(theirs.validity().not_after.timestamp()));
    let serial = theirs.raw_serial().iter();
    let serial: String = serial.map(|byte| format!("{byte:02x}")).collect();
    let zeros = serial.len() - serial.trim_start_matches("00").len();
    assert_eq!(ours.serial, serial[zeros..]);
    if let Some(names) = names(theirs) {
        // The other parser also takes constructed encodings, which DER forbids.
        let mut names = names.iter();
        assert!(ours.names.iter().all(|name| names.any(|other| other == name)));
    }
    if let (Some(ours), Some(theirs)) = (&ours.subject, common_name(theirs.subject())) {
        assert_eq!(ours, theirs);
    }
    for text in [&ours.subject, &ours.issuer].into_iter().flatten() {
        assert!(!text.contains(char::is_control));
    }
    assert!(ours.spki_sha256.is_some());
}

fuzz_target!(|input: &[u8]| {
    let ours = certificate_facts(input);
    let der = CertificateDer::from(input);
    let (Some(ours), Ok(verified)) = (ours, webpki::EndEntityCert::try_from(&der)) else {
        return;
    };
    // No name is missing that a verifier would compare.
    for name in verified.valid_dns_names() {
        assert!(ours.dns_names().any(|ours| ours == name), "{name}");
    }
    for uri in verified.valid_uri_names().filter(|uri| is_usual(uri)) {
        assert!(ours.uris().any(|ours| ours == uri), "{uri}");
    }
    if let Ok((rest, theirs)) = X509Certificate::from_der(input) {
        assert!(rest.is_empty());
        compare(&ours, &theirs);
    }
});
