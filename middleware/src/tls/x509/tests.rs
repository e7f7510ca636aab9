//! Comparison with another parser, and damaged input.

use super::*;
use rcgen::{CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use x509_parser::prelude::{FromDer, X509Certificate};

type Date = (i32, u8, u8);

fn params(name: &str, (not_before, not_after): (Date, Date)) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let date = |(year, month, day)| rcgen::date_time_ymd(year, month, day);
    params.not_before = date(not_before);
    params.not_after = date(not_after);
    params
}

/// A certificate by `issuer` for `subject`.
fn issued(issuer: &str, subject: &str, dates: (Date, Date)) -> CertificateDer<'static> {
    let mut authority = params(issuer, dates);
    authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params(subject, dates).signed_by(&key, &authority).unwrap();
    certificate.der().clone()
}

const DATES: (Date, Date) = ((2024, 2, 29), (2049, 12, 31));

#[test]
fn what_is_read_is_what_another_parser_reads() {
    for dates in [
        DATES,
        ((1950, 1, 1), (1999, 12, 31)),
        ((1970, 1, 1), (1970, 1, 2)),
        ((2000, 2, 29), (2000, 3, 1)),
        ((2050, 1, 1), (2100, 2, 28)),
        ((2100, 3, 1), (9999, 12, 31)),
    ] {
        let der = issued("an issuer", "a subject", dates);
        let ours = Outline::read(&der).unwrap();
        let (_, theirs) = X509Certificate::from_der(&der).unwrap();
        assert!(same_dates(&ours, &theirs), "{dates:?} {ours:?}");
        assert!(theirs.subject().as_raw().ends_with(ours.subject));
        assert!(theirs.issuer().as_raw().ends_with(ours.issuer));
    }
}

fn same_dates(ours: &Outline<'_>, theirs: &X509Certificate<'_>) -> bool {
    ours.not_before == theirs.validity().not_before.timestamp()
        && ours.not_after == theirs.validity().not_after.timestamp()
}

/// A change may make a certificate unreadable. Dates that both parsers still read are equal.
#[test]
fn damage_is_no_panic_and_no_other_date() {
    let der = issued("an issuer", "a subject", DATES).to_vec();
    for at in 0..der.len() {
        let _ = Outline::read(&der[..at]);
        for change in [0, 1, 0x2f, 0x30, 0x3a, 0x7f, 0x80, 0x81, 0x84, 0xff] {
            let mut damaged = der.clone();
            damaged[at] = change;
            let ours = Outline::read(&damaged);
            let theirs = X509Certificate::from_der(&damaged);
            if let (Some(ours), Ok((_, theirs))) = (&ours, &theirs) {
                assert!(same_dates(ours, theirs), "{change} at {at}: {ours:?}");
            }
            damaged.truncate(der.len() - at);
            let _ = Outline::read(&damaged);
        }
    }
}

#[test]
fn impossible_dates_are_none() {
    for time in [
        "0229000000Z",
        "1301000000Z",
        "0001000000Z",
        "0100000000Z",
        "0431000000Z",
        "0101240000Z",
        "0101006000Z",
        "0101000060Z",
        "0101000000",
        "01010000Z",
        "0101000000+0100",
        "01010000 0Z",
    ] {
        assert_eq!(seconds(2023, time.as_bytes()), None, "{time}");
    }
    assert_eq!(seconds(2024, b"0229000000Z"), Some(1_709_164_800));
    assert_eq!(seconds(1970, b"0101000000Z"), Some(0));
    assert_eq!(seconds(0, b"0301000000Z"), Some(-719_468 * 86_400));
}

#[test]
fn lengths_have_to_be_the_shortest() {
    for der in [
        &[0x30, 0x81, 0x01, 0x00][..],
        &[0x30, 0x82, 0x00, 0x80],
        &[0x30, 0x80, 0x00, 0x00],
        &[0x30, 0x85, 0x01, 0x00, 0x00, 0x00, 0x00],
        &[0x30, 0x01],
        &[0x30, 0x00, 0x00],
        &[0x31, 0x00],
        &[0x30],
        &[],
    ] {
        assert!(!is_sequence(der), "{der:x?}");
    }
    assert!(is_sequence(&[0x30, 0x00]) && is_sequence(&[0x30, 0x01, 0x00]));
}

#[test]
fn an_old_a_new_and_a_strange_certificate_are_told_with_their_numbers() {
    let leaf = issued("middle", "leaf", DATES);
    let middle = issued("root", "middle", DATES);
    let noon = 1_800_000_000;
    let chain = [leaf.clone(), middle.clone()];
    assert!(doubts(&chain, noon).is_empty());
    assert!(doubts(&chain[..1], noon).is_empty());
    let stranger = [middle, leaf.clone()];
    assert_eq!(doubts(&stranger, noon).len(), 1);
    assert!(doubts(&stranger, noon)[0].1.contains("did not issue"));
    assert_eq!(doubts(&stranger, noon)[0].0, 2);

    let outline = Outline::read(&leaf).unwrap();
    let all = |now| doubts(&chain, now);
    assert!(all(outline.not_before).is_empty() && all(outline.not_after).is_empty());
    let early = all(outline.not_before - 1);
    assert!(early[0].1.contains("not valid yet") && (early[0].0, early[1].0) == (1, 2));
    assert!(all(outline.not_after + 1)[0].1.contains("has expired"));
}
