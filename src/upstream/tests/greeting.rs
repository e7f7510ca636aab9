//! Greetings of mail servers that are discarded.

use super::*;
use portcullis_middleware::{
    error::{Elapsed, TimeoutPhase, find},
    io::Passthrough,
    prelude::Greeting,
};
use tokio::{io::AsyncReadExt, time::Instant};
use tower::ServiceExt;

/// Servers that send these, and a pool that expects a greeting of SMTP from them, in their order.
fn skipping(sends: &[&'static str]) -> (Servers, Pool, SkipGreeting) {
    let servers = Servers::new(sends.len());
    for (number, sends) in (1..).zip(sends) {
        servers.set(number, Answer::Sends(sends));
    }
    let pool = servers
        .pool()
        .with_balance(Balance::First)
        .build((1..=sends.len()).map(Servers::server));
    let skipping = SkipGreeting::new(pool.clone(), Greeting::Smtp);
    (servers, pool, skipping)
}

#[tokio::test(start_paused = true)]
async fn the_connection_begins_behind_the_greeting() {
    for (sends, rest) in [
        ("220-a\r\n220 b\r\nrest", "rest"),
        ("220-a\r\n220 b\r\n", ""),
    ] {
        let (servers, _, skipping) = skipping(&[sends]);
        let mut connected = skipping.oneshot(client()).await.unwrap();
        // A forwarder reaches the socket unless bytes are left.
        let is_plain = matches!(connected.get_ref(), BackendIo::Plain(_));
        assert_eq!(is_plain, rest.is_empty());
        servers.close_all();
        let mut received = String::new();
        connected.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, rest);
        assert!(!connected.get_ref().is_passthrough());
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_in_its_greeting_has_failed_and_the_next_is_tried() {
    let (servers, pool, skipping) = skipping(&["421 busy\r\n", "220 a\r\nfine"]);
    for _ in 0..5 {
        let mut connected = skipping.connect(&client()).await.unwrap();
        let mut rest = [0; 4];
        connected.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"fine");
        assert_eq!(pool.servers()[0].connections, 0);
    }
    assert_eq!(servers.begun(1), 5);
    assert!(matches!(pool.servers()[0].state, ServerState::Ejected(_)));
    skipping.connect(&client()).await.unwrap();
    assert_eq!(servers.begun(1), 5);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_has_failed_and_the_next_is_tried() {
    let (_servers, _, skipping) = skipping(&["", "220 a\r\nfine"]);
    let begun = Instant::now();
    skipping.connect(&client()).await.unwrap();
    assert_eq!(begun.elapsed(), 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_error_with_the_words_of_the_server() {
    let (_servers, _, skipping) = skipping(&["554 go away\r\n"]);
    let error = skipping.oneshot(client()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no backend: connect failed: 192.0.2.1:80: the server refuses the connection: 554 go away"
    );
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_greeting_has_the_timeout_behind_the_connect() {
    for (bound, expected) in [(None, 10), (Some(SECOND), 1), (Some(100 * SECOND), 100)] {
        let begun = Instant::now();
        let (_servers, _, mut skipping) = skipping(&["220 a\r"]);
        if let Some(bound) = bound {
            skipping = skipping.with_timeout(bound);
        }
        let error = skipping.oneshot(client()).await.unwrap_err();
        let elapsed = Elapsed::new(TimeoutPhase::PRELUDE, expected * SECOND);
        let cause = error.attempts()[0].error();
        assert_eq!(find::<Elapsed>(cause), Some(&elapsed));
        assert_eq!(begun.elapsed(), expected * SECOND);
    }
}
