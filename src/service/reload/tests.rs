//! Waiting services and swaps, poll by poll.

use super::{service::lock, *};
use portcullis_middleware::{limit::ConnectionLimitLayer, testing::assert_contract};
use std::{convert::Infallible, sync::Arc};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{
    Layer, Service, ServiceExt, layer::layer_fn, limit::ConcurrencyLimitLayer, service_fn,
};
use tower_test::mock::{self, Spawn};

type Mock = mock::Mock<(), &'static str>;
type MockHandle = mock::Handle<(), &'static str>;

/// A stack that is ready as often as its handle allows.
fn stack(ready: u64) -> (Mock, MockHandle) {
    let (stack, mut handle) = mock::pair();
    handle.allow(ready);
    (stack, handle)
}

#[test]
fn a_service_that_waits_is_woken_by_the_swap_and_takes_the_new_stack() {
    let (old, _old) = stack(0);
    let (reload, handle) = Reload::pair(old);
    let mut waiting = Spawn::new(reload.clone());
    let mut second = Spawn::new(reload);
    assert_pending!(waiting.poll_ready());
    assert_pending!(waiting.poll_ready());
    assert_pending!(second.poll_ready());
    let (new, mut new_handle) = stack(1);
    handle.swap(new);
    assert!(waiting.is_woken() && second.is_woken());
    assert_ready_ok!(waiting.poll_ready());
    let _future = waiting.call(());
    assert_pending!(second.poll_ready());
    assert!(assert_ready!(task::spawn(new_handle.next_request()).poll()).is_some());
}

#[test]
fn a_swap_between_two_polls_is_seen_without_a_wake() {
    let (old, _old) = stack(0);
    let (mut reload, handle) = Reload::pair(old);
    let (new, _new) = stack(1);
    let mut waiting = task::spawn(std::future::poll_fn(|cx| {
        let ready = reload.poll_ready(cx);
        // As if the swap came right after the poll of the old stack.
        if handle.swaps() == 0 {
            handle.swap(new.clone());
        }
        ready
    }));
    assert_pending!(waiting.poll());
    assert!(waiting.is_woken());
    assert_ready_ok!(waiting.poll());
}

#[test]
fn who_waits_leaves_the_queue_of_the_old_stack() {
    let limit = ConcurrencyLimitLayer::new(1);
    let layered = |text: &'static str| {
        limit.layer(service_fn(
            move |()| async move { Ok::<_, Infallible>(text) },
        ))
    };
    let (reload, handle) = Reload::pair(layered("old"));
    let mut first = Spawn::new(reload.clone());
    assert_ready_ok!(first.poll_ready());
    let served = first.call(());
    let mut second = Spawn::new(reload.clone());
    assert_pending!(second.poll_ready());
    handle.swap(ConcurrencyLimitLayer::new(1).layer(layered("new").into_inner()));
    assert_ready_ok!(second.poll_ready());
    assert_eq!(assert_ready_ok!(task::spawn(second.call(())).poll()), "new");
    assert_eq!(assert_ready_ok!(task::spawn(served).poll()), "old");
}

#[test]
fn a_service_that_is_dropped_or_ready_no_longer_waits() {
    let (old, mut old_handle) = stack(0);
    let (reload, handle) = Reload::pair(old);
    let mut services = [(); 3].map(|()| Spawn::new(reload.clone()));
    for service in &mut services {
        assert_pending!(service.poll_ready());
    }
    assert_eq!(lock(&handle.shared).waiting.len(), 3);
    let [mut ready, dropped, cloned] = services;
    drop(dropped);
    old_handle.allow(1);
    assert_ready_ok!(ready.poll_ready());
    assert_eq!(lock(&handle.shared).waiting.len(), 1);
    drop(cloned.get_ref().clone());
    assert_eq!(lock(&handle.shared).waiting.len(), 1);
    drop(cloned);
    assert!(lock(&handle.shared).waiting.is_empty());
}

#[tokio::test]
async fn an_idle_service_keeps_no_stack_and_a_running_call_keeps_its_own() {
    let marks = [Arc::new("old"), Arc::new("new")];
    let serve = |mark: &Arc<&'static str>| {
        let mark = mark.clone();
        service_fn(move |()| {
            let mark = mark.clone();
            async move { Ok::<_, Infallible>(*mark) }
        })
    };
    let (mut reload, handle) = Reload::pair(serve(&marks[0]));
    let idle = reload.clone();
    let running = reload.ready().await.unwrap().call(());
    handle.swap(serve(&marks[1]));
    // The test and the call.
    assert_eq!(Arc::strong_count(&marks[0]), 2);
    assert_eq!(running.await, Ok("old"));
    assert_eq!(Arc::strong_count(&marks[0]), 1);
    assert_eq!(reload.ready().await.unwrap().call(()).await, Ok("new"));
    assert_eq!(
        (handle.swaps(), format!("{idle:?}")),
        (1, "Reload { swaps: 1, waits: false, .. }".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn it_keeps_the_contract_of_tower() {
    assert_contract(layer_fn(|stack| Reload::pair(stack).0)).await;
    let limit = ConnectionLimitLayer::new(2);
    let limited = layer_fn(|stack| Reload::pair(limit.layer(stack)).0);
    assert_contract(limited).await;
}
