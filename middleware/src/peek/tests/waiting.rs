//! What holds others up, and what does not.

use super::*;
use crate::connection::{ForcedClose, Phase};
use crate::testing::{in_memory, over_tcp};
use tokio_test::{assert_pending, assert_ready, task};
use tower_test::mock;

#[tokio::test]
async fn a_silent_client_does_not_reserve_the_inner_service() {
    let (inner, mut handle) = mock::pair::<Connection<_>, u8>();
    handle.allow(0);
    let mut service = PeekLayer::new().layer(inner);
    assert!(assert_ready!(task::spawn(service.ready()).poll()).is_ok());
    let (connection, mut client) = in_memory(1024);
    let info = connection.info().clone();
    let mut served = task::spawn(service.call(connection));
    assert_pending!(served.poll());
    client.write_all(&hello()).await.unwrap();
    assert_pending!(served.poll());
    assert_eq!(info.phase(), Phase::Waiting);
    assert_eq!(name(&info), Some("shop.example"));
    handle.allow(1);
    assert_pending!(served.poll());
    let (_, respond) = handle.next_request().await.unwrap();
    respond.send_response(7);
    assert_eq!(served.await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_good_client_is_served_beside_a_thousand_silent_ones() {
    let read = |mut connection: Connection<PrefixedIo<_>>| async move {
        let mut input = vec![0; hello().len()];
        connection.read_exact(&mut input).await.map(drop)
    };
    let one = tower::limit::ConcurrencyLimitLayer::new(1);
    let mut stack = PeekLayer::new().layer(one.layer(service_fn(read)));
    let mut silent: Vec<_> = (0..1000)
        .map(|_| {
            let (connection, client) = in_memory(1024);
            (task::spawn(stack.call(connection)), client)
        })
        .collect();
    for (served, _) in &mut silent {
        assert_pending!(served.poll());
    }
    let (connection, mut client) = in_memory(1024);
    client.write_all(&hello()).await.unwrap();
    stack.call(connection).await.unwrap();
    tokio::time::advance(Duration::from_millis(5_001)).await;
    for (served, _client) in silent {
        let error = served.await.unwrap_err();
        assert!(find::<Elapsed>(&*error).is_some());
    }
}

#[tokio::test]
async fn a_client_that_is_reset_while_it_waits_for_the_service_is_noticed() {
    let (inner, mut handle) = mock::pair::<Connection<_>, u8>();
    handle.allow(0);
    let (connection, mut client) = over_tcp().await;
    client.write_all(&hello()).await.unwrap();
    let mut served = task::spawn(PeekLayer::new().layer(inner).call(connection));
    while name_of(&served) != "serving" {
        assert_pending!(served.poll());
        tokio::task::yield_now().await;
    }
    client.set_zero_linger().unwrap();
    drop(client);
    let error = served.await.unwrap_err().downcast::<io::Error>().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

fn name_of(future: &impl std::fmt::Debug) -> &'static str {
    match format!("{future:?}").contains("serving") {
        true => "serving",
        false => "peeking",
    }
}

#[tokio::test]
async fn a_connection_that_is_closed_from_outside_does_not_wait_on() {
    let (connection, client) = in_memory(1024);
    let info = connection.info().clone();
    let mut served = task::spawn(serve_connection(PeekLayer::new(), connection));
    assert_pending!(served.poll());
    info.force_close();
    assert!(served.is_woken());
    let error = served.await.unwrap_err();
    assert!(find::<ForcedClose>(&*error).is_some());
    drop(client);
}
