//! Extractors: what a handler may ask of the connection that its request came on.

use super::Rejection;
use ::axum::extract::{ConnectInfo, FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;
use portcullis_middleware::ConnectionInfo;
use std::{convert::Infallible, fmt};

/// All that is known of the connection.
///
/// Rejects with [`Rejection`] where nothing is; `Option<Info>` is `None` then. In a test without a
/// server, `.layer(Extension(info))` on the router tells it something.
///
/// ```
/// use axum::{Extension, Router, body::Body, http::Request, routing::get};
/// use portcullis::{ConnectionInfo, axum::Info, connection::Address};
/// # use tower::ServiceExt;
///
/// async fn who(Info(connection): Info) -> String {
///     format!("connection {} of {}", connection.id(), connection.peer())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), portcullis::BoxError> {
/// let info = ConnectionInfo::new(Address::Unknown, Address::Unknown);
/// let router = Router::new().route("/", get(who)).layer(Extension(info));
///
/// let response = router.oneshot(Request::new(Body::empty())).await?;
/// assert!(response.status().is_success());
/// # Ok(())
/// # }
/// ```
///
/// It is a type for axum's own `into_make_service_with_connect_info` too; the extractors work then, and
/// so does `ConnectInfo<Info>`.
#[derive(Clone, Debug)]
pub struct Info(pub ConnectionInfo);

impl<S: Send + Sync> FromRequestParts<S> for Info {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
        info(parts).cloned().map(Self)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Info {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(info(parts).ok().cloned().map(Self))
    }
}

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
/// # info.set_tls(tls);
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

/// The host that the client named in its TLS handshake (SNI, RFC 6066).
///
/// A client may name one host here and another one in its requests. Where the two must agree, because
/// hosts differ in whom they let in, compare them.
///
/// Rejects with `400` where the client named none; `Option<ServerName>` is `None` then, also without
/// TLS. Rejects with `500`, both ways, where nothing is known of the connection.
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
/// # info.set_tls(tls);
/// # let named = router.oneshot(Request::new(Body::empty())).await?;
/// # let body = axum::body::to_bytes(named.into_body(), 100).await?;
/// # assert_eq!(body, "welcome to example.org");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ServerName {
    // Has a name: what TLS agreed on is set once and stays.
    info: ConnectionInfo,
}

impl ServerName {
    /// The name of the host.
    pub fn as_str(&self) -> &str {
        server_name(&self.info).unwrap_or_default()
    }

    /// `None` where the client named none.
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

/// What the request was told of its connection: by `HttpService` and [`MakeService`](super::MakeService)
/// as itself, by axum's make service as `ConnectInfo`.
fn info(parts: &Parts) -> Result<&ConnectionInfo, Rejection> {
    let told = parts.extensions.get::<ConnectionInfo>();
    let connected = || {
        let ConnectInfo(Info(info)) = parts.extensions.get()?;
        Some(info)
    };
    told.or_else(connected).ok_or(Rejection::NO_CONNECTION)
}

fn certificates(info: &ConnectionInfo) -> &[Vec<u8>] {
    info.tls().map_or(&[], |tls| &tls.peer_certificates)
}

fn server_name(info: &ConnectionInfo) -> Option<&str> {
    info.tls()?.server_name.as_deref()
}
