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
    connection::{Address, Origin},
    middleware::drain::DrainTrigger,
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
    let origin = Arc::new(Origin::new().with_drain(signal));
    let info = ConnectionInfo::from_origin(origin, Address::Unknown, Address::Unknown);
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
