//! Layers under hyper's client, and under tonic's, over loopback.

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod https;
use crate::support::{Fixture, eventually, paused_scenario, scenario};
use axum::{Extension, Router, routing::get};
use http::{Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::{
    client::legacy::{Client, Error, connect::Connect},
    rt::TokioExecutor,
};
use portcullis::{
    ConnectionInfo, ServiceBuilderExt,
    connect::{
        ConnectError, Connector,
        http::{BadUri, Dial, HttpConnector, UriError},
        phase,
    },
    middleware::{
        error::{Elapsed, Refused, TimeoutPhase, find},
        limit::ConnectionLimitLayer,
        observe::ByteCounter,
        timeout::IoTimeoutLayer,
    },
    server::Stack,
    service::HttpService,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpStream, sync::Semaphore, time::Instant};
use tower::ServiceBuilder;

/// A client over `connector`.
fn client<C>(connector: C) -> Client<C, Empty<Bytes>>
where
    C: Connect + Clone,
{
    Client::builder(TokioExecutor::new()).build(connector)
}

/// For one connection at a time: hyper puts it back into its pool a moment after the response has ended,
/// and a request that comes sooner would make another. What it began then ends with the bound.
fn one_connection() -> HttpConnector<Dial<Connector>> {
    HttpConnector::new(Connector::new()).with_timeout(Duration::from_secs(2))
}

async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

fn uri(scheme: &str, server: SocketAddr) -> Uri {
    let port = server.port();
    format!("{scheme}://localhost:{port}/").parse().unwrap()
}

/// Says how many bytes its server had read by the time the request came.
fn byte_teller() -> Router {
    let tell = async |Extension(info): Extension<ConnectionInfo>| info.bytes_read().to_string();
    Router::new().route("/", get(tell))
}

fn serving(router: Router) -> impl Stack<TcpStream> {
    ServiceBuilder::new()
        .peer_addr()
        .service(HttpService::new(router))
}

fn info(response: &Response<Incoming>) -> ConnectionInfo {
    response
        .extensions()
        .get::<ConnectionInfo>()
        .unwrap()
        .clone()
}

#[test]
fn bytes_are_counted_and_one_connection_serves_several_requests() {
    scenario(async {
        let server = Fixture::serve(serving(byte_teller()));
        let counter = ByteCounter::new();
        let layers = ServiceBuilder::new()
            .connection_limit(1)
            .io_timeout()
            .count_bytes(counter.clone());
        let connector = one_connection().with_layers(layers);
        let client = client(connector);

        let mut ids = Vec::new();
        for _ in 0..3 {
            let response = client.get(uri("http", server.address)).await.unwrap();
            assert_eq!(response.version(), Version::HTTP_11);
            let info = info(&response);
            assert_eq!(info.peer_addr(), Some(server.address));
            assert_eq!(text(response).await, counter.bytes_written().to_string());
            assert_eq!(counter.bytes_read(), info.bytes_read());
            assert_eq!(counter.bytes_written(), info.bytes_written());
            ids.push(info.id());
        }
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(server.status().accepted, 1);
        drop(client);
        server.finish().await;
    });
}

#[test]
fn a_layers_extensions_reach_the_response() {
    scenario(async {
        let server = Fixture::serve(serving(byte_teller()));
        let layers = ServiceBuilder::new().connection_fn(async |mut connection, next| {
            portcullis::Connection::extensions_mut(&mut connection).insert("mine");
            next.run(connection).await
        });
        let client = client(HttpConnector::new(Connector::new()).with_layers(layers));
        let response = client.get(uri("http", server.address)).await.unwrap();
        let left = response
            .extensions()
            .get::<portcullis::connection::Extensions>();
        assert_eq!(left.unwrap().get::<&str>(), Some(&"mine"));
        drop((response, client));
        server.finish().await;
    });
}

#[test]
fn a_read_timeout_ends_a_request_to_a_silent_server() {
    paused_scenario(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bound = Duration::from_secs(5);
        let timeout = IoTimeoutLayer::new().with_read_timeout(bound);
        let client = client(HttpConnector::new(Connector::new()).with_layers(timeout));

        let begun = Instant::now();
        let uri = format!("http://{address}/").parse().unwrap();
        let silent = async {
            let (stream, _) = listener.accept().await.unwrap();
            stream
        };
        let (answer, _stream) = tokio::join!(client.get(uri), silent);
        let error = answer.unwrap_err();
        let elapsed = find::<Elapsed>(&error).expect("it is a timeout");
        assert_eq!(
            (elapsed.phase(), elapsed.after()),
            (TimeoutPhase::READ, bound)
        );
        assert!(begun.elapsed() >= bound && begun.elapsed() < 2 * bound);
    });
}

/// Counts how many requests are with it at once, each of which needs a permit of `gate`.
fn gated(gate: &Arc<Semaphore>, most: &Arc<AtomicUsize>, reuse: bool) -> Router {
    let (gate, most, now) = (gate.clone(), most.clone(), Arc::new(AtomicUsize::new(0)));
    let handler = async move || {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        gate.acquire().await.unwrap().forget();
        now.fetch_sub(1, Ordering::SeqCst);
        let connection = if reuse { "keep-alive" } else { "close" };
        [("connection", connection)]
    };
    Router::new().route("/", get(handler))
}

/// Has six requests share two connections at once; returns how many connections were made.
async fn six_requests_over_two_connections(reuse: bool) -> u64 {
    let (gate, most) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let server = Fixture::serve(serving(gated(&gate, &most, reuse)));
    let (limit, handle) = ConnectionLimitLayer::pair(2);
    // hyper's pool leaves attempts behind that wait for room: they hold it until their time is over.
    let connector = HttpConnector::new(Connector::new())
        .with_layers(limit)
        .with_timeout(Duration::from_secs(2));
    let client = client(connector);
    let requests: Vec<_> = (0..6)
        .map(|_| tokio::spawn(client.get(uri("http", server.address))))
        .collect();
    eventually("two are served and four wait", || {
        most.load(Ordering::SeqCst) == 2 && handle.waiting() == 4
    })
    .await;
    gate.add_permits(6);
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
    assert!(handle.active() <= 2);
    let accepted = server.status().accepted;
    drop(client);
    eventually("no slot is taken", || handle.active() == 0).await;
    server.finish().await;
    accepted
}

#[test]
fn a_limit_bounds_the_connections_of_a_client() {
    scenario(async {
        // Those that waited for room may have made theirs when another became free.
        assert!(six_requests_over_two_connections(true).await >= 2);
        assert_eq!(six_requests_over_two_connections(false).await, 6);
    });
}

#[test]
fn waiting_for_room_has_a_bound() {
    paused_scenario(async {
        let server = Fixture::serve(serving(byte_teller()));
        let (limit, handle) = ConnectionLimitLayer::pair(0);
        let connector = HttpConnector::new(Connector::new()).with_layers(limit);
        let begun = Instant::now();
        let error = failure(connector, uri("http", server.address).to_string()).await;
        let elapsed = find::<Elapsed>(&error).unwrap();
        let bound = Duration::from_secs(30);
        assert_eq!(
            (elapsed.phase(), elapsed.after()),
            (phase::ADMISSION, bound)
        );
        assert_eq!((begun.elapsed(), handle.waiting()), (bound, 0));
        server.finish().await;
    });
}

/// What a request to `uri` fails with.
async fn failure<C>(connector: C, uri: impl AsRef<str>) -> Error
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let uri = uri.as_ref().parse().unwrap();
    let error = client(connector).get(uri).await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
    error
}

#[test]
fn failures_to_connect_keep_their_types() {
    scenario(async {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = closed.local_addr().unwrap();
        drop(closed);
        let connector = || HttpConnector::new(Connector::new());
        let refused = failure(connector(), format!("http://{address}/")).await;
        assert!(find::<ConnectError>(&refused).unwrap().is_refused());

        for (uri, problem) in [
            ("https://localhost/", BadUri::NoTls),
            ("ftp://localhost/", BadUri::UnknownScheme),
            ("http://localhost:65536/", BadUri::BadPort),
        ] {
            let error = failure(connector(), uri).await;
            let error = find::<UriError>(&error).unwrap();
            assert_eq!(error.problem(), problem, "{uri}");
        }

        let server = Fixture::serve(serving(byte_teller()));
        let full = connector().with_layers(ConnectionLimitLayer::new(0).refuse());
        let error = failure(full, format!("http://{}/", server.address)).await;
        assert!(find::<Refused>(&error).is_some());
        server.finish().await;
    });
}

#[test]
fn ipv6_addresses_are_connected_to() {
    scenario(async {
        let Ok(listener) = portcullis::listener::TcpListener::bind("[::1]:0") else {
            return; // This machine has no IPv6.
        };
        let address = listener.local_addr().unwrap();
        let server = portcullis::Server::new().listen(listener, serving(byte_teller()));
        let handle = server.spawn().unwrap();
        let client = client(HttpConnector::new(Connector::new()));
        let response = client
            .get(format!("http://{address}/").parse().unwrap())
            .await;
        assert_eq!(info(&response.unwrap()).peer_addr(), Some(address));
        drop(client);
        handle.stop();
        handle.wait().await;
    });
}

/// Answers every call with `NOT_FOUND`.
fn grpc() -> Router {
    Router::new().fallback(async || [("content-type", "application/grpc"), ("grpc-status", "5")])
}

/// Calls a method by `channel`; returns what the status says.
async fn call(channel: tonic::transport::Channel) -> tonic::Code {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::from_static("/a.Service/Method");
    let answer = grpc.unary(tonic::Request::new(()), path, codec).await;
    answer.unwrap_err().code()
}

#[test]
fn tonics_endpoint_takes_the_connector() {
    scenario(async {
        let server = Fixture::serve(serving(grpc()));
        let counter = ByteCounter::new();
        let layers = ServiceBuilder::new()
            .connection_limit(1)
            .count_bytes(counter.clone());
        let connector = HttpConnector::new(Connector::new()).with_layers(layers);
        let endpoint = tonic::transport::Endpoint::from(uri("http", server.address));
        let channel = endpoint.connect_with_connector(connector).await.unwrap();
        assert_eq!(call(channel).await, tonic::Code::NotFound);
        assert!(counter.bytes_written() > 0);
        server.finish().await;
    });
}
