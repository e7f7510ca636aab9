//! A layered stack as a source of connections.

use crate::support::{assert_ended, eventually, scenario};
use portcullis::{
    Connection, Server, ServiceBuilderExt,
    listener::TcpListener,
    middleware::{
        limit::{ConnectionLimitLayer, LimitHandle},
        outcome::Outcome,
    },
    service::Incoming,
};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::ServiceBuilder;

type Ready = portcullis::connection::Socket<TcpStream>;

fn limited(limit: usize) -> (Incoming<Ready>, SocketAddr, LimitHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (layer, limit) = ConnectionLimitLayer::pair(limit);
    let layers = ServiceBuilder::new().peer_addr().layer(layer);
    (
        Server::new().incoming(listener, layers).unwrap(),
        address,
        limit,
    )
}

async fn next(incoming: &mut Incoming<Ready>) -> Connection<Ready> {
    incoming.recv().await.expect("the server runs")
}

#[test]
fn connections_keep_their_permits_until_they_are_dropped() {
    scenario(async {
        let (mut incoming, address, limit) = limited(2);
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        // As a `Stream`, too.
        let first = futures_util::StreamExt::next(&mut incoming)
            .await
            .expect("the server runs");
        let _second = next(&mut incoming).await;
        let handle = incoming.handle().unwrap().clone();
        eventually("the third waits", || handle.status().waiting == 1).await;
        assert_eq!(limit.active(), 2);
        drop(first);
        let mut third = next(&mut incoming).await;
        assert_eq!(third.peer_addr(), clients[2].local_addr().ok());
        third.write_all(b"welcome").await.unwrap();
        let mut received = [0; 7];
        clients[2].read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"welcome");
        // A connection is handed over a moment before its task ends.
        let handed_off = [(Outcome::HandedOff, 3)];
        eventually("all are counted", || handle.status().outcomes == handed_off).await;
    });
}

#[test]
fn the_drain_waits_for_connections_that_were_handed_over_and_the_stream_ends() {
    scenario(async {
        let (mut incoming, address, limit) = limited(5);
        let client = TcpStream::connect(address).await.unwrap();
        let connection = next(&mut incoming).await;
        let handle = incoming.handle().unwrap().clone();
        handle.stop();
        assert!(incoming.recv().await.is_none());
        connection.info().drain().await;
        assert!(!handle.is_stopped());
        drop((connection, client));
        let report = handle.wait().await;
        assert_eq!((report.ended(), report.force_closed().len()), (1, 0));
        assert_ended(&handle);
        assert_eq!(limit.active(), 0);
    });
}

#[test]
fn dropping_the_stream_stops_the_server_and_closes_what_nobody_took() {
    scenario(async {
        let (incoming, address, limit) = limited(5);
        let mut client = TcpStream::connect(address).await.unwrap();
        let handle = incoming.handle().unwrap().clone();
        eventually("it lies ready", || limit.active() == 1).await;
        drop(incoming);
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        handle.wait().await;
        assert_ended(&handle);
        assert_eq!(limit.active(), 0);
    });
}
