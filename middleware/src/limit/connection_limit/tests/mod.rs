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
    testing::over_tcp,
};
use std::time::Duration;
use tokio::{
    io::DuplexStream,
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
    crate::testing::in_memory(64)
}

/// A connection without a client.
fn connection() -> InMemory {
    in_memory().0
}

/// Takes the connection that the inner service was called with.
fn served(handle: &mut Handle<InMemory, ()>) -> InMemory {
    let (connection, respond) = assert_ready!(handle.poll_request()).unwrap();
    respond.send_response(());
    connection
}

/// Fails instead of hanging if a waiter is forgotten.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(Duration::from_secs(20), work).await;
    result.expect("every waiter is served")
}

fn reason(result: Result<(), BoxError>) -> &'static str {
    let error = result.unwrap_err();
    find::<Refused>(&*error).unwrap().reason()
}
