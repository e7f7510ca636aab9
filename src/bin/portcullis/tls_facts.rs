//! What is known about the TLS of a connection, in words, for the admin interface and the access line.

use portcullis::{
    ConnectionInfo,
    connection::{CertificateName, TlsInfo},
};

/// The subject of the client's certificate, or its first name.
pub(crate) fn client_certificate(info: &ConnectionInfo) -> Option<String> {
    let certificate = info.peer_certificate()?;
    if let Some(subject) = &certificate.subject {
        return Some(format!("CN={subject}"));
    }
    certificate.names.iter().find_map(text_of)
}

/// A name of any kind, without its kind.
pub(crate) fn text_of(name: &CertificateName) -> Option<String> {
    Some(match name {
        CertificateName::Dns(name) | CertificateName::Uri(name) | CertificateName::Mail(name) => {
            name.clone()
        }
        CertificateName::Ip(address) => address.to_string(),
        _ => return None,
    })
}

/// The version, such as `1.3`.
pub(crate) fn version(tls: &TlsInfo) -> Option<&'static str> {
    Some(match tls.version? {
        "TLSv1_2" => "1.2",
        "TLSv1_3" => "1.3",
        other => other,
    })
}

/// The cipher suite by its registered name.
pub(crate) fn cipher(tls: &TlsInfo) -> Option<String> {
    let suite = tls.cipher_suite?;
    Some(suite.replacen("TLS13_", "TLS_", 1))
}
