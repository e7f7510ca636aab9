//! The trait of services that serve HTTP requests.

use super::RequestBody;
use http::{Request, Response};
use http_body::Body;
use portcullis_middleware::BoxError;
use tower::Service;

/// A service of HTTP requests that [`HttpService`](super::HttpService) accepts.
///
/// It is implemented for every matching `tower::Service<http::Request<RequestBody>>`, such as axum's `Router`
/// and tonic's `Routes`, and collects their bounds. It shortens functions that are generic over the service:
///
/// ```
/// use portcullis::{ServiceBuilderExt, service::{HttpService, http::RequestService}, server::Stack};
/// use tokio::net::TcpStream;
/// use tower::ServiceBuilder;
///
/// fn front(requests: impl RequestService) -> impl Stack<TcpStream> {
///     ServiceBuilder::new()
///         .peer_addr()
///         .connection_limit(1000)
///         .service(HttpService::new(requests))
/// }
///
/// let stack = front(axum::Router::new());
/// # portcullis::Server::new().listen(portcullis::listener::TcpListener::bind("127.0.0.1:0")?, stack);
/// # Ok::<_, std::io::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot serve HTTP requests at the end of a stack",
    label = "not a `Service<http::Request<RequestBody>> + Clone + Send + 'static` that answers with an `http::Response`",
    note = "its error converts into `BoxError`, its future is `Send + 'static`, and so is the body of its responses"
)]
pub trait RequestService:
    Service<
        Request<RequestBody>,
        Response = Response<Self::ResponseBody>,
        Error: Into<BoxError>,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
    /// The body of its responses.
    type ResponseBody: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B> RequestService for S
where
    S: Service<
            Request<RequestBody>,
            Response = Response<B>,
            Error: Into<BoxError>,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type ResponseBody = B;
}
