//! Timeouts of whole connections under a server on several threads, whose clock checks them.

use crate::support::{Fixture, echo, scenario};
use portcullis::{
    ServiceBuilderExt,
    middleware::{error::TimeoutPhase, outcome::Outcome, timeout::ConnectionTimeoutLayer},
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};
use tower::ServiceBuilder;

#[test]
fn a_silent_connection_ends_at_its_timeout_and_one_that_talks_does_not() {
    scenario(async {
        let limit = Duration::from_secs(1);
        let stack = ServiceBuilder::new()
            .peer_addr()
            .layer(ConnectionTimeoutLayer::new().with_first_byte_timeout(limit))
            .service_fn(echo);
        let server = Fixture::serve(stack);
        let mut talks = server.connect().await;
        talks.write_all(b"x").await.unwrap();
        talks.read_exact(&mut [0]).await.unwrap();
        let begun = Instant::now();
        let mut silent = server.connect().await;
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
        let took = begun.elapsed();
        assert!((limit..limit * 3).contains(&took), "{took:?}");
        talks.write_all(b"x").await.unwrap();
        talks.read_exact(&mut [0]).await.unwrap();
        drop(talks);
        server.idle().await;
        let timed_out = Outcome::TimedOut(TimeoutPhase::FIRST_BYTE);
        let outcomes = server.status().outcomes;
        assert!(outcomes.contains(&(timed_out, 1)), "{outcomes:?}");
        server.finish().await;
    });
}
