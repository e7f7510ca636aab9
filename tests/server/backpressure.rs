//! Limits on concurrent connections: one permit for several acceptors, the kernel's queue, load shedding.

use super::workers::{AtOnce, forty_clients, sharded};
use crate::support::{Fixture, ask, eventually, finish, scenario};
use portcullis::{
    Connection, middleware::limit::ConnectionLimitLayer, middleware::peer_addr::PeerAddrLayer,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::ServiceBuilder;

#[test]
fn with_tower_s_limit_of_one_and_four_acceptors_all_are_served_one_at_a_time() {
    scenario(async {
        let at_once = AtOnce::default();
        let serving = at_once.clone();
        let stack = ServiceBuilder::new()
            .concurrency_limit(1)
            .layer(PeerAddrLayer::new())
            .service_fn(move |connection: Connection<_>| serving.clone().serve(connection));
        let (handle, address) = sharded(stack);
        forty_clients(address).await;
        // Idle acceptors hold no readiness: a client alone is served whichever of them it meets.
        for _ in 0..12 {
            let client = TcpStream::connect(address).await.unwrap();
            assert_eq!(ask(client, b"y").await.unwrap(), b"y");
        }
        assert_eq!(at_once.most(), 1);
        finish(&handle).await;
    });
}

#[test]
fn with_a_connection_limit_of_one_and_four_acceptors_all_are_served_one_at_a_time() {
    scenario(async {
        let at_once = AtOnce::default();
        let serving = at_once.clone();
        let limit = ConnectionLimitLayer::new(1);
        let permits = limit.handle();
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .layer(limit)
            .service_fn(move |connection: Connection<_>| serving.clone().serve(connection));
        let (handle, address) = sharded(stack);
        forty_clients(address).await;
        for _ in 0..12 {
            let client = TcpStream::connect(address).await.unwrap();
            assert_eq!(ask(client, b"y").await.unwrap(), b"y");
        }
        assert_eq!(at_once.most(), 1);
        finish(&handle).await;
        assert_eq!(permits.active(), 0);
    });
}

/// Connections that wait in the kernel's queue of the listener on `port`.
#[cfg(target_os = "linux")]
fn queued(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    let local = format!("0100007F:{port:04X}");
    let listening = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|fields| fields.get(1) == Some(&local.as_str()) && fields.get(3) == Some(&"0A"))
        .expect("the listener is there");
    let (_sent, received) = listening[4].split_once(':').expect("two queues");
    usize::from_str_radix(received, 16).expect("a number")
}

#[cfg(target_os = "linux")]
#[test]
fn back_pressure_of_tower_s_limit_reaches_the_kernel_s_queue() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .concurrency_limit(1)
            .layer(PeerAddrLayer::new())
            .service_fn(|mut connection: Connection<_>| async move {
                let byte = connection.read_u8().await?;
                connection.write_u8(byte).await
            });
        let server = Fixture::serve(stack);
        let mut clients = Vec::new();
        for _ in 0..7 {
            clients.push(server.connect().await);
        }
        eventually("one is served, one waits", || server.status().waiting == 1).await;
        assert_eq!((server.status().accepted, server.status().active), (2, 1));
        assert_eq!(queued(server.address.port()), 5);
        for client in clients {
            assert_eq!(ask(client, b"x").await.unwrap(), b"x");
        }
        server.finish().await;
    });
}

#[test]
fn tower_s_load_shed_turns_away_at_the_edge() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .load_shed()
            .concurrency_limit(1)
            .layer(PeerAddrLayer::new())
            .service_fn(|mut connection: Connection<_>| async move {
                let byte = connection.read_u8().await?;
                connection.write_u8(byte).await
            });
        let server = Fixture::serve(stack);
        let first = server.connect().await;
        server.active(1).await;
        let mut second = server.connect().await;
        assert_eq!(second.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(ask(first, b"x").await.unwrap(), b"x");
        server.finish().await;
    });
}
