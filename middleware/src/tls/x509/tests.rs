//! Comparison with another parser, and damaged input.

use super::{der::seconds, doubts::doubts, *};
use crate::{
    connection::{CertificateFacts, CertificateName},
    tls::rustls::pki_types::CertificateDer,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
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
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
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

/// A certificate with names of all kinds, some of which are left out.
fn with_names() -> Vec<u8> {
    use rcgen::{CustomExtension, DnValue, SanType};
    let mut params = params("the client é", DATES);
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0, 0xab, 0x0c]));
    let text = |text: &str| text.try_into().unwrap();
    params.subject_alt_names = vec![
        SanType::DnsName(text("*.example.org")),
        SanType::DnsName(text("example.org")),
        SanType::URI(text("spiffe://example.org/ada")),
        SanType::Rfc822Name(text("ada@example.org")),
        SanType::IpAddress([192, 0, 2, 7].into()),
        SanType::IpAddress(std::net::Ipv6Addr::LOCALHOST.into()),
        SanType::OtherName((vec![1, 2, 3], "other".to_owned().into())),
        SanType::DnsName(text("ev\nil")),
    ];
    let organization = DnValue::PrintableString("Example".try_into().unwrap());
    let name = &mut params.distinguished_name;
    name.push(DnType::OrganizationName, organization);
    let other = CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
    params.custom_extensions.push(other);
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().to_vec()
}

fn facts_of(der: &[u8]) -> Option<CertificateFacts> {
    facts(der, sha256(&crate::tls::provider()))
}

#[test]
fn all_facts_of_a_certificate_are_read() {
    let facts = facts_of(&with_names()).unwrap();
    assert_eq!(facts.subject.as_deref(), Some("the client é"));
    assert_eq!(facts.issuer.as_deref(), Some("the client é"));
    assert_eq!(facts.serial, "ab0c");
    assert!(facts.dns_names().eq(["*.example.org", "example.org"]));
    assert!(facts.uris().eq(["spiffe://example.org/ada"]));
    let rest: Vec<_> = facts.names.iter().skip(3).cloned().collect();
    assert_eq!(
        rest,
        [
            CertificateName::Mail("ada@example.org".to_owned()),
            CertificateName::Ip([192, 0, 2, 7].into()),
            CertificateName::Ip(std::net::Ipv6Addr::LOCALHOST.into()),
        ]
    );
    let since = facts.not_before.elapsed().unwrap();
    assert!(since > std::time::Duration::from_secs(365 * 86_400));
}

#[test]
fn the_digest_of_a_public_key_covers_what_another_parser_takes_for_the_key() {
    let der = with_names();
    let (_, theirs) = X509Certificate::from_der(&der).unwrap();
    let key = theirs.public_key().raw;
    let digest = rustls_digest(key);
    assert_eq!(facts_of(&der).unwrap().spki_sha256, Some(digest));
    assert_eq!(facts(&der, None).unwrap().spki_sha256, None);
}

fn rustls_digest(bytes: &[u8]) -> [u8; 32] {
    let hash = sha256(&crate::tls::provider()).unwrap();
    hash.hash(bytes).as_ref().try_into().unwrap()
}

/// What another parser reads, without the names that we leave out.
fn same_facts(ours: &CertificateFacts, theirs: &X509Certificate<'_>) -> bool {
    use x509_parser::prelude::GeneralName;
    let usual = |text: &str| text.is_ascii() && !text.contains(char::is_control);
    let san = theirs.subject_alternative_name().ok().flatten();
    let names = san.into_iter().flat_map(|san| &san.value.general_names);
    let names: Vec<_> = names
        .filter_map(|name| match *name {
            GeneralName::DNSName(name) if usual(name) => Some(CertificateName::Dns(name.into())),
            GeneralName::URI(name) if usual(name) => Some(CertificateName::Uri(name.into())),
            GeneralName::RFC822Name(name) if usual(name) => {
                Some(CertificateName::Mail(name.into()))
            }
            GeneralName::IPAddress(&[a, b, c, d]) => Some(CertificateName::Ip([a, b, c, d].into())),
            GeneralName::IPAddress(bytes) => {
                let bytes: [u8; 16] = bytes.try_into().ok()?;
                Some(CertificateName::Ip(bytes.into()))
            }
            _ => None,
        })
        .collect();
    let common = |name: &x509_parser::x509::X509Name<'_>| {
        let names: Vec<_> = name.iter_common_name().collect();
        let text = names.first()?.as_str().ok()?;
        let is_text = names.len() == 1 && !text.contains(char::is_control);
        is_text.then(|| text.to_owned())
    };
    let serial: String = theirs
        .raw_serial()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let zeros = serial.len() - serial.trim_start_matches("00").len();
    ours.names == names
        && (ours.subject.is_none() || ours.subject == common(theirs.subject()))
        && ours.serial == serial[zeros..]
}

/// Damage may make a certificate unreadable. What both parsers still read is equal.
#[test]
fn damage_is_no_panic_and_no_other_fact() {
    let der = with_names();
    let read = |der: &[u8]| {
        let ours = facts_of(der);
        let theirs = X509Certificate::from_der(der);
        if let (Some(ours), Ok((_, theirs))) = (&ours, &theirs) {
            // The other parser ignores some damage inside the extension.
            let is_whole = theirs.subject_alternative_name().is_ok_and(|san| {
                san.is_some_and(|san| {
                    let names = &san.value.general_names;
                    !names
                        .iter()
                        .any(|name| matches!(name, x509_parser::prelude::GeneralName::Invalid(..)))
                })
            });
            assert!(!is_whole || same_facts(ours, theirs), "{ours:?}");
        }
        ours.is_some()
    };
    assert!(read(&der));
    let mut readable = 0;
    for at in 0..der.len() {
        assert!(!read(&der[..at]), "cut at {at}");
        for change in [
            0, 1, 0x0c, 0x16, 0x2f, 0x30, 0x31, 0x7f, 0x80, 0x81, 0x86, 0x87, 0xa3, 0xff,
        ] {
            let mut damaged = der.clone();
            damaged[at] = change;
            readable += usize::from(read(&damaged));
            damaged.truncate(der.len() - at);
            read(&damaged);
        }
    }
    assert!(
        readable > der.len(),
        "{readable} of the damaged ones were compared"
    );
}

#[test]
fn an_ambiguous_common_name_is_none() {
    let mut params = params("one", DATES);
    params
        .distinguished_name
        .push(DnType::CustomDnType(vec![2, 5, 4, 3]), "two");
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let facts = facts_of(der.der()).unwrap();
    assert_eq!(facts.subject, None);
}

/// An element with this tag, of up to 65535 bytes.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let length: &[u8] = match (high, low) {
        (0, ..0x80) => &[low],
        (0, _) => &[0x81, low],
        _ => &[0x82, high, low],
    };
    [&[tag], length, content].concat()
}

/// A certificate without extensions, whose version is this DER.
fn of_version(version: &[u8]) -> Vec<u8> {
    let der = issued("an issuer", "a subject", DATES);
    let mut parts = Der(Der(&der).value(SEQUENCE).unwrap());
    let mut fields = Der(parts.value(SEQUENCE).unwrap());
    fields.value(VERSION).unwrap();
    let mut rest = Der(Outline::read(&der).unwrap().rest);
    rest.value(SEQUENCE).unwrap();
    let kept = &fields.0[..fields.0.len() - rest.0.len()];
    let fields = element(SEQUENCE, &[version, kept].concat());
    element(SEQUENCE, &[&fields, parts.0].concat())
}

#[test]
fn certificates_before_version_3_may_be_those_of_authorities() {
    let [v2, v3] = [1, 2].map(|version| element(VERSION, &[INTEGER, 1, version]));
    for (version, expected) in [(&[][..], true), (&v2, true), (&v3, false)] {
        let certificate = of_version(version);
        assert!(X509Certificate::from_der(&certificate).is_ok());
        assert_eq!(can_issue(&certificate), expected, "{version:x?}");
    }
}

#[test]
fn damage_is_no_panic_and_makes_no_authority() {
    let mut params = params("an authority", DATES);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let own = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let own = own.der().to_vec();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let authority = authority.der().to_vec();
    assert!(!can_issue(&own) && can_issue(&authority));
    for der in [own, authority] {
        for at in 0..der.len() {
            assert!(!can_issue(&der[..at]), "cut at {at}");
            for change in [0, 1, 0x03, 0x04, 0x30, 0x7f, 0x80, 0xa0, 0xa3, 0xff] {
                let mut damaged = der.clone();
                damaged[at] = change;
                if let Ok((_, theirs)) = X509Certificate::from_der(&damaged)
                    && theirs.version().0 == 2
                    && let Ok(constraints) = theirs.basic_constraints()
                {
                    let is_ca = constraints.is_some_and(|it| it.value.ca);
                    assert!(is_ca || !can_issue(&damaged), "{change} at {at}");
                }
            }
        }
    }
}
