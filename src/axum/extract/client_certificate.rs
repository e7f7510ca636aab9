//! Extracts the client's TLS certificate.

use super::{Rejection, info};
use ::axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;
use portcullis_middleware::{ConnectionInfo, connection::CertificateFacts};
use std::fmt;

/// The client's certificate, as the TLS handshake verified it.
///
/// The verifier of the TLS configuration decides which clients to trust, whether a certificate is required,
/// and what `verified` means. The contents of the certificate are untrusted text, so escape them in logs.
///
/// Rejects with `403` if the client presented none, also without TLS; `Option<ClientCertificate>` is `None`
/// instead. Both reject with `500` if the request carries no connection info.
///
/// ```
/// use axum::{Extension, Router, body::Body, http::{Request, StatusCode}, routing::get};
/// use portcullis::axum::ClientCertificate;
/// # use portcullis::{ConnectionInfo, connection::{Address, TlsInfo}};
/// # use tower::ServiceExt;
///
/// async fn private(certificate: ClientCertificate) -> String {
///     format!("a certificate of {} bytes", certificate.der().len())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), portcullis::BoxError> {
/// # let info = ConnectionInfo::new(Address::Unknown, Address::Unknown);
/// let router = Router::new().route("/", get(private));
/// # let router = router.layer(Extension(info.clone()));
///
/// let anonymous = router.clone().oneshot(Request::new(Body::empty())).await?;
/// assert_eq!(anonymous.status(), StatusCode::FORBIDDEN);
/// # let mut tls = TlsInfo::new();
/// # tls.peer_certificates = vec![b"leaf".to_vec(), b"its issuer".to_vec()];
/// # portcullis::Connection::new((), info).set_tls(tls);
/// # let known = router.oneshot(Request::new(Body::empty())).await?;
/// # assert_eq!(known.status(), StatusCode::OK);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ClientCertificate {
    // Has a certificate; the negotiated TLS parameters are set once and do not change.
    info: ConnectionInfo,
}

impl ClientCertificate {
    /// The client's own certificate, DER-encoded.
    pub fn der(&self) -> &[u8] {
        self.chain().first().map_or(&[], Vec::as_slice)
    }

    /// The names and other facts in the client's own certificate; `None` if they are damaged.
    ///
    /// They are read once per connection.
    pub fn facts(&self) -> Option<&CertificateFacts> {
        self.info.peer_certificate()
    }

    /// The chain that the client presented, DER-encoded, its own certificate first.
    pub fn chain(&self) -> &[Vec<u8>] {
        certificates(&self.info)
    }

    /// `None` if the client presented no certificate.
    fn of(info: &ConnectionInfo) -> Option<Self> {
        let shown = !certificates(info).is_empty();
        shown.then(|| Self { info: info.clone() })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ClientCertificate {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
        Self::of(info(parts)?).ok_or(Rejection::NO_CERTIFICATE)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for ClientCertificate {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Rejection> {
        info(parts).map(Self::of)
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate")
            .field("bytes", &self.der().len())
            .field("chain", &self.chain().len())
            .finish()
    }
}

fn certificates(info: &ConnectionInfo) -> &[Vec<u8>] {
    info.tls().map_or(&[], |tls| &tls.peer_certificates)
}
