//! What a configuration error says, and what it must not say.

use super::*;
use crate::tls::TlsConfigError;
use std::{error::Error, fs, path::PathBuf};

fn error(chain: &str, key: &str) -> TlsConfigError {
    TlsLayer::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err()
}

/// All that anybody could print of `error`.
fn everything(error: &TlsConfigError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(" {error} {error:?}");
        source = error.source();
    }
    text
}

/// Files in a directory of their own, gone at the end.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let name = format!("portcullis-tls-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
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
    let (served, heard) = tokio::join!(served, client);
    served.unwrap();
    assert_eq!(heard.unwrap(), b"hello");
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
    assert!(layer.config.alpn_protocols.is_empty());
    assert_eq!(changed.config.alpn_protocols, [b"h2"]);
}
