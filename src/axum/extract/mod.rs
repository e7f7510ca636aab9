//! Extractors for the connection of a request.

mod client_certificate;
mod server_name;

pub use self::{client_certificate::ClientCertificate, server_name::ServerName};

use super::Rejection;
use ::axum::extract::{ConnectInfo, FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;
use portcullis_middleware::ConnectionInfo;
use std::convert::Infallible;

/// The [`ConnectionInfo`] of the request's connection.
///
/// Rejects with [`Rejection`] if the request carries no connection info; `Option<Info>` is `None` instead. In
/// tests, add it to the router with `.layer(Extension(info))`.
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
/// It also works with axum's own `into_make_service_with_connect_info`, which makes the extractors and
/// `ConnectInfo<Info>` available.
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

/// Finds the connection info that `HttpService` and [`MakeService`](super::MakeService) insert directly, and
/// axum's make service as `ConnectInfo`.
fn info(parts: &Parts) -> Result<&ConnectionInfo, Rejection> {
    let inserted = parts.extensions.get::<ConnectionInfo>();
    let connected = || {
        let ConnectInfo(Info(info)) = parts.extensions.get()?;
        Some(info)
    };
    inserted.or_else(connected).ok_or(Rejection::NO_CONNECTION)
}
