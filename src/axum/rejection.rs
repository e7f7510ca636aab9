//! The rejection of the extractors.

use ::axum::response::{IntoResponse, Response};
use http::StatusCode;
use std::{error, fmt};

/// The request's connection lacks what a handler extracts.
///
/// As a response it has the [status](Self::status), and the reason as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection(Reason);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Connection,
    Certificate,
    ServerName,
}

impl Rejection {
    pub(super) const NO_CONNECTION: Self = Self(Reason::Connection);
    pub(super) const NO_CERTIFICATE: Self = Self(Reason::Certificate);
    pub(super) const NO_SERVER_NAME: Self = Self(Reason::ServerName);

    /// The status of the response.
    ///
    /// - `403` without a client certificate. `401` would have to name a challenge (RFC 9110, section 15.5.2),
    ///   and a client cannot present a certificate on an existing connection.
    /// - `400` without a host name in the TLS handshake, because the client omitted it.
    /// - `500` without connection info, because the router is served without it.
    pub const fn status(self) -> StatusCode {
        match self.0 {
            Reason::Connection => StatusCode::INTERNAL_SERVER_ERROR,
            Reason::Certificate => StatusCode::FORBIDDEN,
            Reason::ServerName => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Reason::Connection => {
                "the request knows nothing of its connection: serve the router with portcullis' \
                 `HttpService`, or give `axum::serve` a `portcullis::axum::MakeService` of it"
            }
            Reason::Certificate => "a client certificate is required",
            Reason::ServerName => "the client sent no host name in its TLS handshake",
        })
    }
}

impl error::Error for Rejection {}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        (self.status(), self.to_string()).into_response()
    }
}
