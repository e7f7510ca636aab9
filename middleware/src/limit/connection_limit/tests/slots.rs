//! The slot stays in the connection, wherever it goes.

use super::*;
use tokio::sync::oneshot;
use tokio_test::{assert_pending, assert_ready_ok};
use tower::{Layer, Service, ServiceExt, service_fn};

#[tokio::test]
async fn the_slot_outlives_the_future_when_the_connection_moves_to_another_task() {
    let (layer, limit) = ConnectionLimitLayer::pair(1);
    let (mut service, mut handle) = limited(&layer);
    assert_ready_ok!(service.poll_ready());
    let call = service.call(connection());
    let moved = served(&mut handle);
    let (finish, finished) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let _ = finished.await;
        drop(moved);
    });

    call.await.unwrap();
    assert_eq!(limit.active(), 1);
    assert_pending!(service.poll_ready());
    finish.send(()).unwrap();
    task.await.unwrap();
    assert!(service.is_woken());
}

#[tokio::test]
async fn dropping_the_future_frees_the_slot() {
    let (layer, limit) = ConnectionLimitLayer::pair(1);
    let mut service = layer.layer(service_fn(|connection: InMemory| async move {
        std::future::pending::<()>().await;
        drop(connection);
        Ok::<_, BoxError>(())
    }));
    let call = service.ready().await.unwrap().call(connection());
    assert_eq!(limit.active(), 1);
    drop(call);
    assert_eq!(limit.active(), 0);
}

#[tokio::test]
async fn detaching_frees_the_slot_while_the_stream_lives_on() {
    let (layer, limit) = ConnectionLimitLayer::pair(1);
    let mut service = layer.layer(service_fn(|connection: InMemory| async move {
        Ok::<_, BoxError>(connection.detach())
    }));
    let stream = service.ready().await.unwrap().call(connection()).await;
    assert!(stream.is_ok());
    assert_eq!(limit.active(), 0);
}

#[tokio::test]
async fn a_panic_frees_the_slot() {
    let (layer, limit) = ConnectionLimitLayer::pair(1);
    let in_future = service_fn(|connection: InMemory| async move {
        let _connection = connection;
        if true {
            panic!("in the future");
        }
        Ok::<_, BoxError>(())
    });
    let mut service = layer.clone().layer(in_future);
    let call = service.ready().await.unwrap().call(connection());
    assert_eq!(limit.active(), 1);
    let panicked = in_time(tokio::spawn(call)).await;
    assert!(panicked.unwrap_err().is_panic());
    assert_eq!(limit.active(), 0);

    let in_call = service_fn(|_: InMemory| -> std::future::Ready<Result<(), BoxError>> {
        panic!("in the call");
    });
    let mut service = layer.wait_up_to(Duration::MAX, 1).layer(in_call);
    limit.set_limit(0);
    let call = service.ready().await.unwrap().call(connection());
    assert_eq!(limit.waiting(), 1);
    limit.set_limit(1);
    let panicked = in_time(tokio::spawn(call)).await;
    assert!(panicked.unwrap_err().is_panic());
    assert_eq!((limit.active(), limit.waiting()), (0, 0));
}
