//! Connections that handlers take back after an upgrade.

use crate::support::{Fixture, eventually, paused_scenario, scenario};
use http::{
    Method, Request, Response, StatusCode,
    header::{CONNECTION, UPGRADE},
};
use http_body_util::Empty;
use hyper::{body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::{
    BoxError, Connection, ServiceBuilderExt,
    middleware::{io::BoxIo, limit::ConnectionLimitLayer},
    server::Drain,
    service::{
        HttpService,
        http::{
            RequestBody, RequestService,
            upgrade::{self, UpgradeError},
        },
    },
};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex},
    sync::mpsc,
};
use tower::{Service, ServiceBuilder, service_fn};

const UPGRADE_REQUEST: &str =
    "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
const CONNECT_REQUEST: &str = "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n";

type Taken = Result<Connection<BoxIo>, UpgradeError>;

/// Switches protocols where the client requests it and responds with 200 otherwise.
fn switching<F>(
    handler: impl Fn(Taken) -> F + Clone + Send + Sync + 'static,
) -> HttpService<impl RequestService>
where
    F: Future<Output = ()> + Send + 'static,
{
    HttpService::new(service_fn(move |mut request: Request<RequestBody>| {
        let handler = handler.clone();
        async move {
            let response = Response::builder();
            let response = match upgrade::on(&mut request) {
                Ok(upgrade) => {
                    tokio::spawn(async move { handler(upgrade.await).await });
                    match (request.method(), request.uri().path()) {
                        (&Method::CONNECT, _) | (_, "/stay") => response,
                        _ => response
                            .status(StatusCode::SWITCHING_PROTOCOLS)
                            .header(CONNECTION, "upgrade")
                            .header(UPGRADE, "echo"),
                    }
                }
                Err(error) => {
                    handler(Err(error)).await;
                    response
                }
            };
            Ok::<_, BoxError>(response.body(String::new())?)
        }
    }))
}

/// Reads the head of the response.
async fn head<IO: AsyncRead + Unpin>(client: &mut IO) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn echo(taken: Taken) {
    crate::support::echo(taken.unwrap()).await.unwrap();
}

async fn assert_echoes<IO: AsyncRead + AsyncWrite + Unpin>(mut client: IO) {
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    let mut received = String::new();
    // Under TLS, an end without `close_notify` is an error.
    client.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "hello");
}

#[test]
fn the_connection_is_back_with_its_information() {
    scenario(async {
        let (send, mut infos) = mpsc::unbounded_channel();
        let stack = ServiceBuilder::new()
            .peer_addr()
            .service(switching(move |taken| {
                send.send(taken.as_ref().unwrap().info().clone()).unwrap();
                echo(taken)
            }));
        let server = Fixture::serve(stack);
        for request in [UPGRADE_REQUEST, CONNECT_REQUEST] {
            let mut client = server.connect().await;
            let address = client.local_addr().unwrap();
            client.write_all(request.as_bytes()).await.unwrap();
            head(&mut client).await;
            assert_echoes(client).await;
            assert_eq!(infos.recv().await.unwrap().peer_addr(), Some(address));
        }
        assert!(server.finish().await.force_closed().is_empty());
    });
}

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
#[test]
fn under_tls_it_has_the_parameters_and_a_close_sends_close_notify() {
    use crate::support::tls;
    scenario(async {
        let stack = ServiceBuilder::new()
            .peer_addr()
            .layer(tls::layer())
            .service(switching(|taken| {
                assert!(taken.as_ref().unwrap().tls().is_some());
                echo(taken)
            }));
        let server = Fixture::serve(stack);
        for request in [UPGRADE_REQUEST, CONNECT_REQUEST] {
            let mut client = tls::connect(server.connect().await).await.unwrap();
            client.write_all(request.as_bytes()).await.unwrap();
            head(&mut client).await;
            assert_echoes(client).await;
        }
        server.finish().await;
    });
}

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
#[test]
fn a_declined_upgrade_ends_gracefully_although_the_client_has_sent_more() {
    use crate::support::tls;
    scenario(async {
        for takes in [false, true] {
            let decline = move |mut request: Request<RequestBody>| async move {
                if takes {
                    let upgrade = upgrade::on(&mut request)?;
                    tokio::spawn(async move { upgrade.await.unwrap_err() });
                }
                let response = Response::builder().status(StatusCode::UNAUTHORIZED);
                let response = response.header(CONNECTION, "close");
                Ok::<_, BoxError>(response.body(String::from("no"))?)
            };
            let stack = ServiceBuilder::new()
                .peer_addr()
                .layer(tls::layer())
                .service(HttpService::new(service_fn(decline)));
            let server = Fixture::serve(stack);
            let mut client = tls::connect(server.connect().await).await.unwrap();
            let unread = [b'x'; 100_000];
            let sent = [UPGRADE_REQUEST.as_bytes(), &unread].concat();
            client.write_all(&sent).await.unwrap();
            let mut received = String::new();
            client.read_to_string(&mut received).await.unwrap();
            assert!(received.starts_with("HTTP/1.1 401 "), "{received}");
            assert!(received.ends_with("\r\n\r\nno"), "{received}");
            drop(client);
            server.finish().await;
        }
    });
}

#[test]
fn bytes_that_were_read_ahead_come_first_wherever_they_are_cut() {
    paused_scenario(async {
        for request in [UPGRADE_REQUEST, CONNECT_REQUEST] {
            let bytes = [request.as_bytes(), b"hello"].concat();
            for cut in 1..=bytes.len() {
                let (mut client, ours) = duplex(1024);
                let served = switching(echo).call(Connection::accept(ours));
                let served = tokio::spawn(served);
                client.write_all(&bytes[..cut]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
                client.write_all(&bytes[cut..]).await.unwrap();
                head(&mut client).await;
                client.shutdown().await.unwrap();
                let mut received = String::new();
                client.read_to_string(&mut received).await.unwrap();
                assert_eq!(received, "hello", "cut at {cut}");
                drop(client);
                served.await.unwrap().unwrap();
            }
        }
    });
}

#[test]
fn it_keeps_its_permit_until_it_is_dropped_and_the_drain_waits_for_it() {
    scenario(async {
        let (limit, handle) = ConnectionLimitLayer::pair(1);
        let (send, mut taken) = mpsc::unbounded_channel();
        let stack = ServiceBuilder::new()
            .peer_addr()
            .layer(limit)
            .service(switching(move |taken| {
                send.send(taken.unwrap()).unwrap();
                std::future::ready(())
            }));
        let server = Fixture::serve_with(stack, |server| {
            server.drain(Drain::new().with_deadline(Duration::from_millis(300)))
        });
        let mut first = server.connect().await;
        first.write_all(UPGRADE_REQUEST.as_bytes()).await.unwrap();
        head(&mut first).await;
        let connection = taken.recv().await.unwrap();
        assert_eq!((handle.active(), server.status().active), (1, 1));
        drop(connection);
        eventually("the permit is back", || handle.active() == 0).await;

        let mut second = server.connect().await;
        second.write_all(UPGRADE_REQUEST.as_bytes()).await.unwrap();
        head(&mut second).await;
        let mut connection = taken.recv().await.unwrap();
        let read = tokio::spawn(async move { connection.read(&mut [0]).await });
        let report = server.finish().await;
        assert_eq!(report.force_closed().len(), 1);
        let closed: io::Error = read.await.unwrap().unwrap_err();
        assert_eq!(closed.kind(), io::ErrorKind::ConnectionAborted);
    });
}

#[test]
fn a_response_that_does_not_upgrade_is_an_error_and_the_request_is_served() {
    paused_scenario(async {
        let (send, mut taken) = mpsc::unbounded_channel();
        let mut http = switching(move |result| {
            send.send(result).unwrap();
            std::future::ready(())
        });
        let (mut client, ours) = duplex(1024);
        let served = tokio::spawn(http.call(Connection::accept(ours)));
        let request = UPGRADE_REQUEST.replace("/ ", "/stay ");
        client.write_all(request.as_bytes()).await.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));

        // Without a request for an upgrade there is none to take.
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        head(&mut client).await;
        let error = taken.recv().await.unwrap().unwrap_err();
        assert!(error.is_not_requested() && !error.is_stream());

        // The first one fails when the connection ends.
        drop(client);
        served.await.unwrap().unwrap();
        let error = taken.recv().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the connection was not upgraded");

        let mut foreign = Request::new(());
        assert!(upgrade::on(&mut foreign).unwrap_err().is_not_requested());
        *foreign.version_mut() = http::Version::HTTP_2;
        assert!(upgrade::on(&mut foreign).unwrap_err().is_stream());
    });
}

#[test]
fn a_tunnel_of_http2_is_a_stream_and_an_error() {
    paused_scenario(async {
        let (send, mut taken) = mpsc::unbounded_channel();
        let mut http = switching(move |result| {
            send.send(result).unwrap();
            std::future::ready(())
        });
        let (client, ours) = duplex(64 * 1024);
        let served = tokio::spawn(http.call(Connection::accept(ours)));
        let executor = TokioExecutor::new();
        let (mut requests, connection) = http2::handshake(executor, TokioIo::new(client))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::connect("a:1").body(Empty::<Bytes>::new()).unwrap();
        let response = requests.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let error = taken.recv().await.unwrap().unwrap_err();
        assert!(error.is_stream() && !error.is_not_requested());
        assert!(error.to_string().contains("hyper::upgrade::on"), "{error}");
        drop((requests, response));
        connection.await.unwrap().unwrap();
        served.await.unwrap().unwrap();
    });
}
