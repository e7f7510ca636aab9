//! Connections that are upgraded keep what layers gave them, and belong to the drain.

use crate::support::{Fixture, ask, assert_ended, eventually, paused_scenario, scenario};
use axum::{
    Extension, Router,
    extract::ws::{CloseFrame, Message as AxumMessage, WebSocket, WebSocketUpgrade},
    response::Response,
    routing::{any, get},
};
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, StatusCode, header::CONNECTION};
use http_body_util::Empty;
use hyper::{body::Bytes, ext::Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::{
    ConnectionInfo, ServiceBuilderExt,
    middleware::{
        limit::{ConnectionLimitLayer, LimitHandle},
        timeout::IoTimeoutLayer,
    },
    server::Drain,
    server::Stack,
    service::HttpService,
};
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, handshake::client, protocol::Role},
};
use tower::ServiceBuilder;

/// Longer than any bound of `HttpService`, and less than a scenario may last.
const LONG: Duration = Duration::from_secs(500);

/// How the tasks of upgraded connections ended.
type Ends = mpsc::UnboundedReceiver<String>;

/// Gives back what it is sent; ends on `bye`, panics on `panic`.
fn echo() -> (Router, Ends) {
    let (ends, ended) = mpsc::unbounded_channel();
    let upgrade = |upgrade: WebSocketUpgrade, Extension(ends): Extension<_>| async {
        upgrade.on_upgrade(|socket| talk(socket, ends))
    };
    let router = Router::new()
        .route("/", any(upgrade))
        .route("/plain", get(async || "plain"))
        .layer(Extension(ends));
    (router, ended)
}

async fn talk(mut socket: WebSocket, ends: mpsc::UnboundedSender<String>) {
    let end = loop {
        let message = match socket.recv().await {
            None => break "end".to_owned(),
            Some(Err(error)) => break format!("error: {error}"),
            Some(Ok(message)) => message,
        };
        match &message {
            AxumMessage::Text(text) if *text == "panic" => panic!("as it was told"),
            AxumMessage::Text(text) if *text == "bye" => break "bye".to_owned(),
            AxumMessage::Text(_) => {
                if let Err(error) = socket.send(message).await {
                    break format!("error: {error}");
                }
            }
            _ => {}
        }
    };
    let _ = ends.send(end);
}

fn serving(router: Router) -> impl Stack<TcpStream> {
    serving_under(ConnectionLimitLayer::new(1000), router)
}

fn serving_under(limit: ConnectionLimitLayer, router: Router) -> impl Stack<TcpStream> {
    let http = HttpService::new(router).with_hyper(|hyper| {
        hyper.http2().enable_connect_protocol();
    });
    ServiceBuilder::new()
        .peer_addr()
        .layer(limit)
        .layer(IoTimeoutLayer::new().without_read_timeout())
        .service(http)
}

async fn websocket(stream: TcpStream) -> (WebSocketStream<TcpStream>, client::Response) {
    stream.set_nodelay(true).unwrap();
    client_async("ws://localhost/", stream).await.unwrap()
}

/// Whether a message comes back.
async fn echoes<IO: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<IO>) -> bool {
    socket.send(Message::text("hello")).await.unwrap();
    socket.next().await.unwrap().unwrap() == Message::text("hello")
}

/// Has a second client wait for a place that `end` makes the first one give back.
async fn place_is_kept_until<End>(end: impl FnOnce(WebSocketStream<TcpStream>) -> End)
where
    End: Future<Output = ()>,
{
    let (limit, handle): (_, LimitHandle) = ConnectionLimitLayer::pair(1);
    let (router, _ends) = echo();
    let server = Fixture::serve(serving_under(limit, router));
    let (mut first, _) = websocket(server.connect().await).await;
    assert!(echoes(&mut first).await);

    let second = tokio::spawn(websocket(server.connect().await));
    eventually("the second waits", || handle.waiting() == 1).await;
    for _ in 0..20 {
        assert!(echoes(&mut first).await);
        assert!(!second.is_finished());
        assert_eq!((handle.active(), handle.waiting()), (1, 1));
    }
    end(first).await;
    let (mut second, _) = second.await.unwrap();
    assert!(echoes(&mut second).await);
    assert_eq!(handle.active(), 1);
    second.close(None).await.unwrap();
    while second.next().await.is_some() {}
    drop(second);
    eventually("no place is taken", || handle.active() == 0).await;
    server.finish().await;
}

#[test]
fn an_upgraded_websocket_keeps_its_place_in_the_limit_until_the_client_closes_it() {
    scenario(place_is_kept_until(async |mut first| {
        first.close(None).await.unwrap();
        while first.next().await.is_some() {}
    }));
}

#[test]
fn an_upgraded_websocket_keeps_its_place_in_the_limit_until_the_client_drops_it() {
    scenario(place_is_kept_until(async |first| drop(first)));
}

#[test]
fn an_upgraded_websocket_keeps_its_place_in_the_limit_until_the_handler_drops_it() {
    scenario(place_is_kept_until(async |mut first| {
        first.send(Message::text("bye")).await.unwrap();
        assert!(!matches!(first.next().await, Some(Ok(_))));
    }));
}

#[test]
fn an_upgraded_websocket_keeps_its_place_in_the_limit_until_its_task_panics() {
    scenario(place_is_kept_until(async |mut first| {
        first.send(Message::text("panic")).await.unwrap();
        assert!(!matches!(first.next().await, Some(Ok(_))));
    }));
}

#[test]
fn an_idle_websocket_is_cut_by_no_bound() {
    paused_scenario(async {
        let (router, _ends) = echo();
        let server = Fixture::serve(serving(router));
        let (mut socket, _) = websocket(server.connect().await).await;
        assert!(echoes(&mut socket).await);
        sleep(LONG).await;
        assert!(echoes(&mut socket).await);
        drop(socket);
        server.idle().await;
        server.finish().await;
    });
}

#[test]
fn the_drain_waits_for_a_websocket() {
    paused_scenario(async {
        let (router, mut ends) = echo();
        let server = Fixture::serve(serving(router));
        let (mut socket, _) = websocket(server.connect().await).await;
        server.handle.stop();
        sleep(Duration::from_secs(20)).await;
        assert!(echoes(&mut socket).await);
        assert_eq!(server.status().active, 1);
        socket.send(Message::text("bye")).await.unwrap();
        assert_eq!(ends.recv().await.unwrap(), "bye");
        drop(socket);
        let report = server.handle.wait().await;
        assert_ended(&server.handle);
        assert_eq!((report.ended(), report.force_closed().len()), (1, 0));
        assert!(report.took() < Duration::from_secs(25));
    });
}

#[test]
fn the_drain_cuts_a_websocket_at_the_deadline() {
    paused_scenario(async {
        let (router, mut ends) = echo();
        let deadline = Duration::from_secs(7);
        let server = Fixture::serve_with(serving(router), |server| {
            server.drain(Drain::new().with_deadline(deadline))
        });
        let (mut socket, _) = websocket(server.connect().await).await;
        assert!(echoes(&mut socket).await);
        server.handle.stop();
        let begun = Instant::now();
        // The latch works through what hyper made of the connection: the task sees its socket fail.
        let end = ends.recv().await.unwrap();
        assert!(end.starts_with("error"), "{end}");
        assert!(begun.elapsed() >= deadline);
        let report = server.handle.wait().await;
        assert_ended(&server.handle);
        assert_eq!((report.ended(), report.force_closed().len()), (0, 1));
        assert_eq!(report.still_running(), 0);
        assert!(!matches!(socket.next().await, Some(Ok(_))));
    });
}

/// Says good-bye when the server ends.
async fn polite(upgrade: WebSocketUpgrade, Extension(info): Extension<ConnectionInfo>) -> Response {
    upgrade.on_upgrade(async move |mut socket| {
        info.drain().await;
        let good_bye = CloseFrame {
            code: 1001,
            reason: "ends".into(),
        };
        socket
            .send(AxumMessage::Close(Some(good_bye)))
            .await
            .unwrap();
        while let Some(Ok(_)) = socket.recv().await {}
    })
}

#[test]
fn a_handler_says_good_bye_when_the_server_ends() {
    scenario(async {
        let server = Fixture::serve(serving(Router::new().route("/", any(polite))));
        let (mut socket, _) = websocket(server.connect().await).await;
        server.handle.stop();
        let Some(Ok(Message::Close(Some(frame)))) = socket.next().await else {
            panic!("no close frame");
        };
        assert_eq!(u16::from(frame.code), 1001);
        while socket.next().await.is_some() {}
        let report = server.finish().await;
        assert_eq!((report.ended(), report.force_closed().len()), (1, 0));
    });
}

#[test]
fn who_asks_after_the_announcement_is_told_that_it_was_the_last_time() {
    paused_scenario(async {
        let (router, _ends) = echo();
        let server = Fixture::serve_with(serving(router), |server| {
            server.drain(Drain::new().with_notice_period(Duration::from_secs(10)))
        });
        server.handle.stop();
        let request = b"GET /plain HTTP/1.1\r\nhost: a\r\n\r\n";
        let answer = ask(server.connect().await, request).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        server.finish().await;
    });
}

#[test]
fn who_upgrades_after_the_announcement_is_served() {
    paused_scenario(async {
        let (router, _ends) = echo();
        let server = Fixture::serve_with(serving(router), |server| {
            server.drain(Drain::new().with_notice_period(Duration::from_secs(10)))
        });
        server.handle.stop();
        let (mut socket, response) = websocket(server.connect().await).await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let connection: Vec<_> = response.headers().get_all(CONNECTION).iter().collect();
        assert_eq!(connection, ["upgrade"]);
        sleep(Duration::from_secs(15)).await;
        assert!(echoes(&mut socket).await);
        socket.close(None).await.unwrap();
        while socket.next().await.is_some() {}
        let report = server.finish().await;
        assert!(report.force_closed().is_empty());
    });
}

type Http2 = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

/// Speaks HTTP/2 from the first byte on, and has heard the server's settings.
async fn http2(stream: TcpStream) -> Http2 {
    // What TCP holds back for real milliseconds would be lost in time that leaps.
    stream.set_nodelay(true).unwrap();
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut requests, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://localhost/plain").body(Empty::new());
    let response = requests.send_request(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    requests
}

/// A WebSocket in a stream of HTTP/2 (RFC 8441).
async fn tunnel(requests: &mut Http2) -> WebSocketStream<TokioIo<hyper::upgrade::Upgraded>> {
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://localhost/")
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(Empty::new())
        .unwrap();
    let response = requests.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await
}

#[test]
fn a_websocket_in_a_stream_of_http2_survives_the_idle_bound() {
    paused_scenario(async {
        let (router, mut ends) = echo();
        let server = Fixture::serve(serving(router));
        let mut requests = http2(server.connect().await).await;
        let mut socket = tunnel(&mut requests).await;
        assert!(echoes(&mut socket).await);
        sleep(LONG).await;
        assert!(echoes(&mut socket).await);
        assert_eq!(server.status().accepted, 1);
        socket.close(None).await.unwrap();
        while let Some(Ok(_)) = socket.next().await {}
        assert_eq!(ends.recv().await.unwrap(), "end");
        drop((socket, requests));
        server.finish().await;
    });
}

#[test]
fn the_drain_cuts_a_websocket_in_a_stream_of_http2_too() {
    paused_scenario(async {
        let (router, mut ends) = echo();
        let server = Fixture::serve(serving(router));
        let mut requests = http2(server.connect().await).await;
        let mut socket = tunnel(&mut requests).await;
        server.handle.stop();
        sleep(Duration::from_secs(20)).await;
        assert!(echoes(&mut socket).await);
        let report = server.handle.wait().await;
        assert_eq!((report.ended(), report.force_closed().len()), (0, 1));
        assert!(ends.recv().await.is_some());
        assert_ended(&server.handle);
    });
}
