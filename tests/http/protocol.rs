//! The version of HTTP that ALPN agreed on, or hyper is set to, binds (RFC 7301, section 3.2).

use crate::{
    app::app,
    h2_frames::{self, GOAWAY, SETTINGS, read_frame},
    peer::{Peer, get},
    support::{paused_scenario, tls},
};
use portcullis::{
    Connection, ConnectionInfo, connection::Address, middleware::outcome::Outcome,
    service::HttpService,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
};
use tokio_rustls::client::TlsStream;
use tower::{Service, ServiceBuilder};

/// A client that agreed on `alpn`, and what becomes of its connection.
async fn connect(alpn: &str) -> (TlsStream<DuplexStream>, JoinHandle<Outcome>) {
    let (io, ours) = tokio::io::duplex(64 * 1024);
    let info = ConnectionInfo::new(Address::Unknown, Address::Unknown);
    let mut stack = ServiceBuilder::new()
        .layer(tls::layer().with_alpn(["h2", "http/1.1", "other"]))
        .service(HttpService::new(app()));
    let served = stack.call(Connection::with_info(ours, info.clone()));
    let served = tokio::spawn(async move {
        let error = served.await.err();
        Outcome::of(&info, error.as_ref().map(|error| &**error as _))
    });
    let client = tls::connect_with_alpn(io, &[alpn]).await.unwrap();
    (client, served)
}

/// A request of HTTP/2, as its client's first bytes.
fn h2_get() -> Vec<u8> {
    let request = h2_frames::request(1, "GET", "/", h2_frames::END_STREAM);
    [h2_frames::hello(65_535), request].concat()
}

async fn speaks_h2(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> bool {
    client.write_all(&h2_get()).await.unwrap();
    while let Some(frame) = read_frame(client).await {
        if frame.stream == 1 && frame.ends_stream() {
            return true;
        }
    }
    false
}

async fn speaks_http1(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> bool {
    client.write_all(get("/").as_bytes()).await.unwrap();
    let mut answer = vec![0; 1024];
    let read = client.read(&mut answer).await.unwrap();
    answer[..read].starts_with(b"HTTP/1.1 200 ")
}

#[test]
fn what_alpn_agreed_on_is_served() {
    paused_scenario(async {
        assert!(speaks_h2(&mut connect("h2").await.0).await);
        assert!(speaks_http1(&mut connect("http/1.1").await.0).await);
        // A name that says nothing of HTTP: the first bytes tell.
        assert!(speaks_h2(&mut connect("other").await.0).await);
        assert!(speaks_http1(&mut connect("other").await.0).await);
    });
}

#[test]
fn http1_where_h2_was_agreed_on_is_told_to_go_away() {
    paused_scenario(async {
        for request in [
            get("/"),
            "P".to_owned() + &get("/"),
            "PRI * HTTP/1.1\r\n\r\n".to_owned(),
        ] {
            for piece in [1, 7, request.len()] {
                let (mut client, outcome) = connect("h2").await;
                for piece in request.as_bytes().chunks(piece) {
                    // It may have been refused already.
                    let _ = client.write_all(piece).await;
                    tokio::task::yield_now().await;
                }
                assert_eq!(read_frame(&mut client).await.unwrap().kind, SETTINGS);
                let goaway = read_frame(&mut client).await.unwrap();
                assert_eq!(
                    (goaway.kind, &*goaway.payload),
                    (GOAWAY, &[0, 0, 0, 0, 0, 0, 0, 1][..])
                );
                assert_eq!(client.read(&mut [0]).await.expect("a polite end"), 0);
                client.shutdown().await.unwrap();
                drop(client);
                assert_eq!(outcome.await.unwrap(), Outcome::Failed);
            }
        }
    });
}

#[test]
fn h2_where_http1_was_agreed_on_is_a_bad_request() {
    paused_scenario(async {
        for piece in [1, 23, 24, 1000] {
            let (mut client, outcome) = connect("http/1.1").await;
            for piece in h2_get().chunks(piece) {
                let _ = client.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            let mut answer = String::new();
            client
                .read_to_string(&mut answer)
                .await
                .expect("a polite end");
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
            client.shutdown().await.unwrap();
            drop(client);
            assert_eq!(outcome.await.unwrap(), Outcome::Failed);
        }
    });
}

#[test]
fn a_request_that_begins_like_the_preface_is_served_where_http1_was_agreed_on() {
    paused_scenario(async {
        let (mut client, _) = connect("http/1.1").await;
        for byte in b"PROPFIND / HTTP/1.1\r\nhost: a\r\n\r\n" {
            client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut answer = vec![0; 1024];
        let read = client.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 405 "));
    });
}

#[test]
fn without_alpn_the_settings_of_hyper_say_what_is_served() {
    paused_scenario(async {
        let h1 = || Peer::with(|http| http.with_hyper(|hyper| *hyper = hyper.clone().http1_only()));
        let h2 = || Peer::with(|http| http.with_hyper(|hyper| *hyper = hyper.clone().http2_only()));
        assert!(speaks_http1(&mut h1().io).await);
        assert!(!speaks_h2(&mut h1().io).await);
        assert!(speaks_h2(&mut h2().io).await);
        assert!(!speaks_http1(&mut h2().io).await);
    });
}
