//! Several acceptors over real sockets.

#![cfg(unix)]

use super::*;
use crate::peer_addr::PeerAddrLayer;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    task::{JoinSet, yield_now},
};
use tower::{Service, ServiceBuilder, ServiceExt};

fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(64).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn four_acceptors_serve_forty_clients_one_at_a_time() {
    let (layer, limit) = ConnectionLimitLayer::pair(1);
    let now = Arc::new(AtomicUsize::new(0));
    let counted = now.clone();
    let stack = ServiceBuilder::new()
        .layer(PeerAddrLayer::new())
        .layer(layer)
        .service_fn(move |mut connection: Connection<_>| {
            let now = counted.clone();
            async move {
                let together = now.fetch_add(1, Ordering::SeqCst) + 1;
                let mut byte = [0];
                connection.read_exact(&mut byte).await?;
                connection.write_all(&[together as u8]).await?;
                now.fetch_sub(1, Ordering::SeqCst);
                connection.close().await
            }
        });

    let first = listen("127.0.0.1:0".parse().unwrap());
    let address = first.local_addr().unwrap();
    let mut acceptors = JoinSet::new();
    let others = std::iter::repeat_with(|| listen(address));
    for listener in std::iter::once(first).chain(others).take(4) {
        let mut stack = stack.clone();
        acceptors.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stack.ready().await.unwrap();
                let clone = stack.clone();
                let mut ready = std::mem::replace(&mut stack, clone);
                tokio::spawn(async move { ready.call(stream).await.unwrap() });
            }
        });
    }

    let mut clients = JoinSet::new();
    for _ in 0..40 {
        clients.spawn(async move {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"x").await.unwrap();
            let mut together = Vec::new();
            client.read_to_end(&mut together).await.unwrap();
            assert_eq!(together, [1]);
        });
    }
    let all_served = async {
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
        while limit.active() > 0 {
            yield_now().await;
        }
    };
    in_time(all_served).await;
    assert_eq!((limit.active(), limit.waiting()), (0, 0));
}
