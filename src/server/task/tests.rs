//! The context through which a stack learns about its connection.

use super::*;
use crate::{
    Server,
    listener::{MemoryListener, TcpListener},
    server::ListenerHandle,
};
use portcullis_middleware::{Connection, peer_addr::PeerAddrLayer};
use std::{
    io,
    sync::{Mutex, atomic::Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::yield_now,
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

fn warned(listener: &ListenerHandle) -> bool {
    let recorder = &listener.inner().recorder;
    recorder.warned_of_untaken.load(Ordering::Relaxed)
}

/// Serves one client with `stack`. Returns what the client received, and whether the server warned of the stack.
async fn serve_one(stack: impl Stack<DuplexStream>) -> (String, bool) {
    let (listener, connector) = MemoryListener::pair();
    let handle = Server::new()
        .listen_as("front", listener, stack)
        .spawn()
        .unwrap();
    let front = handle.listener("front").unwrap();
    let mut received = String::new();
    let mut client = connector.connect().unwrap();
    client.read_to_string(&mut received).await.unwrap();
    drop(client);
    handle.stop();
    handle.wait().await;
    (received, warned(&front))
}

/// Sends the name of the listener.
async fn tell<IO: tokio::io::AsyncWrite + Unpin>(mut connection: Connection<IO>) -> io::Result<()> {
    let name = connection.info().listener().unwrap_or("none").to_owned();
    connection.write_all(name.as_bytes()).await
}

/// Calls `inner` a few polls after its own call.
fn later<S>(inner: S) -> impl Stack<DuplexStream>
where
    S: Service<DuplexStream, Response = (), Error = io::Error, Future: Send>
        + Clone
        + Send
        + 'static,
{
    service_fn(move |io| {
        let mut inner = inner.clone();
        async move {
            for _ in 0..3 {
                yield_now().await;
            }
            inner.call(io).await
        }
    })
}

#[tokio::test]
async fn a_layer_at_the_edge_may_call_the_rest_of_the_stack_later() {
    let stack = || {
        ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(tell)
    };
    assert_eq!(serve_one(stack()).await, ("front".to_owned(), false));
    assert_eq!(serve_one(later(stack())).await, ("front".to_owned(), false));
}

#[tokio::test]
async fn a_connection_whose_stack_was_called_later_hears_of_the_drain_and_of_the_handle() {
    let stack = ServiceBuilder::new()
        .layer(PeerAddrLayer::new())
        .service_fn(|mut connection: Connection<_>| async move {
            connection.write_all(b".").await?;
            tokio::select! {
                () = connection.info().drain() => {}
                () = connection.info().closed() => {}
            }
            Ok(())
        });
    let (listener, connector) = MemoryListener::pair();
    let handle = Server::new()
        .listen_as("front", listener, later(stack))
        .spawn()
        .unwrap();
    let front = handle.listener("front").unwrap();
    let mut clients = [(); 2].map(|()| connector.connect().unwrap());
    for client in &mut clients {
        assert_eq!(client.read_u8().await.unwrap(), b'.');
    }
    assert!(handle.close(handle.connections()[0].id()));
    handle.stop();
    let report = handle.wait().await;
    assert!(report.force_closed().is_empty());
    assert!(!warned(&front));
}

#[tokio::test]
async fn only_a_stack_that_serves_a_bare_stream_to_its_end_is_complained_of() {
    let bare = service_fn(|mut io: DuplexStream| async move { io.write_all(b"bare").await });
    assert_eq!(serve_one(bare).await, ("bare".to_owned(), true));
    // As tower's `LoadShed` does.
    let refuses = service_fn(|_: DuplexStream| async { Err::<(), _>(io::Error::other("full")) });
    assert_eq!(serve_one(refuses).await, (String::new(), false));
}

#[tokio::test]
async fn a_connection_that_its_stack_did_not_take_is_noted_as_closed_also_after_a_panic() {
    let (listener, connector) = MemoryListener::pair();
    let panics = service_fn(|_: DuplexStream| async { panic!("told to") as io::Result<()> });
    let handle = Server::new().listen(listener, panics).spawn().unwrap();
    let mut client = connector.connect().unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    handle.stop();
    assert_eq!(handle.wait().await.still_running(), 0);
    assert!(handle.connections().is_empty());
}

#[tokio::test]
async fn another_stream_that_a_layer_wraps_meanwhile_does_not_get_the_client_s_context() {
    let upstream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap();
    let names = Arc::new(Mutex::new(Vec::new()));
    let stack = ServiceBuilder::new()
        .layer(PeerAddrLayer::new())
        .service_fn(tell);
    let seen = names.clone();
    let stack = service_fn(move |io: tokio::net::TcpStream| {
        let side = std::net::TcpStream::connect(address).unwrap();
        side.set_nonblocking(true).unwrap();
        let side = Connection::accept(tokio::net::TcpStream::from_std(side).unwrap());
        let name = side.info().listener().map(str::to_owned);
        seen.lock().unwrap().push((name, side.peer_addr()));
        stack.oneshot(io)
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let front = listener.local_addr().unwrap();
    let handle = Server::new()
        .listen_as("front", listener, stack)
        .spawn()
        .unwrap();
    let mut received = String::new();
    let mut client = tokio::net::TcpStream::connect(front).await.unwrap();
    client.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "front");
    assert_eq!(*names.lock().unwrap(), [(None, Some(address))]);
    handle.stop();
    handle.wait().await;
}
