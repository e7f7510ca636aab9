mod acceptors;
mod exactness;
mod readiness;
mod refusing;
mod slots;
mod waiting;

use super::{ConnectionLimit, ConnectionLimitFuture, ConnectionLimitLayer};
use crate::{
    BoxError, Connection,
    connection::Socket,
    error::{Refused, find},
};
use std::time::Duration;
use tokio::{
    io::{DuplexStream, duplex},
    net::{TcpListener, TcpStream},
};
use tokio_test::assert_ready;
use tower_test::mock::{self, Handle, Mock, Spawn};

type InMemory = Connection<Socket<DuplexStream>>;
type Inner = Mock<InMemory, ()>;

static_assertions::assert_impl_all!(ConnectionLimitLayer: Send, Sync, Clone);
static_assertions::assert_impl_all!(ConnectionLimit<Inner>: Send, Sync, Clone);
static_assertions::assert_impl_all!(ConnectionLimitFuture<Inner, Socket<DuplexStream>>: Send);

fn limited(layer: &ConnectionLimitLayer) -> (Spawn<ConnectionLimit<Inner>>, Handle<InMemory, ()>) {
    mock::spawn_layer(layer.clone())
}

fn in_memory() -> (InMemory, DuplexStream) {
    let (ours, theirs) = duplex(64);
    (Connection::accept(ours), theirs)
}

/// A connection whose client does not matter.
fn connection() -> InMemory {
    in_memory().0
}

/// Takes the connection that the inner service was called with.
fn served(handle: &mut Handle<InMemory, ()>) -> InMemory {
    let (connection, respond) = assert_ready!(handle.poll_request()).unwrap();
    respond.send_response(());
    connection
}

async fn over_tcp() -> (Connection<Socket<TcpStream>>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    (Connection::accept(accepted.unwrap().0), client.unwrap())
}

/// Fails instead of hanging where a waiter is forgotten.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(Duration::from_secs(20), work).await;
    result.expect("nobody is left waiting")
}

fn reason(result: Result<(), BoxError>) -> &'static str {
    let error = result.unwrap_err();
    find::<Refused>(&*error).unwrap().reason()
}
