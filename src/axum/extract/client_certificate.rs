//! Who is calling, by TLS.

use super::{Rejection, info};
use ::axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;
use portcullis_middleware::ConnectionInfo;
use std::fmt;

/// The client's certificate, as the TLS handshake verified it.
///
/// The verifier of the TLS configuration decides whom to trust, whether a certificate is required, and
/// what `verified` means. What the certificate says is the client's text: escape it in logs.
///
/// Rejects with `403` where the client showed none; `Option<ClientCertificate>` is `None` then, also
/// without TLS. Rejects with `500`, both ways, where nothing is known of the connection.
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
    // Has a certificate: what TLS agreed on is set once and stays.
    info: ConnectionInfo,
}

impl ClientCertificate {
    /// The client's own certificate, in DER.
    pub fn der(&self) -> &[u8] {
        self.chain().first().map_or(&[], Vec::as_slice)
    }

    /// What the client showed, in DER: its own certificate first, then those that vouch for it.
    pub fn chain(&self) -> &[Vec<u8>] {
        certificates(&self.info)
    }

    /// `None` where the client showed none.
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
