//! `listener.per-client`: limits of each client by its address.

use super::{Running, greeting, is_served};
use tokio::io::AsyncWriteExt;

const ANOTHER: [u8; 4] = [127, 0, 0, 2];

#[tokio::test]
async fn a_client_has_its_number_of_connections_and_another_client_the_same() {
    let mut running = Running::listener("per-client.connections = 2").await;
    let _held = [running.greeted().await, running.greeted().await];
    assert!(!is_served(running.connect().await).await);
    let reason = running.reason().await;
    assert!(reason.contains("`per-client.connections`"), "{reason}");
    assert!(running.serves(ANOTHER, 0).await);
}

#[tokio::test]
async fn a_client_connects_as_often_as_its_rate_says() {
    let mut running = Running::listener("per-client.rate = \"2/h\"").await;
    for served in [true, true, false] {
        assert_eq!(is_served(running.connect().await).await, served);
    }
    while !running.reason().await.contains("`per-client.rate`") {}
    assert!(running.serves(ANOTHER, 0).await);
}

#[tokio::test]
async fn a_burst_of_connections_is_larger_or_smaller_than_the_rate() {
    let keys = [
        "per-client = { rate = \"1/h\", burst = 3 }",
        "per-client = { rate = \"3/h\", burst = 1 }",
    ];
    let running = Running::listeners(&keys).await;
    for served in [true, true, true, false] {
        assert_eq!(is_served(running.connect_to(0).await).await, served);
    }
    for served in [true, false] {
        assert_eq!(is_served(running.connect_to(1).await).await, served);
    }
}

#[tokio::test]
async fn clients_of_one_ipv6_network_share_what_one_client_may_have() {
    let keys = [
        "per-client = { connections = 1, ipv6-prefix = 48 }",
        "per-client = { rate = \"1/h\", ipv6-prefix = 48 }",
        "per-client.connections = 1",
    ];
    let keys = keys.map(|keys| format!("proxy-protocol.trust = \"127.0.0.1\"\n{keys}"));
    let running = Running::listeners(&keys.each_ref().map(|keys| &**keys)).await;
    let connect = async |client: &str, listener: usize| {
        let mut stream = running.connect_to(listener).await;
        let header = format!("PROXY TCP6 {client} 2001:db8::1 4000 443\r\n");
        stream
            .write_all(header.as_bytes())
            .await
            .expect("it is open");
        let served = greeting(&mut stream).await.is_ok();
        (stream, served)
    };
    for listener in 0..3 {
        let (_held, served) = connect("2001:db8:1:1::7", listener).await;
        assert!(served);
        let (_same_site, served) = connect("2001:db8:1:2::7", listener).await;
        // The default is 64 bits.
        assert_eq!(served, listener == 2);
        assert!(!connect("2001:db8:1:1::8", listener).await.1);
        assert!(connect("2001:db8:2:1::7", listener).await.1);
    }
}

#[tokio::test]
async fn a_client_is_refused_by_a_close_or_a_reset() {
    let limits = ["connections = 1", "rate = \"1/h\""];
    let refuse = ["close", "reset"];
    let keys = limits.map(|limit| {
        refuse.map(|refuse| format!("per-client = {{ {limit}, refuse = \"{refuse}\" }}"))
    });
    let keys: Vec<&str> = keys.iter().flatten().map(|keys| &**keys).collect();
    let running = Running::listeners(&keys).await;
    for (number, keys) in keys.iter().enumerate() {
        let mut held = running.connect_to(number).await;
        assert_eq!(greeting(&mut held).await.expect("a greeting"), "one");
        assert_eq!(
            running.resets(number).await,
            keys.contains("reset"),
            "{keys}"
        );
    }
}

#[tokio::test]
async fn limits_that_are_only_observed_admit_and_are_logged() {
    for (limit, guard) in [
        ("connections = 1", "keyed_limit"),
        ("rate = \"1/h\"", "rate_limit"),
    ] {
        let keys = format!("per-client = {{ {limit}, observe = true }}");
        let mut running = Running::listener(&keys).await;
        let _held = running.greeted().await;
        drop(running.greeted().await);
        let ended = running.ended().await;
        let observed = ended["observed"].as_str().unwrap_or_default();
        assert!(observed.contains(guard), "{ended}");
    }
}
