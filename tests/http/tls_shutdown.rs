//! An end over TLS says so: without a `close_notify` a client cannot tell an end from an attack.

use crate::{
    app::app,
    h2_frames::{self, GOAWAY, PING, read_frame},
    peer::get,
    seconds,
    support::{paused_scenario, tls},
};
use portcullis::{
    BoxError, Connection, ConnectionInfo,
    connection::{Address, ListenerInfo},
    middleware::{drain::DrainTrigger, outcome::Outcome},
    service::HttpService,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
    time::sleep,
};
use tokio_rustls::client::TlsStream;
use tower::{Service, ServiceBuilder};

type Served = JoinHandle<Result<(), BoxError>>;

/// A client after its handshake.
async fn connect() -> (TlsStream<DuplexStream>, DrainTrigger, Served) {
    let (drain, signal) = DrainTrigger::pair();
    let (io, ours) = tokio::io::duplex(64 * 1024);
    let origin = Arc::new(ListenerInfo::new().with_drain(signal));
    let info = ConnectionInfo::from_listener(origin, Address::Unknown, Address::Unknown);
    let mut stack = ServiceBuilder::new()
        .layer(tls::layer())
        .service(HttpService::new(app()).with_idle_timeout(seconds(10)));
    let served = tokio::spawn(stack.call(Connection::with_info(ours, info)));
    (tls::connect(io).await.unwrap(), drain, served)
}

#[test]
fn idle_and_fresh_connections_end_with_close_notify() {
    paused_scenario(async {
        // How many requests before, and whether the server closes.
        for (requests, closes) in [(0, true), (1, false), (1, true)] {
            let (mut client, drain, served) = connect().await;
            for _ in 0..requests {
                client.write_all(get("/").as_bytes()).await.unwrap();
                let mut answer = vec![0; 1024];
                let read = client.read(&mut answer).await.unwrap();
                assert!(answer[..read].ends_with(b"hello"));
            }
            if closes {
                drain.close();
            }
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.expect("a polite end");
            assert!(rest.is_empty());
            drop(client);
            served.await.unwrap().unwrap();
        }
    });
}

#[test]
fn http2_ends_with_go_away_and_close_notify() {
    paused_scenario(async {
        let (mut client, drain, served) = connect().await;
        client.write_all(&h2_frames::hello(65_535)).await.unwrap();
        sleep(Duration::from_millis(1)).await;
        drain.close();
        let mut told = 0;
        while let Some(frame) = read_frame(&mut client).await {
            told += u32::from(frame.kind == GOAWAY);
            if frame.kind == PING {
                let ack = h2_frames::frame(PING, 1, 0, &frame.payload);
                client.write_all(&ack).await.unwrap();
            }
        }
        assert_eq!(told, 2);
        assert_eq!(client.read(&mut [0]).await.expect("a polite end"), 0);
        drop(client);
        served.await.unwrap().unwrap();
    });
}

/// Has a client do something and go without `close_notify`.
async fn outcome_of(client: impl AsyncFnOnce(&mut TlsStream<DuplexStream>)) -> Outcome {
    let (io, ours) = tokio::io::duplex(64 * 1024);
    let info = ConnectionInfo::new(Address::Unknown, Address::Unknown);
    let mut stack = ServiceBuilder::new()
        .layer(tls::layer())
        .service(HttpService::new(app()));
    let served = tokio::spawn(stack.call(Connection::with_info(ours, info.clone())));
    let mut stream = tls::connect(io).await.unwrap();
    client(&mut stream).await;
    drop(stream);
    let error = served.await.unwrap().err();
    Outcome::of(&info, error.as_ref().map(|error| &**error as _))
}

#[test]
fn an_end_without_close_notify_between_messages_completes_the_connection() {
    paused_scenario(async {
        let end = outcome_of(async |_| sleep(Duration::from_millis(1)).await).await;
        assert_eq!(end, Outcome::Completed, "nothing was ever requested");
        let end = outcome_of(async |client| {
            for _ in 0..2 {
                client.write_all(get("/").as_bytes()).await.unwrap();
                assert!(client.read(&mut [0; 1024]).await.unwrap() > 0);
            }
        })
        .await;
        assert_eq!(end, Outcome::Completed, "kept alive");
        let end = outcome_of(async |client| {
            let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            client.write_all(request).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("hello"), "{answer}");
        })
        .await;
        assert_eq!(end, Outcome::Completed, "the last request");
        let end = outcome_of(async |client| {
            let request = h2_frames::request(1, "GET", "/", h2_frames::END_STREAM);
            let hello = [h2_frames::hello(65_535), request].concat();
            client.write_all(&hello).await.unwrap();
            while !read_frame(client).await.unwrap().ends_stream() {}
        })
        .await;
        assert_eq!(end, Outcome::Completed, "HTTP/2");
    });
}

#[test]
fn an_end_without_close_notify_in_the_middle_of_a_message_is_a_truncation() {
    paused_scenario(async {
        for part in [
            "GET / HT",
            "POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345",
            "POST /length HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345",
        ] {
            let end = outcome_of(async |client| {
                client.write_all(part.as_bytes()).await.unwrap();
                sleep(Duration::from_millis(1)).await;
            })
            .await;
            assert_eq!(end, Outcome::Truncated, "{part}");
        }
        let end = outcome_of(async |client| {
            let head = h2_frames::request(1, "POST", "/length", 0);
            let part = h2_frames::frame(h2_frames::DATA, 0, 1, b"12345");
            let hello = h2_frames::hello(65_535);
            client
                .write_all(&[hello, head, part].concat())
                .await
                .unwrap();
            sleep(Duration::from_millis(1)).await;
        })
        .await;
        assert_eq!(end, Outcome::Truncated, "HTTP/2");
    });
}

/// The protocol after an upgrade need not say where its messages end.
#[test]
fn an_upgraded_connection_sees_the_end_without_close_notify() {
    paused_scenario(async {
        let (sender, observed) = tokio::sync::oneshot::channel();
        let sender = Arc::new(std::sync::Mutex::new(Some(sender)));
        let service = tower::service_fn(move |mut request: http::Request<_>| {
            let sender = sender.lock().unwrap().take().unwrap();
            tokio::spawn(async move {
                let io = hyper::upgrade::on(&mut request).await.unwrap();
                let mut io = hyper_util::rt::TokioIo::new(io);
                sender.send(io.read(&mut [0; 10]).await).unwrap();
            });
            let response = http::Response::builder().status(101);
            let response = response
                .header("connection", "upgrade")
                .header("upgrade", "raw");
            std::future::ready(response.body(String::new()))
        });
        let (io, ours) = tokio::io::duplex(64 * 1024);
        let mut stack = ServiceBuilder::new()
            .layer(tls::layer())
            .service(HttpService::new(service));
        let served = tokio::spawn(stack.call(Connection::accept(ours)));
        let mut client = tls::connect(io).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\n";
        client.write_all(request).await.unwrap();
        assert!(client.read(&mut [0; 1024]).await.unwrap() > 0);
        drop(client);
        let error = observed.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        served.await.unwrap().unwrap();
    });
}
