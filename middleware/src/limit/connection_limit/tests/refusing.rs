//! What rejected clients observe.

use super::super::Refusal;
use super::*;
use crate::{connection::Phase, guard::MAX_ANSWERING, outcome::Outcome};
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::advance,
};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt, service_fn};

/// Rejects every connection by `refusal`.
macro_rules! refusing {
    ($refusal:expr) => {
        ConnectionLimitLayer::new(0)
            .refuse()
            .with_refusal($refusal)
            .layer(service_fn(|_: Connection<_>| async {
                Ok::<(), BoxError>(())
            }))
    };
}

#[tokio::test]
async fn a_client_that_is_closed_sees_the_end() {
    let (connection, mut client) = over_tcp().await;
    let info = connection.info().clone();
    let error = refusing!(Refusal::Close)
        .oneshot(connection)
        .await
        .unwrap_err();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(Outcome::of(&info, Some(&*error)), Outcome::Refused);
}

#[tokio::test]
async fn a_client_that_is_reset_sees_a_reset() {
    let (connection, mut client) = over_tcp().await;
    let info = connection.info().clone();
    let error = refusing!(Refusal::Reset)
        .oneshot(connection)
        .await
        .unwrap_err();
    let read = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(read.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(Outcome::of(&info, Some(&*error)), Outcome::Refused);
}

#[tokio::test]
async fn a_client_that_is_answered_reads_it_although_its_input_was_not_read() {
    let service = refusing!(Refusal::answer("busy"));
    for _ in 0..20 {
        let (connection, mut client) = over_tcp().await;
        client.write_all(&[b'x'; 4000]).await.unwrap();
        let (result, received) = tokio::join!(service.clone().oneshot(connection), async move {
            let mut received = String::new();
            client.read_to_string(&mut received).await.map(|_| received)
        });
        assert_eq!(received.unwrap(), "busy");
        assert_eq!(reason(result), ConnectionLimitLayer::FULL);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_waited_in_vain_is_answered_too() {
    let (connection, mut client) = in_memory();
    let bound = Duration::from_secs(5);
    let mut service = ConnectionLimitLayer::new(0)
        .wait_up_to(bound, 1)
        .with_refusal(Refusal::answer(b"busy"))
        .layer(mock::pair::<InMemory, ()>().0);
    let (result, received) = tokio::join!(service.call(connection), async move {
        let mut received = String::new();
        client.read_to_string(&mut received).await.map(|_| received)
    });
    assert_eq!(received.unwrap(), "busy");
    assert_eq!(reason(result), ConnectionLimitLayer::WAITED_TOO_LONG);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_take_its_answer_is_given_a_second() {
    let too_much_for_the_pipe = vec![b'x'; 65];
    for answer in [&b"fits"[..], &too_much_for_the_pipe] {
        let (connection, _client) = in_memory();
        let info = connection.info().clone();
        let mut service = refusing!(Refusal::answer(answer));
        let mut call = task::spawn(service.call(connection));
        assert_pending!(call.poll());
        assert_eq!(info.phase(), Phase::Closing);
        advance(Duration::from_millis(999)).await;
        assert_pending!(call.poll());
        advance(Duration::from_millis(1)).await;
        assert!(call.is_woken());
        assert_eq!(
            reason(assert_ready!(call.poll())),
            ConnectionLimitLayer::FULL
        );
        assert_eq!(info.phase(), Phase::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn only_so_many_are_answered_at_once_and_the_others_closed() {
    let (layer, limit) = ConnectionLimitLayer::pair(0);
    let layer = layer.refuse().with_refusal(Refusal::answer("busy"));
    let mut service = layer.layer(mock::pair::<InMemory, ()>().0);
    let mut call = || {
        let (connection, client) = in_memory();
        (task::spawn(service.call(connection)), client)
    };
    let mut answering: Vec<_> = (0..MAX_ANSWERING).map(|_| call()).collect();
    for (call, _client) in &mut answering {
        assert_pending!(call.poll());
    }
    let received = async |mut client: DuplexStream| {
        let mut received = String::new();
        client.read_to_string(&mut received).await.unwrap();
        received
    };
    let (mut beyond, client) = call();
    assert_eq!(
        reason(assert_ready!(beyond.poll())),
        ConnectionLimitLayer::FULL
    );
    assert_eq!(received(client).await, "");

    let (mut first, client) = answering.pop().unwrap();
    assert_eq!(received(client).await, "busy");
    assert_eq!(
        reason(assert_ready!(first.poll())),
        ConnectionLimitLayer::FULL
    );
    let (mut again, client) = call();
    assert_pending!(again.poll());
    assert_eq!(received(client).await, "busy");
    assert_eq!(limit.refused(), MAX_ANSWERING as u64 + 2);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_observes_serves_all_and_notes_those_beyond_it() {
    let new = || ConnectionLimitLayer::new(2);
    let wait = Duration::from_secs(5);
    for layer in [new(), new().refuse(), new().wait_up_to(wait, 9)] {
        let layer = layer.with_observe(true);
        let limit = layer.handle();
        let (mut service, mut handle) = limited(&layer);
        let mut open = Vec::new();
        for number in 1..=3 {
            handle.allow(1);
            tokio_test::assert_ready_ok!(service.poll_ready());
            let connection = connection();
            let info = connection.info().clone();
            let mut call = task::spawn(service.call(connection));
            open.push(served(&mut handle));
            tokio_test::assert_ready_ok!(call.poll());
            let notes: Vec<_> = info.notes().map(ToString::to_string).collect();
            let expected = (number > 2).then(|| "connection_limit: limit reached".to_owned());
            assert_eq!(notes, Vec::from_iter(expected));
        }
        assert_eq!(
            (limit.active(), limit.observed(), limit.refused()),
            (3, 1, 0)
        );
        open.truncate(1);
        assert_eq!(limit.active(), 1);
        // Of the limit as it is now.
        limit.set_limit(1);
        handle.allow(1);
        tokio_test::assert_ready_ok!(service.poll_ready());
        drop(service.call(connection()));
        assert_eq!((limit.active(), limit.observed()), (2, 2));
        drop(served(&mut handle));
        assert_eq!(limit.active(), 1);
    }
}
