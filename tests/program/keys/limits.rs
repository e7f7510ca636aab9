//! `listener.limits`: how many connections there are, and what happens to clients beyond that.

use super::{Running, SHORT, end, greeting, is_served};
use tokio::{io::AsyncReadExt, time::timeout};

#[tokio::test]
async fn a_client_beyond_the_limit_is_refused() {
    let keys = "limits = { connections = 2, when-full = \"refuse\" }";
    let mut running = Running::listener(keys).await;
    let _held = [running.greeted().await, running.greeted().await];
    assert!(!is_served(running.connect().await).await);
    let reason = running.reason().await;
    assert!(reason.contains("`limits.connections`"), "{reason}");
}

#[tokio::test]
async fn a_client_beyond_the_limit_waits_in_the_accept_queue() {
    let running = Running::listener("limits = { connections = 1, when-full = \"wait\" }").await;
    let held = running.greeted().await;
    let mut waiting = running.connect().await;
    let early = timeout(SHORT, waiting.read_u8()).await;
    assert!(early.is_err(), "{early:?}");
    drop(held);
    assert_eq!(greeting(&mut waiting).await.expect("a greeting"), "one");
}

#[tokio::test]
async fn a_client_waits_as_long_as_the_listener_says() {
    let keys = "limits = { connections = 1, when-full = { wait = \"300ms\", at-most = 9 } }";
    let running = Running::listener(keys).await;
    let _held = running.greeted().await;
    let took = end(&mut running.connect().await).await;
    assert!(took >= SHORT, "{took:?}");
}

#[tokio::test]
async fn one_client_waits_and_further_ones_are_refused() {
    let keys = "limits = { connections = 1, when-full = { wait = \"1h\", at-most = 1 } }";
    let running = Running::listener(keys).await;
    let held = running.greeted().await;
    let (mut one, mut two) = (running.connect().await, running.connect().await);
    let is_first = tokio::select! {
        _ = end(&mut one) => false,
        _ = end(&mut two) => true,
    };
    let mut waiting = if is_first { one } else { two };
    let early = timeout(SHORT, waiting.read_u8()).await;
    assert!(early.is_err(), "{early:?}");
    // It is served when there is a place.
    drop(held);
    assert_eq!(greeting(&mut waiting).await.expect("a greeting"), "one");
}
