//! Servers with threads of their own, and with several listeners on one port.

use crate::support::{ask, assert_ended, echoed, finish, hello, scenario};
use portcullis::{
    Connection, Server,
    listener::{TcpListener, TcpOptions},
    middleware::peer_addr::PeerAddrLayer,
    server::{Handle, Stack, Workers},
};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tower::ServiceBuilder;

/// Counts how many are served at once.
#[derive(Clone, Default)]
pub(super) struct AtOnce(Arc<(AtomicUsize, AtomicUsize)>);

impl AtOnce {
    pub(super) async fn serve(
        self,
        mut connection: Connection<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>,
    ) -> io::Result<()> {
        let (now, most) = &*self.0;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let byte = connection.read_u8().await;
        tokio::task::yield_now().await;
        now.fetch_sub(1, Ordering::SeqCst);
        connection.write_u8(byte?).await
    }

    pub(super) fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

pub(super) async fn forty_clients(address: SocketAddr) {
    let mut clients = JoinSet::new();
    for _ in 0..40 {
        clients.spawn(async move {
            let client = TcpStream::connect(address).await?;
            timeout(Duration::from_secs(20), ask(client, b"x")).await?
        });
    }
    while let Some(answer) = clients.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), b"x");
    }
}

pub(super) fn sharded(stack: impl Stack<TcpStream>) -> (Handle, SocketAddr) {
    let listener = TcpOptions::new()
        .with_reuse_port(true)
        .bind("127.0.0.1:0")
        .unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new()
        .listen(listener, stack)
        .workers(Workers::Sharded(4));
    (server.spawn().unwrap(), address)
}

#[test]
fn workers_each_take_their_share_in_threads_of_their_own() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(|mut connection: Connection<_>| async move {
                let thread = std::thread::current().name().unwrap_or_default().to_owned();
                connection.write_all(thread.as_bytes()).await?;
                connection.write_all(b"\n").await?;
                connection.read(&mut [0; 1]).await.map(drop)
            });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new()
            .listen(listener, stack)
            .workers(Workers::LeastBusy(3));
        let handle = server.spawn().unwrap();
        let mut clients = Vec::new();
        let mut threads = std::collections::HashMap::new();
        for number in 1..=9 {
            let mut client = TcpStream::connect(address).await.unwrap();
            let mut name = Vec::new();
            while !name.ends_with(b"\n") {
                name.push(client.read_u8().await.unwrap());
            }
            *threads.entry(name).or_insert(0) += 1;
            clients.push(client);
            assert_eq!(handle.status().active, number);
        }
        assert_eq!(threads.into_values().collect::<Vec<_>>(), [3, 3, 3]);
        drop(clients);
        finish(&handle).await;
    });
}

#[test]
fn workers_per_core_serve_with_a_listener_each() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(|connection: Connection<_>| AtOnce::default().serve(connection));
        let listener = TcpOptions::new()
            .with_reuse_port(true)
            .bind("127.0.0.1:0")
            .unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new()
            .listen(listener, stack)
            .workers(Workers::PerCore);
        let handle = server.spawn().unwrap();
        forty_clients(address).await;
        finish(&handle).await;
        assert_eq!(handle.status().accepted, 40);
    });
}

#[test]
fn workers_with_a_listener_each_need_reuse_port_and_say_so() {
    scenario(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::new()
            .listen(listener, hello())
            .workers(Workers::Sharded(2));
        let error = server.run().await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("reuse_port"), "{cause}");
    });
}

#[test]
fn the_end_of_workers_cuts_what_is_left_on_them() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(|mut connection: Connection<_>| async move {
                let mut byte = [0];
                while connection.read(&mut byte).await? > 0 {
                    connection.write_all(&byte).await?;
                }
                Ok::<_, io::Error>(())
            });
        let (handle, address) = sharded(stack);
        let mut clients = Vec::new();
        for _ in 0..8 {
            let mut client = TcpStream::connect(address).await.unwrap();
            assert!(echoed(&mut client, b"x").await.unwrap());
            clients.push(client);
        }
        handle.stop_at_once();
        let report = handle.wait().await;
        assert_eq!(report.force_closed().len(), 8);
        assert_ended(&handle);
    });
}
