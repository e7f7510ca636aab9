//! Layers for outgoing connections, without sockets.

use super::*;
use portcullis_middleware::{
    BoxError, Connection, ServiceBuilderExt,
    error::{Refused, find},
    limit::ConnectionLimitLayer,
    stream::try_map_io,
    testing::connection,
};
use std::{
    future::{Ready, pending, ready},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

type Made = Connection<tokio::io::Empty>;

fn made() -> Made {
    connection(tokio::io::empty())
}

/// Makes a connection immediately, counts them, and must be made ready for each.
#[derive(Debug, Default)]
struct Maker {
    made: Arc<AtomicUsize>,
    is_ready: bool,
}

impl Clone for Maker {
    fn clone(&self) -> Self {
        let made = self.made.clone();
        Self {
            made,
            is_ready: false,
        }
    }
}

impl Service<()> for Maker {
    type Response = Made;
    type Error = io::Error;
    type Future = Ready<io::Result<Made>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        assert!(
            std::mem::take(&mut self.is_ready),
            "called without being ready"
        );
        self.made.fetch_add(1, Ordering::Relaxed);
        ready(Ok(made()))
    }
}

#[tokio::test]
async fn no_connection_is_made_before_there_is_room_for_it() {
    let maker = Maker::default();
    let count = maker.made.clone();
    let (limit, handle) = ConnectionLimitLayer::pair(1);
    let connector = LayeredConnector::new(maker, limit);

    let first = connector.clone().oneshot(()).await.unwrap();
    let mut second = task::spawn(connector.clone().oneshot(()));
    assert_pending!(second.poll());
    assert_eq!((count.load(Ordering::Relaxed), handle.active()), (1, 1));
    drop(first);
    assert!(second.is_woken());
    let second = assert_ready_ok!(second.poll());
    assert_eq!((count.load(Ordering::Relaxed), handle.active()), (2, 1));
    drop(second);
    assert_eq!(handle.active(), 0);
}

#[tokio::test]
async fn a_clone_has_no_readiness_of_its_own() {
    let (limit, handle) = ConnectionLimitLayer::pair(1);
    let mut connector = LayeredConnector::new(Maker::default(), limit);
    connector.ready().await.unwrap();
    assert_eq!(handle.active(), 1);
    let mut clone = connector.clone();
    assert_pending!(task::spawn(clone.ready()).poll());
    assert_eq!(handle.waiting(), 1);
    drop(connector);
    clone.ready().await.unwrap();
    clone.call(()).await.unwrap();
}

#[tokio::test]
async fn one_connector_makes_one_connection_after_the_other() {
    let mut connector = LayeredConnector::new(Maker::default(), ConnectionLimitLayer::new(2));
    for _ in 0..3 {
        let connection = connector.ready().await.unwrap().call(()).await.unwrap();
        drop(connection);
    }
}

#[tokio::test]
async fn an_attempt_that_is_dropped_gives_its_place_back() {
    let (limit, handle) = ConnectionLimitLayer::pair(1);
    let never = service_fn(|()| pending::<Result<Made, io::Error>>());
    let mut connector = LayeredConnector::new(never, limit);
    let attempt = connector.ready().await.unwrap().call(());
    assert_eq!(handle.active(), 1);
    let mut attempt = task::spawn(attempt);
    assert_pending!(attempt.poll());
    drop(attempt);
    assert_eq!(handle.active(), 0);
}

#[tokio::test]
async fn a_layer_that_is_dropped_at_work_drops_the_connection() {
    let (limit, handle) = ConnectionLimitLayer::pair(1);
    let stuck = try_map_io(|_: tokio::io::Empty| pending::<io::Result<tokio::io::Empty>>());
    let layers = ServiceBuilder::new().layer(limit).layer(stuck);
    let connector = LayeredConnector::new(Maker::default(), layers);
    let mut attempt = task::spawn(connector.oneshot(()));
    assert_pending!(attempt.poll());
    assert_eq!(handle.active(), 1);
    drop(attempt);
    assert_eq!(handle.active(), 0);
}

#[tokio::test]
async fn errors_keep_their_types() {
    let refused = service_fn(|()| {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        ready(Err::<Made, _>(refused))
    });
    let connector = LayeredConnector::new(refused, ServiceBuilder::new().io_timeout());
    let error: BoxError = connector.oneshot(()).await.unwrap_err();
    let error = error.downcast::<io::Error>().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);

    let full = ConnectionLimitLayer::new(0).refuse();
    let connector = LayeredConnector::new(Maker::default(), full);
    let error = connector.oneshot(()).await.unwrap_err();
    assert!(find::<Refused>(&*error).is_some());
}

#[tokio::test]
async fn layers_of_ones_own_infer() {
    let layers = ServiceBuilder::new()
        .map_io(tokio::io::BufStream::new)
        .connection_fn(|mut connection: Connection<_>, next| async move {
            connection.extensions_mut().insert("seen");
            next.run(connection).await
        })
        .box_io();
    let connector = LayeredConnector::new(Maker::default(), layers);
    let connection = connector.oneshot(()).await.unwrap();
    assert_eq!(connection.extensions().get::<&str>(), Some(&"seen"));
    let mut connection = pin!(connection);
    let read = tokio::io::AsyncReadExt::read_u8(&mut connection).await;
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}
