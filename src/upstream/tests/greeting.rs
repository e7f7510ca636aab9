//! Greetings of mail servers that are discarded.

use super::*;
use crate::service::forward::{GreetingError, SkipGreeting};
use portcullis_middleware::{
    error::{Elapsed, TimeoutPhase, find},
    prelude::Greeting,
};
use tokio::{io::AsyncReadExt, time::Instant};
use tower::ServiceExt;

/// A server that sends this, and a service that expects a greeting of SMTP from it.
fn skipping(sends: &'static str) -> (Servers, SkipGreeting<Pool>) {
    let servers = Servers::new(1);
    servers.set(1, Answer::Sends(sends));
    let pool = servers.pool().build([Servers::server(1)]);
    (servers, SkipGreeting::new(pool, Greeting::Smtp))
}

#[tokio::test(start_paused = true)]
async fn the_connection_begins_behind_the_greeting() {
    let (_servers, skipping) = skipping("220-a\r\n220 b\r\nrest");
    let connected = skipping.oneshot(client()).await;
    let mut rest = [0; 4];
    connected.unwrap().read_exact(&mut rest).await.unwrap();
    assert_eq!(&rest, b"rest");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_error_with_the_words_of_the_server() {
    let (_servers, skipping) = skipping("554 go away\r\n");
    let connected = skipping.oneshot(client()).await;
    let error = connected.unwrap_err();
    assert_eq!(error.to_string(), "no greeting from unknown");
    let source = error.source().unwrap().to_string();
    assert_eq!(source, "the server refuses the connection: 554 go away");
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_greeting_has_the_timeout() {
    for (bound, expected) in [(None, 10), (Some(SECOND), 1)] {
        let begun = Instant::now();
        let (_servers, mut skipping) = skipping("220 a\r");
        if let Some(bound) = bound {
            skipping = skipping.with_timeout(bound);
        }
        let error = skipping.oneshot(client()).await.unwrap_err();
        assert!(error.is::<GreetingError>());
        let elapsed = Elapsed::new(TimeoutPhase::PRELUDE, expected * SECOND);
        assert_eq!(find::<Elapsed>(&*error), Some(&elapsed));
        assert_eq!(begun.elapsed(), expected * SECOND);
    }
}
