//! Tests of waiting before accepting: readiness, wakes and clones.

use super::*;
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service};

#[test]
fn a_full_service_is_not_ready_until_a_connection_is_gone() {
    let (layer, limit) = ConnectionLimitLayer::pair(1);
    let (mut service, mut handle) = limited(&layer);
    assert_ready_ok!(service.poll_ready());
    let mut first = task::spawn(service.call(connection()));
    let held = served(&mut handle);
    assert_ready_ok!(first.poll());
    assert_pending!(service.poll_ready());
    assert_eq!((limit.active(), limit.waiting()), (1, 1));

    drop(held);
    assert!(service.is_woken());
    assert_ready_ok!(service.poll_ready());
    assert_eq!((limit.active(), limit.waiting()), (1, 0));
    drop(service.call(connection()));
    drop(served(&mut handle));
    assert_eq!(limit.active(), 0);
}

#[test]
fn being_ready_twice_takes_one_slot() {
    let (layer, limit) = ConnectionLimitLayer::pair(2);
    let (mut service, _handle) = limited(&layer);
    assert_ready_ok!(service.poll_ready());
    assert_ready_ok!(service.poll_ready());
    assert_eq!(limit.active(), 1);
}

#[test]
fn a_clone_does_not_inherit_the_reserved_slot() {
    let (layer, limit) = ConnectionLimitLayer::pair(1);
    let (mut service, mut handle) = limited(&layer);
    assert_ready_ok!(service.poll_ready());
    let mut clone = service.clone();
    assert_pending!(clone.poll_ready());
    let mut clone_of_waiting = clone.clone();
    assert_pending!(clone_of_waiting.poll_ready());
    assert_eq!((limit.active(), limit.waiting()), (1, 2));

    drop(service.call(connection()));
    drop(served(&mut handle));
    assert_ready_ok!(clone.poll_ready());
    assert_pending!(clone_of_waiting.poll_ready());
}

#[test]
fn dropping_a_ready_service_wakes_the_next() {
    let (layer, limit) = ConnectionLimitLayer::pair(1);
    let (mut ready, _handle) = limited(&layer);
    assert_ready_ok!(ready.poll_ready());
    let mut next = ready.clone();
    assert_pending!(next.poll_ready());

    drop(ready);
    assert!(next.is_woken());
    assert_ready_ok!(next.poll_ready());
    assert_eq!(limit.active(), 1);
}

#[test]
fn dropping_a_service_that_waits_leaves_no_waiter() {
    let (layer, limit) = ConnectionLimitLayer::pair(0);
    let (mut service, _handle) = limited(&layer);
    let clone = service.get_ref().clone();
    assert_pending!(service.poll_ready());
    assert_eq!((service.waker_ref_count(), limit.waiting()), (2, 1));
    *service.get_mut() = clone;
    assert_eq!((service.waker_ref_count(), limit.waiting()), (1, 0));
}

#[test]
fn a_slot_given_to_a_service_that_is_dropped_goes_to_the_next() {
    let (layer, limit) = ConnectionLimitLayer::pair(0);
    let (mut first, _handle) = limited(&layer);
    let mut second = first.clone();
    assert_pending!(first.poll_ready());
    assert_pending!(second.poll_ready());
    limit.set_limit(1);
    assert!(first.is_woken() && !second.is_woken());

    drop(first);
    assert!(second.is_woken());
    assert_ready_ok!(second.poll_ready());
    assert_eq!(limit.active(), 1);
}

#[test]
fn slots_are_given_in_the_order_in_which_they_were_asked_for() {
    let (layer, limit) = ConnectionLimitLayer::pair(0);
    let (service, _handle) = limited(&layer);
    let mut waiting: Vec<_> = (0..3).map(|_| service.clone()).collect();
    for service in &mut waiting {
        assert_pending!(service.poll_ready());
    }
    // Polling again, even by another task, is not a new request.
    assert_pending!(waiting[0].poll_ready());
    for turn in 0..3 {
        limit.set_limit(turn + 1);
        let woken: Vec<_> = waiting.iter().map(Spawn::is_woken).collect();
        assert_eq!(woken, [true, turn >= 1, turn >= 2]);
    }
    for service in &mut waiting {
        assert_ready_ok!(service.poll_ready());
    }
}

#[test]
fn the_task_that_polled_last_is_woken() {
    let (layer, limit) = ConnectionLimitLayer::pair(0);
    let (inner, _handle) = mock::pair::<InMemory, ()>();
    let mut service = layer.layer(inner);
    let mut before = task::spawn(());
    let mut after = task::spawn(());
    assert!(before.enter(|cx, _| service.poll_ready(cx)).is_pending());
    assert!(after.enter(|cx, _| service.poll_ready(cx)).is_pending());
    assert_eq!(before.waker_ref_count(), 1);
    limit.set_limit(1);
    assert!(after.is_woken() && !before.is_woken());
}

#[test]
fn no_slot_is_taken_while_the_inner_service_is_not_ready() {
    let (layer, limit) = ConnectionLimitLayer::pair(1);
    let (mut service, mut handle) = limited(&layer);
    handle.allow(0);
    assert_pending!(service.poll_ready());
    assert_eq!((limit.active(), limit.waiting()), (0, 0));
    handle.allow(1);
    assert!(service.is_woken());
    assert_ready_ok!(service.poll_ready());
    assert_eq!(limit.active(), 1);
}

#[test]
fn errors_of_the_inner_service_pass() {
    let layer = ConnectionLimitLayer::new(1);
    let (mut service, mut handle) = limited(&layer);
    handle.send_error("broken");
    let error = assert_ready_err!(service.poll_ready());
    assert_eq!(error.to_string(), "broken");
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(connection()));
    let (_, respond) = assert_ready!(handle.poll_request()).unwrap();
    respond.send_error("failed");
    assert_eq!(assert_ready_err!(call.poll()).to_string(), "failed");
}

#[test]
#[should_panic(expected = "`poll_ready` must return ready before each `call`")]
fn a_call_without_readiness_is_a_mistake_of_the_program() {
    let mut service = ConnectionLimitLayer::new(1).layer(mock::pair::<InMemory, ()>().0);
    drop(service.call(connection()));
}

#[test]
fn clones_of_a_layer_share_the_limit_and_two_layers_do_not() {
    let (layer, limit) = ConnectionLimitLayer::pair(1);
    let (mut one, _one) = limited(&layer);
    let (mut same, _same) = limited(&layer.clone());
    let (mut other, _other) = limited(&ConnectionLimitLayer::new(1));
    assert_ready_ok!(one.poll_ready());
    assert_pending!(same.poll_ready());
    assert_ready_ok!(other.poll_ready());
    assert_eq!(limit.active(), 1);
}

#[test]
fn lowering_the_limit_lets_none_in_until_enough_have_left() {
    let (layer, limit) = ConnectionLimitLayer::pair(3);
    let (mut service, mut handle) = limited(&layer);
    let mut held = Vec::new();
    for _ in 0..3 {
        assert_ready_ok!(service.poll_ready());
        drop(service.call(connection()));
        held.push(served(&mut handle));
    }
    limit.set_limit(1);
    assert_eq!((limit.limit(), limit.active()), (1, 3));
    assert_pending!(service.poll_ready());
    for active in [2, 1] {
        held.pop();
        assert_eq!(limit.active(), active);
        assert!(!service.is_woken());
        assert_pending!(service.poll_ready());
    }
    held.pop();
    assert!(service.is_woken());
    assert_ready_ok!(service.poll_ready());
}

#[test]
fn a_slot_given_back_unused_after_the_limit_was_lowered_goes_to_nobody() {
    let (layer, limit) = ConnectionLimitLayer::pair(0);
    let (mut first, _handle) = limited(&layer);
    let mut second = first.clone();
    assert_pending!(first.poll_ready());
    assert_pending!(second.poll_ready());
    limit.set_limit(1);
    limit.set_limit(0);
    assert_eq!((limit.active(), limit.waiting()), (1, 1));

    drop(first);
    assert!(!second.is_woken());
    assert_pending!(second.poll_ready());
    assert_eq!((limit.active(), limit.waiting()), (0, 1));
}

#[test]
fn any_number_is_a_limit() {
    let (layer, limit) = ConnectionLimitLayer::pair(usize::MAX);
    let (mut service, _handle) = limited(&layer);
    assert_ready_ok!(service.poll_ready());
    limit.set_limit(0);
    assert_pending!(service.clone().poll_ready());
    limit.set_limit(usize::MAX);
    assert_ready_ok!(service.clone().poll_ready());
    let shown = format!("{limit:?}");
    assert!(shown.contains("active: 1, waiting: 0, refused: 0"));
}
