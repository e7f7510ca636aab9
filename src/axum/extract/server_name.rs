//! Extracts the host name of the TLS handshake.

use super::{Rejection, info};
use ::axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;
use portcullis_middleware::ConnectionInfo;
use std::fmt;

/// The host name that the client sent in its TLS handshake (SNI, RFC 6066).
///
/// A client may send one host name here and another one in its requests. Compare the two if hosts differ in
/// which clients they admit.
///
/// Rejects with `400` if the client sent none, also without TLS; `Option<ServerName>` is `None` instead. Both
/// reject with `500` if the request carries no connection info.
///
/// ```
/// use axum::{Extension, Router, body::Body, http::{Request, StatusCode}, routing::get};
/// use portcullis::axum::ServerName;
/// # use portcullis::{ConnectionInfo, connection::{Address, TlsInfo}};
/// # use tower::ServiceExt;
///
/// async fn welcome(host: ServerName) -> String {
///     format!("welcome to {host}")
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), portcullis::BoxError> {
/// # let info = ConnectionInfo::new(Address::Unknown, Address::Unknown);
/// let router = Router::new().route("/", get(welcome));
/// # let router = router.layer(Extension(info.clone()));
///
/// let nameless = router.clone().oneshot(Request::new(Body::empty())).await?;
/// assert_eq!(nameless.status(), StatusCode::BAD_REQUEST);
/// # let mut tls = TlsInfo::new();
/// # tls.server_name = Some("example.org".to_owned());
/// # portcullis::Connection::new((), info).set_tls(tls);
/// # let named = router.oneshot(Request::new(Body::empty())).await?;
/// # let body = axum::body::to_bytes(named.into_body(), 100).await?;
/// # assert_eq!(body, "welcome to example.org");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ServerName {
    // Has a name; the negotiated TLS parameters are set once and do not change.
    info: ConnectionInfo,
}

impl ServerName {
    /// The host name.
    pub fn as_str(&self) -> &str {
        server_name(&self.info).unwrap_or_default()
    }

    /// `None` if the client sent no name.
    fn of(info: &ConnectionInfo) -> Option<Self> {
        let named = server_name(info).is_some();
        named.then(|| Self { info: info.clone() })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ServerName {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
        Self::of(info(parts)?).ok_or(Rejection::NO_SERVER_NAME)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for ServerName {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Rejection> {
        info(parts).map(Self::of)
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerName").field(&self.as_str()).finish()
    }
}

fn server_name(info: &ConnectionInfo) -> Option<&str> {
    info.tls()?.server_name.as_deref()
}
