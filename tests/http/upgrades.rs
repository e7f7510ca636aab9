//! Connections that switched protocols: tunnels that are half-closed, and handlers that just drop theirs.

use crate::{
    millis, seconds,
    support::{Fixture, eventually, paused_scenario, scenario},
};
use http::{
    Method, Request, Response, StatusCode,
    header::{CONNECTION, UPGRADE},
};
use http_body_util::Empty;
use hyper::{body::Bytes, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use portcullis::{
    Connection, ServiceBuilderExt,
    connection::Linger,
    middleware::limit::ConnectionLimitLayer,
    server::Drain,
    service::{HttpService, http::RequestBody},
};
use std::{convert::Infallible, future::ready};
use tokio::{
    io::{
        AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, copy, copy_bidirectional,
        duplex, split,
    },
    sync::mpsc,
    time::sleep,
};
use tower::{Service, ServiceBuilder};

type Tunnel = TokioIo<Upgraded>;

const UPGRADE_REQUEST: &str =
    "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
const CONNECT_REQUEST: &str = "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n";

/// Switches protocols at each request, and gives what becomes of the connection to `handler`.
fn switching<F>(
    handler: impl Fn(Tunnel) -> F + Clone + Send + Sync + 'static,
) -> HttpService<
    impl Service<
        Request<RequestBody>,
        Response = Response<Empty<Bytes>>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + 'static,
>
where
    F: Future<Output = ()> + Send + 'static,
{
    HttpService::new(tower::service_fn(
        move |mut request: Request<RequestBody>| {
            let (upgrade, handler) = (hyper::upgrade::on(&mut request), handler.clone());
            tokio::spawn(async move {
                let tunnel = TokioIo::new(upgrade.await.unwrap());
                handler(tunnel).await
            });
            let status = match *request.method() == Method::CONNECT {
                true => StatusCode::OK,
                false => StatusCode::SWITCHING_PROTOCOLS,
            };
            let response = Response::builder().status(status);
            let response = response
                .header(CONNECTION, "upgrade")
                .header(UPGRADE, "echo");
            ready(Ok::<_, Infallible>(response.body(Empty::new()).unwrap()))
        },
    ))
}

/// Sends `request`, and reads the head of its answer.
async fn switched<IO: AsyncRead + AsyncWrite + Unpin>(client: &mut IO, request: &str) {
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
}

/// A client in memory, and its connection out of hyper's hands.
async fn tunnel(request: &str) -> (DuplexStream, Tunnel) {
    let (mut client, ours) = duplex(1024);
    let (give, mut take) = mpsc::unbounded_channel();
    let mut http = switching(move |tunnel| {
        give.send(tunnel).unwrap();
        ready(())
    });
    tokio::spawn(http.call(Connection::accept(ours)));
    switched(&mut client, request).await;
    (client, take.recv().await.unwrap())
}

/// The ways to copy that are common.
#[derive(Clone, Copy, Debug)]
enum Copying {
    ClientFirst,
    UpstreamFirst,
    TwoTasks,
}

async fn copies(how: Copying, mut tunnel: Tunnel, mut upstream: DuplexStream) {
    match how {
        Copying::ClientFirst => drop(
            copy_bidirectional(&mut tunnel, &mut upstream)
                .await
                .unwrap(),
        ),
        Copying::UpstreamFirst => drop(
            copy_bidirectional(&mut upstream, &mut tunnel)
                .await
                .unwrap(),
        ),
        Copying::TwoTasks => {
            let (mut from_client, mut to_client) = split(tunnel);
            let (mut from_upstream, mut to_upstream) = split(upstream);
            let up = tokio::spawn(async move {
                copy(&mut from_client, &mut to_upstream).await.unwrap();
                to_upstream.shutdown().await.unwrap();
            });
            let down = tokio::spawn(async move {
                copy(&mut from_upstream, &mut to_client).await.unwrap();
                to_client.shutdown().await.unwrap();
            });
            up.await.unwrap();
            down.await.unwrap();
        }
    }
}

#[test]
fn an_upload_through_a_tunnel_arrives_although_the_upstream_has_ended_its_side() {
    paused_scenario(async {
        for request in [UPGRADE_REQUEST, CONNECT_REQUEST] {
            for how in [
                Copying::ClientFirst,
                Copying::UpstreamFirst,
                Copying::TwoTasks,
            ] {
                let (mut client, tunnel) = tunnel(request).await;
                let (mut upstream, ours) = duplex(1024);
                let copying = tokio::spawn(copies(how, tunnel, ours));
                upstream.write_all(b"done").await.unwrap();
                upstream.shutdown().await.unwrap();
                let mut received = String::new();
                client.read_to_string(&mut received).await.unwrap();
                assert_eq!(received, "done");
                let upload = tokio::spawn(async move {
                    for part in 0..200 {
                        client.write_all(&[part; 700]).await.unwrap();
                        // Longer than any linger, all together.
                        sleep(millis(300)).await;
                    }
                });
                let mut uploaded = Vec::new();
                upstream.read_to_end(&mut uploaded).await.unwrap();
                assert_eq!(uploaded.len(), 200 * 700, "{how:?}");
                upload.await.unwrap();
                copying.await.unwrap();
            }
        }
    });
}

const LAST: &[u8] = &[b'l'; 50_000];

/// Hears one byte of what the client says, answers, and drops the connection.
async fn drops(mut tunnel: Tunnel) {
    tunnel.read_u8().await.unwrap();
    tunnel.write_all(LAST).await.unwrap();
}

#[test]
fn what_a_handler_writes_last_arrives_although_the_client_talks_on() {
    scenario(async {
        let stack = ServiceBuilder::new().peer_addr().service(switching(drops));
        let server = Fixture::serve(stack);
        for request in [UPGRADE_REQUEST, CONNECT_REQUEST].repeat(10) {
            let mut client = server.connect().await;
            switched(&mut client, request).await;
            let (mut from_server, mut to_server) = client.split();
            let talk = async {
                for _ in 0..40 {
                    to_server.write_all(&[b't'; 1000]).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let mut last = Vec::new();
            let (read, ()) = tokio::join!(from_server.read_to_end(&mut last), talk);
            read.expect("an end in order");
            assert_eq!(last, LAST);
        }
        server.finish().await;
    });
}

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
#[test]
fn a_handler_that_drops_its_connection_ends_tls_with_close_notify() {
    use crate::support::tls;
    scenario(async {
        let stack = ServiceBuilder::new()
            .peer_addr()
            .layer(tls::layer())
            .service(switching(drops));
        let server = Fixture::serve(stack);
        for _ in 0..5 {
            let mut client = tls::connect(server.connect().await).await.unwrap();
            switched(&mut client, UPGRADE_REQUEST).await;
            client.write_all(b"hello").await.unwrap();
            let mut last = Vec::new();
            // Without `close_notify` that is an unexpected end.
            client.read_to_end(&mut last).await.unwrap();
            assert_eq!(last, LAST);
        }
        server.finish().await;
    });
}

#[test]
fn a_dropped_connection_that_lingers_keeps_no_place_and_belongs_to_the_drain() {
    scenario(async {
        let (limit, handle) = ConnectionLimitLayer::pair(1);
        let patient = Linger::new()
            .with_idle_timeout(seconds(600))
            .with_timeout(seconds(600));
        let stack = ServiceBuilder::new()
            .peer_addr()
            .layer(limit)
            .service(switching(drops).with_linger(patient));
        let deadline = millis(300);
        let server = Fixture::serve_with(stack, |server| {
            server.drain(Drain::new().with_deadline(deadline))
        });
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = server.connect().await;
            switched(&mut client, UPGRADE_REQUEST).await;
            client.write_all(b"hello").await.unwrap();
            client.read_exact(&mut [0; LAST.len()]).await.unwrap();
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            clients.push(client);
        }
        eventually("no place is taken", || handle.active() == 0).await;
        assert_eq!(server.status().active, 3);
        let report = server.finish().await;
        assert_eq!(report.force_closed().len(), 3);
        assert!(report.took() >= deadline);
        drop(clients);
    });
}
