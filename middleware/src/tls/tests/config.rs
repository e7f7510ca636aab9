//! The text of configuration errors, and what it must not contain.

use super::*;
use crate::{
    observe::trace::tests::log::Log,
    tls::{TlsConfigError, load},
};
use std::error::Error;
use tracing::Level;

fn error(chain: &str, key: &str) -> TlsConfigError {
    TlsLayer::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err()
}

/// All possible output of `error`.
fn everything(error: &TlsConfigError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(" {error} {error:?}");
        source = error.source();
    }
    text
}

#[tokio::test]
async fn files_with_a_chain_and_its_key_are_served() {
    let files = Files::new("good");
    let chain = files.write("chain.pem", &SERVER.chain_pem());
    let key = files.write("key.pem", &SERVER.key_pem());
    let layer = TlsLayer::from_pem_files(chain, key).unwrap();
    let (connection, io) = in_memory();
    let served = serve(layer, connection, echo);
    let client = async { talk(connect(client(), io).await?, b"hello").await };
    let (served, received) = tokio::join!(served, client);
    served.unwrap();
    assert_eq!(received.unwrap(), b"hello");
}

#[test]
fn a_missing_file_is_named() {
    let files = Files::new("missing");
    let chain = files.write("chain.pem", &SERVER.chain_pem());
    let missing = files.0.join("no-such-key.pem");
    let error = TlsLayer::from_pem_files(&chain, &missing).unwrap_err();
    assert!(error.is_read() && error.is_key());
    assert_eq!(error.path(), Some(missing.as_path()));
    assert!(error.to_string().contains("no-such-key.pem"));
    let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(source.kind(), io::ErrorKind::NotFound);
}

#[test]
fn the_file_at_fault_is_named() {
    let files = Files::new("swapped");
    let chain = files.write("chain.pem", &SERVER.chain_pem());
    let key = files.write("key.pem", &SERVER.key_pem());
    let swapped = TlsLayer::from_pem_files(&key, &chain).unwrap_err();
    assert_eq!(swapped.path(), Some(key.as_path()));
    assert!(swapped.to_string().contains("has no certificate"));
    let joined = files.write("joined.pem", &two(""));
    let joined_error = TlsLayer::from_pem_files(&joined, &key).unwrap_err();
    assert_eq!(joined_error.path(), Some(joined.as_path()));
    assert!(
        joined_error
            .to_string()
            .contains("joined.pem\" (section 1, line ")
    );
    let twice = TlsLayer::from_pem_files(&chain, &chain).unwrap_err();
    assert_eq!(twice.path(), Some(chain.as_path()));
    assert!(twice.to_string().contains("has no usable key"));
}

#[test]
fn a_key_of_another_certificate_is_found_at_the_start() {
    let other = Identity::new();
    let error = error(&SERVER.chain_pem(), &other.key_pem());
    assert!(error.is_mismatch() && error.is_key());
    assert!(error.path().is_none());
}

#[test]
fn an_encrypted_key_is_asked_to_be_decrypted() {
    let key = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let error = error(&SERVER.chain_pem(), key);
    assert!(error.to_string().contains("decrypt an encrypted key first"));
}

#[test]
fn a_key_of_an_unknown_kind_is_rejected_with_the_reason() {
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let error = error(&SERVER.chain_pem(), key);
    assert!(error.is_key());
    assert!(error.source().unwrap().is::<rustls::Error>());
}

#[test]
fn a_certificate_that_is_none_is_rejected_with_the_reason() {
    let chain = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error = error(chain, &SERVER.key_pem());
    assert!(!error.is_key());
    assert!(error.source().unwrap().is::<rustls::Error>());
}

/// Two certificates in one text, with `between` between them.
fn two(between: &str) -> String {
    let pem = SERVER.chain_pem();
    format!("{}{between}{pem}", pem.trim_end())
}

#[test]
fn all_certificates_of_a_chain_are_served() {
    for chain in [
        two("\n"),
        two("\r\n\r\nsubject=CN = anybody\n"),
        format!("\u{feff}{}", two("\n")),
        two("\n").replace("CERTIFICATE", "X509 CERTIFICATE"),
        format!("{}{}", SERVER.key_pem(), two("\n")),
    ] {
        let key = load::certified_key(chain.as_bytes(), SERVER.key_pem().as_bytes()).unwrap();
        assert_eq!(key.cert.len(), 2, "{chain}");
        TlsLayer::from_pem(chain.as_bytes(), SERVER.key_pem().as_bytes()).unwrap();
    }
}

#[test]
fn a_chain_of_which_one_certificate_would_be_lost_is_refused_with_its_line() {
    let lines = SERVER.chain_pem().lines().count();
    for (between, section, line) in [
        ("", 1, lines),
        ("\n\u{feff}", 2, lines + 1),
        ("\n ", 2, lines + 1),
        ("\n\n\t", 2, lines + 2),
        ("\n\"", 2, lines + 1),
        ("\n#", 2, lines + 1),
    ] {
        let error = error(&two(between), &SERVER.key_pem());
        assert!(!error.is_key(), "{error}");
        assert_eq!(
            (error.section(), error.line()),
            (Some(section), Some(line)),
            "{error}"
        );
        let text = format!("certificate chain (section {section}, line {line}) is not valid PEM: ");
        assert!(error.to_string().starts_with(&text), "{error}");
    }
}

#[test]
fn before_the_first_certificate_too_the_chain_is_at_fault() {
    for damage in [" ", "\"", "\u{feff}\u{feff}"] {
        let error = error(
            &format!("{damage}{}", SERVER.chain_pem()),
            &SERVER.key_pem(),
        );
        assert!(!error.is_key() && error.line() == Some(1), "{error}");
    }
}

#[test]
fn each_certificate_of_a_chain_has_to_be_one() {
    let pem = SERVER.chain_pem();
    let cut = {
        let mut lines: Vec<_> = pem.lines().collect();
        lines.remove(2);
        lines.join("\n")
    };
    let key = SERVER.key_pem().replace("PRIVATE KEY", "CERTIFICATE");
    let empty = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_owned();
    let random = empty.replace("-----END", "c29tZSByYW5kb20gYnl0ZXM=\n-----END");
    for second in [&cut, &key, &empty, &random] {
        let error = error(&format!("{pem}{second}"), &SERVER.key_pem());
        let line = pem.lines().count() + 1;
        assert_eq!(
            (error.section(), error.line()),
            (Some(2), Some(line)),
            "{error}"
        );
        assert!(
            error.to_string().contains("well-formed X.509 certificate"),
            "{error}"
        );
        let body: String = key.lines().skip(1).take(1).collect();
        assert!(!everything(&error).contains(&body));
    }
    let garbage = CertificateDer::from(vec![1, 2, 3]);
    let chain = [SERVER.chain(), vec![garbage]].concat();
    let error = TlsLayer::from_der(chain, SERVER.key()).unwrap_err();
    assert!(error.to_string().contains("(certificate 2)"), "{error}");
}

/// An authority whose certificate has a critical extension that rustls does not support.
fn constrained_authority() -> String {
    use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyPair};
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // requireExplicitPolicy, after zero certificates (RFC 5280, section 4.2.1.11).
    let (oid, content) = ([2, 5, 29, 36], vec![0x30, 0x03, 0x80, 0x01, 0x00]);
    let mut extension = CustomExtension::from_oid_content(&oid, content);
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
    params
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap()
        .pem()
}

#[test]
fn an_issuer_may_have_what_only_its_clients_have_to_understand() {
    let (own, issuer) = (SERVER.chain_pem(), constrained_authority());
    let chain = format!("{own}{issuer}");
    let key = load::certified_key(chain.as_bytes(), SERVER.key_pem().as_bytes()).unwrap();
    assert_eq!(key.cert.len(), 2);
    TlsLayer::from_der(key.cert, SERVER.key()).unwrap();
    let error = error(&issuer, &SERVER.key_pem());
    assert!(!error.is_key() && error.line() == Some(1), "{error}");
}

#[test]
fn sections_of_another_kind_in_a_chain_are_refused_by_name() {
    for label in [
        "TRUSTED CERTIFICATE",
        "CERTIFICATE REQUEST",
        "PKCS7",
        "CERTIFCATE",
    ] {
        let other = SERVER.chain_pem().replace("CERTIFICATE", label);
        let error = error(&format!("{}{other}", SERVER.chain_pem()), &SERVER.key_pem());
        assert_eq!(error.section(), Some(2));
        assert!(
            error.to_string().contains(&format!("BEGIN {label}")),
            "{error}"
        );
    }
}

#[test]
fn keys_that_cannot_be_used_are_told_what_to_do() {
    let pem = SERVER.key_pem();
    let old = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
               DEK-Info: AES-128-CBC,0123\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
    let ssh = pem.replace("PRIVATE", "OPENSSH PRIVATE");
    let dsa = pem.replace("PRIVATE", "DSA PRIVATE");
    let twice = format!("{pem}{pem}");
    for (key, advice) in [
        (old, "decrypt an encrypted key first"),
        (&ssh, "ssh-keygen -p -m PKCS8"),
        (&dsa, "BEGIN DSA PRIVATE KEY"),
        (&twice, "(section 2, line"),
    ] {
        let error = error(&SERVER.chain_pem(), key);
        assert!(
            error.is_key() && error.to_string().contains(advice),
            "{error}"
        );
        assert_eq!(error.is_encrypted(), key.contains("ENCRYPTED"));
    }
    let marked = format!("\u{feff}# the key\n{pem}\n{}", SERVER.chain_pem());
    load::certified_key(SERVER.chain_pem().as_bytes(), marked.as_bytes()).unwrap();
}

#[test]
fn der_where_pem_is_expected_is_told_apart() {
    let short = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)
        .unwrap()
        .serialize_der();
    let error = TlsLayer::from_pem(SERVER.chain_pem().as_bytes(), &short).unwrap_err();
    assert!(error.to_string().contains("is binary"), "{error}");
    let (chain, key) = (
        SERVER.chain()[0].to_vec(),
        SERVER.key().secret_der().to_vec(),
    );
    let error = TlsLayer::from_pem(&chain, SERVER.key_pem().as_bytes()).unwrap_err();
    assert!(
        error.to_string().contains("openssl x509 -inform DER"),
        "{error}"
    );
    let error = TlsLayer::from_pem(SERVER.chain_pem().as_bytes(), &key).unwrap_err();
    assert!(
        error.is_key() && error.to_string().contains("openssl pkey -inform DER"),
        "{error}"
    );
}

#[test]
fn revocation_lists_are_all_there_or_refused() {
    let crl = "-----BEGIN X509 CRL-----\nMAMCAQE=\n-----END X509 CRL-----\n";
    let read = |pem: &str| load::crls(pem.as_bytes());
    assert_eq!(read(&crl.repeat(2)).unwrap().len(), 2);
    assert!(
        read(&SERVER.chain_pem())
            .unwrap_err()
            .to_string()
            .contains("BEGIN X509 CRL")
    );
    for damaged in [crl.replace("MAMC", "MAQC"), format!(" {crl}")] {
        let error = read(&format!("{crl}{damaged}")).unwrap_err();
        assert_eq!(
            (error.section(), error.line()),
            (Some(2), Some(4)),
            "{error}"
        );
    }
}

#[test]
fn what_a_client_will_object_to_is_logged() {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let expired = params.self_signed(&key).unwrap().pem();
    let log = Log::of_lines(Level::INFO);
    TlsLayer::from_pem(expired.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let mut config = server_config(provider(), rustls::ALL_VERSIONS);
    config.max_early_data_size = 1;
    TlsLayer::new(Arc::new(config));
    let lines = log.lines();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.level == Level::WARN));
    assert!(lines[0].text.contains("has expired"), "{}", lines[0].text);
    assert_eq!(lines[0].fields["certificate"], "1");
    assert!(
        lines[1].text.contains("max_early_data_size"),
        "{}",
        lines[1].text
    );
}

#[test]
fn an_empty_chain_is_an_error_and_not_a_server_without_certificate() {
    let error = TlsLayer::from_der(Vec::new(), SERVER.key()).unwrap_err();
    assert!(!error.is_key());
    assert!(error.to_string().contains("has no certificate"));
}

#[test]
fn the_key_is_in_no_text() {
    let pem = SERVER.key_pem();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let one_line = pem.replace(['\n', '\r'], "");
    let cut_short = pem.replace("-----END PRIVATE KEY-----", "");
    let not_base64 = pem.replace("MI", "M!");
    for broken in [one_line, cut_short, not_base64] {
        let error = error(&SERVER.chain_pem(), &broken);
        assert!(error.to_string().contains("is not valid PEM"), "{error}");
        let text = everything(&error);
        let decimal = format!("{:?}", &body.as_bytes()[8..16]);
        let decimal = decimal.trim_matches(['[', ']']);
        assert!(!text.contains(&body[8..16]) && !text.contains(decimal));
    }
    let layer = format!("{:?}", tls_layer().with_alpn(["h2", "\n"]));
    let expected = r#"TlsLayer { alpn: ["h2", "\\n"], handshake_timeout: Some(10s), max_handshakes: 5000, max_computing: "#;
    assert!(layer.starts_with(expected), "{layer}");
    assert!(layer.ends_with(", .. }") && layer.len() < expected.len() + 12);
}

#[test]
#[should_panic(expected = "1 to 255 bytes, not 0")]
fn an_empty_protocol_name_is_found_at_once() {
    let _ = tls_layer().with_alpn(["h2", ""]);
}

#[test]
#[should_panic(expected = "1 to 255 bytes, not 256")]
fn a_protocol_name_that_is_too_long_is_found_at_once() {
    let _ = tls_layer().with_alpn([vec![b'x'; 256]]);
}

#[test]
fn other_layers_keep_their_protocols() {
    let layer = tls_layer();
    let changed = layer.clone().with_alpn(["h2"]);
    assert!(format!("{layer:?}").contains("alpn: []"));
    assert!(format!("{changed:?}").contains(r#"alpn: ["h2"]"#));
}
