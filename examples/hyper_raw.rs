//! hyper without a framework, with an async function of requests and a manual upgrade.
//!
//! ```text
//! cargo run --release --features http --example hyper_raw      # or: -- 127.0.0.1:8080
//! curl http://127.0.0.1:PORT/
//! curl --http2-prior-knowledge -d 'some text' http://127.0.0.1:PORT/
//! printf 'GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello' | nc 127.0.0.1 PORT
//! ```
//!
//! It echoes request bodies. A request with `upgrade: echo` turns its connection into a raw byte echo without
//! HTTP. At shutdown the server waits for that connection like for any other.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONNECTION, UPGRADE},
};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use portcullis::{
    BoxError, ConnectionInfo, Server, ServiceBuilderExt,
    listener::TcpListener,
    middleware::timeout::IoTimeoutLayer,
    service::{
        HttpService,
        http::{
            RequestBody,
            upgrade::{self, OnUpgrade},
        },
    },
};
use std::{convert::Infallible, env};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(&address)?;
    let address = listener.local_addr()?;
    println!("listening on {address}");
    println!("try: curl -d 'some text' http://{address}/");

    let requests = ServiceBuilder::new()
        .map_request(|request: Request<RequestBody>| request.map(RequestBody::into_inner))
        .service_fn(answer);
    let http = HttpService::new(requests).with_hyper(|hyper| {
        hyper.http1().max_headers(64);
        hyper.http2().max_concurrent_streams(64);
    });
    let stack = ServiceBuilder::new()
        .peer_addr()
        .connection_limit(1000)
        .layer(IoTimeoutLayer::new().without_read_timeout())
        .service(http);
    Server::new()
        .listen(listener, stack)
        .stop_on_signals()
        .run()
        .await?;
    Ok(())
}

type Body = Either<Full<Bytes>, Incoming>;

/// A function in the form that hyper's own examples use.
async fn answer(mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if request.headers().get(UPGRADE) == Some(&ECHO)
        && let Ok(upgrade) = upgrade::on(&mut request)
    {
        tokio::spawn(echo(upgrade));
        let mut response = text(String::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, ECHO);
        return Ok(response);
    }
    if request.method() == Method::POST {
        return Ok(Response::new(Either::Right(request.into_body())));
    }
    let info = request.extensions().get::<ConnectionInfo>();
    let peer = info.and_then(ConnectionInfo::peer_addr);
    let peer = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
    Ok(text(format!("Hello, {peer}!\n")))
}

/// Echoes bytes once hyper has released the connection.
async fn echo(upgrade: OnUpgrade) {
    let Ok(mut connection) = upgrade.await else {
        return; // The client left before it had the response.
    };
    let (mut read, mut write) = tokio::io::split(&mut connection);
    if tokio::io::copy(&mut read, &mut write).await.is_ok() {
        let _gone_already = connection.close().await;
    }
}

fn text(text: String) -> Response<Body> {
    Response::new(Either::Left(Full::from(text)))
}

const ECHO: HeaderValue = HeaderValue::from_static("echo");
