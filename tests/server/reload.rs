//! Stacks that are replaced while they serve.

use crate::support::{Fixture, ends, eventually, scenario};
use portcullis::{
    Connection, ServiceBuilderExt,
    middleware::{limit::ConnectionLimitLayer, outcome::Outcome},
    server::Stack,
    service::Reload,
};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};
use tower::ServiceBuilder;

/// Answers each byte with its own number, for up to `limit` connections at once.
fn numbered(number: u64, limit: usize) -> impl Stack<TcpStream> {
    ServiceBuilder::new()
        .peer_addr()
        .layer(ConnectionLimitLayer::new(limit))
        .service_fn(move |mut connection: Connection<_>| async move {
            while connection.read(&mut [0]).await? > 0 {
                connection.write_u64(number).await?;
            }
            connection.close().await
        })
}

async fn number(client: &mut TcpStream) -> io::Result<u64> {
    client.write_u8(b'?').await?;
    client.read_u64().await
}

/// Connects from an address of its own, which has ports of its own.
async fn connect_from(client: u8, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if cfg!(target_os = "linux") {
        socket.bind((Ipv4Addr::new(127, 0, 1, client), 0).into())?;
    }
    socket.connect(address).await
}

/// Serves `connections` clients while the stack is replaced `swaps` times, and lets none fail.
fn swap_under_load(connections: u64, swaps: u64) {
    scenario(async move {
        let (reload, handle) = Reload::pair(numbered(0, 1_000));
        let server = Fixture::serve(reload);
        let address = server.address;
        let mut lasting = Vec::new();
        for _ in 0..20 {
            let mut client = server.connect().await;
            assert_eq!(number(&mut client).await.unwrap(), 0);
            lasting.push(client);
        }
        let [swapped, served] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let mut clients = JoinSet::new();
        for client in 1..=16 {
            let (swapped, served) = (swapped.clone(), served.clone());
            clients.spawn(async move {
                while served.fetch_add(1, Ordering::Relaxed) < connections {
                    let least = swapped.load(Ordering::SeqCst);
                    let mut client = connect_from(client, address).await.unwrap();
                    let served_by = number(&mut client).await.unwrap();
                    assert!(served_by >= least, "{served_by} after swap {least}");
                }
            });
        }
        for swap in 1..=swaps {
            let due = connections * swap / (swaps + 1);
            while served.load(Ordering::Relaxed) < due {
                tokio::task::yield_now().await;
            }
            handle.swap(numbered(swap, 1_000));
            swapped.store(swap, Ordering::SeqCst);
        }
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
        let mut last = server.connect().await;
        assert_eq!(number(&mut last).await.unwrap(), swaps);
        for client in &mut lasting {
            assert_eq!(number(client).await.unwrap(), 0);
        }
        drop((lasting, last));
        server.idle().await;
        let all = connections + 21;
        let status = server.status();
        println!("{connections} connections, {swaps} swaps: {status:?}");
        assert_eq!((status.accepted, ends(&status)), (all, all));
        assert_eq!(status.outcomes, [(Outcome::Completed, all)]);
        assert_eq!(handle.swaps(), swaps);
        server.finish().await;
    });
}

#[test]
fn a_stack_is_replaced_under_load_and_no_connection_fails() {
    swap_under_load(2_000, 20);
}

#[test]
#[ignore = "takes half a minute"]
fn a_stack_is_replaced_a_hundred_times_under_a_hundred_thousand_connections() {
    swap_under_load(100_000, 100);
}

#[test]
fn a_full_old_limit_does_not_hold_up_a_larger_new_one() {
    scenario(async {
        let (reload, handle) = Reload::pair(numbered(1, 1));
        let server = Fixture::serve(reload);
        let mut first = server.connect().await;
        assert_eq!(number(&mut first).await.unwrap(), 1);
        let mut second = server.connect().await;
        eventually("it waits", || server.status().waiting == 1).await;
        handle.swap(numbered(2, 1));
        assert_eq!(number(&mut second).await.unwrap(), 2);
        // The first one still has its slot of the old limit.
        assert_eq!(number(&mut first).await.unwrap(), 1);
        drop((first, second));
        server.idle().await;
        server.finish().await;
    });
}
