//! Waiting up to a timeout, then rejecting, and rejecting immediately.

use super::*;
use crate::{
    ConnectionInfo,
    connection::{ForcedClose, Phase},
    limit::connection_limit::LimitHandle,
};
use std::{pin::Pin, sync::Arc};
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt};

const BOUND: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_connection_waits_up_to_its_bound_and_is_refused_then() {
    let (layer, limit) = ConnectionLimitLayer::pair(0);
    let (mut service, mut handle) = limited(&layer.wait_up_to(BOUND, 1));
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(connection()));
    assert_pending!(call.poll());
    advance(BOUND - TICK).await;
    assert_pending!(call.poll());
    assert_eq!((limit.waiting(), limit.refused()), (1, 0));

    advance(TICK).await;
    assert!(call.is_woken());
    let refused = assert_ready!(call.poll());
    assert_eq!(reason(refused), ConnectionLimitLayer::WAITED_TOO_LONG);
    assert_eq!((limit.waiting(), limit.refused()), (0, 1));
    assert_pending!(handle.poll_request());
}

#[tokio::test(start_paused = true)]
async fn a_slot_at_the_very_bound_is_in_time() {
    let (layer, limit) = ConnectionLimitLayer::pair(0);
    let (mut service, mut handle) = limited(&layer.wait_up_to(BOUND, 1));
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(connection()));
    assert_pending!(call.poll());
    advance(BOUND).await;
    limit.set_limit(1);
    assert_pending!(call.poll());
    let _held = served(&mut handle);
    assert_ready_ok!(call.poll());
    assert_eq!((limit.active(), limit.refused()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_connection_is_woken_by_the_slot_and_served_once_the_service_is_ready() {
    let (layer, limit) = ConnectionLimitLayer::pair(1);
    let (mut service, mut handle) = limited(&layer.wait_up_to(BOUND, 1));
    assert_ready_ok!(service.poll_ready());
    drop(service.call(connection()));
    let first = served(&mut handle);
    assert_ready_ok!(service.poll_ready());
    handle.allow(0);
    let second = connection();
    let info = second.info().clone();
    info.set_phase(Phase::Serving);
    let mut call = task::spawn(service.call(second));
    assert_eq!(info.phase(), Phase::Waiting);
    assert_pending!(call.poll());
    assert_pending!(service.poll_ready());

    drop(first);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert_eq!(info.phase(), Phase::Waiting);
    assert_eq!((limit.active(), limit.waiting()), (1, 0));
    handle.allow(1);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert_eq!(info.phase(), Phase::Serving);
    let _second = served(&mut handle);
    assert_ready_ok!(call.poll());
    assert_eq!((limit.active(), limit.waiting()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn as_many_as_may_wait_do_and_no_more() {
    let (layer, limit) = ConnectionLimitLayer::pair(0);
    let (service, _handle) = limited(&layer.wait_up_to(BOUND, 2));
    let call = || {
        let mut service = service.clone();
        assert_ready_ok!(service.poll_ready());
        task::spawn(service.call(connection()))
    };
    let mut first = call();
    assert_pending!(first.poll());
    assert_pending!(call().poll());
    assert_eq!(limit.waiting(), 1);
    let mut second = call();
    assert_pending!(second.poll());
    let refused = assert_ready!(call().poll());
    assert_eq!(reason(refused), ConnectionLimitLayer::TOO_MANY_WAITING);
    assert_eq!((limit.waiting(), limit.refused()), (2, 1));

    drop(first);
    assert_pending!(call().poll());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_future_that_waits_leaves_no_waiter_and_passes_its_slot_on() {
    let (layer, limit) = ConnectionLimitLayer::pair(0);
    let (mut service, mut handle) = limited(&layer.wait_up_to(BOUND, 3));
    let mut calls: Vec<_> = (0..3)
        .map(|_| {
            assert_ready_ok!(service.poll_ready());
            let mut call = task::spawn(service.call(connection()));
            assert_pending!(call.poll());
            call
        })
        .collect();
    drop(calls.remove(1));
    assert_eq!(limit.waiting(), 2);
    limit.set_limit(1);
    drop(calls.remove(0));
    assert!(calls[0].is_woken());
    assert_pending!(calls[0].poll());
    let _held = served(&mut handle);
    assert_ready_ok!(calls[0].poll());
    assert_eq!((limit.active(), limit.waiting()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_bound_may_be_as_long_as_it_likes() {
    let layer = ConnectionLimitLayer::new(0).wait_up_to(Duration::MAX, usize::MAX);
    let (mut service, _handle) = limited(&layer);
    assert_ready_ok!(service.poll_ready());
    assert_pending!(task::spawn(service.call(connection())).poll());
}

#[test]
fn a_full_limit_refuses_at_once_and_nothing_else_does() {
    let (layer, limit) = ConnectionLimitLayer::pair(1);
    let (mut service, mut handle) = limited(&layer.refuse());
    let mut call = || {
        assert_ready_ok!(service.poll_ready());
        task::spawn(service.call(connection()))
    };
    let mut first = call();
    let held = served(&mut handle);
    assert_ready_ok!(first.poll());
    assert_eq!(
        reason(assert_ready!(call().poll())),
        ConnectionLimitLayer::FULL
    );
    drop(held);
    let mut third = call();
    let _held = served(&mut handle);
    assert_ready_ok!(third.poll());
    assert_eq!((limit.active(), limit.refused()), (1, 1));
}

#[tokio::test]
async fn clones_of_a_layer_that_differ_when_full_share_one_queue() {
    let (layer, limit) = ConnectionLimitLayer::pair(0);
    let (mut before_accept, _one) = limited(&layer);
    let (mut in_future, _two) = limited(&layer.clone().wait_up_to(BOUND, 1));
    assert_pending!(before_accept.poll_ready());
    assert_ready_ok!(in_future.poll_ready());
    let refused = in_future.call(connection()).await;
    assert_eq!(reason(refused), ConnectionLimitLayer::TOO_MANY_WAITING);
    assert_eq!(limit.waiting(), 1);
}

/// A connection over TCP that waits in a queue.
struct InQueue {
    call: task::Spawn<Pin<Box<Call>>>,
    client: TcpStream,
    limit: LimitHandle,
    info: ConnectionInfo,
    guard: Arc<()>,
}

type Call = dyn Future<Output = Result<(), BoxError>>;

async fn in_queue() -> InQueue {
    let (layer, limit) = ConnectionLimitLayer::pair(0);
    let service = tower::service_fn(|_| async { Ok::<_, BoxError>(()) });
    let service = layer.wait_up_to(BOUND, 1).layer(service);
    let (mut connection, client) = over_tcp().await;
    let (info, guard) = (connection.info().clone(), Arc::new(()));
    connection.hold(guard.clone());
    let call: Pin<Box<Call>> = Box::pin(service.oneshot(connection));
    let mut call = task::spawn(call);
    assert_pending!(call.poll());
    assert_eq!((info.phase(), limit.waiting()), (Phase::Waiting, 1));
    InQueue {
        call,
        client,
        limit,
        info,
        guard,
    }
}

#[tokio::test]
async fn a_client_that_leaves_gives_up_its_place_in_the_queue() {
    for reset in [false, true] {
        let InQueue {
            mut call,
            client,
            limit,
            ..
        } = in_queue().await;
        if reset {
            client.set_zero_linger().unwrap();
        }
        drop(client);
        let error = in_time(&mut call).await.unwrap_err();
        assert!(error.is::<std::io::Error>(), "{error}");
        drop(call);
        assert_eq!((limit.waiting(), limit.refused()), (0, 0));
    }
}

#[tokio::test]
async fn a_client_that_sends_and_ends_its_side_waits_on_and_is_served() {
    use tokio::io::AsyncWriteExt;
    let InQueue {
        mut call,
        mut client,
        limit,
        ..
    } = in_queue().await;
    client.write_all(b"request").await.unwrap();
    client.shutdown().await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(50), &mut call).await;
    assert!(waited.is_err());
    limit.set_limit(1);
    in_time(call).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_is_closed_from_outside_gives_up_its_place_in_the_queue() {
    let InQueue {
        mut call,
        client: _client,
        limit,
        info,
        guard,
    } = in_queue().await;
    info.force_close();
    assert!(call.is_woken());
    let error = assert_ready!(call.poll()).unwrap_err();
    assert!(error.is::<ForcedClose>(), "{error}");
    assert_eq!(Arc::strong_count(&guard), 1, "it is closed immediately");
    drop(call);
    assert_eq!((limit.waiting(), limit.refused()), (0, 0));
}

#[tokio::test]
async fn a_connection_that_waits_takes_no_slot_of_a_limit_inside() {
    let (outer, waiting) = ConnectionLimitLayer::pair(0);
    let (inner, inside) = ConnectionLimitLayer::pair(1);
    let service = tower::service_fn(|_: InMemory| async { Ok::<_, BoxError>(()) });
    let mut stack = outer.wait_up_to(BOUND, 1).layer(inner.layer(service));
    let call = stack.ready().await.unwrap().call(connection());
    let mut call = task::spawn(call);
    assert_pending!(call.poll());
    assert_eq!((waiting.waiting(), inside.active()), (1, 0));
    waiting.set_limit(1);
    assert_ready_ok!(call.poll());
}
