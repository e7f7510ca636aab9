//! Slow clients of every kind, and a healthy one beside them, in memory and with time that leaps.

use super::{millis, seconds, support::paused_scenario};
use axum::{
    Router,
    routing::{get, post},
};
use portcullis::{
    ServiceBuilderExt,
    connection::Linger,
    service::{HttpService, http::BodyRate},
    testing::{Harness, Peer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep},
};
use tower::ServiceBuilder;

#[test]
fn slow_clients_are_cut_at_their_bounds_while_others_are_served() {
    paused_scenario(async {
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route("/", post(async |body: String| body))
            .route("/large", get(async || "x".repeat(1 << 20)));
        let http = HttpService::new(router)
            .with_first_byte_timeout(seconds(10))
            .with_head_timeout(seconds(10))
            .with_body_rate(BodyRate::new(240, seconds(10)))
            .with_send_timeout(seconds(10))
            .with_linger(Linger::new().with_timeout(seconds(5)));
        let harness = Harness::new(ServiceBuilder::new().peer_addr().service(http));
        let begun = Instant::now();

        let second = seconds(1);
        let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n";
        let slow = [
            ("silent", Peer::new()),
            ("head", Peer::new().dribbles(head, 1, second)),
            (
                "body",
                Peer::new().sends(head).dribbles([b'x'; 1000], 1, second),
            ),
            (
                "response",
                Peer::new()
                    .stops_reading()
                    .sends("GET /large HTTP/1.1\r\nhost: a\r\n\r\n"),
            ),
        ];
        let slow = slow.map(|(name, script)| (name, harness.play(script)));

        let mut healthy = harness.connect();
        for _ in 0..20 {
            let requested = Instant::now();
            let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
            healthy.write_all(request).await.unwrap();
            let mut answer = [0; 256];
            let read = healthy.read(&mut answer).await.unwrap();
            assert!(answer[..read].ends_with(b"\r\n\r\nhello"));
            assert_eq!(requested.elapsed(), seconds(0), "nobody waits for the slow");
            let all_there = slow.iter().all(|(_, observed)| !observed.is_dropped());
            assert!(all_there || begun.elapsed() >= seconds(10));
            sleep(second).await;
        }
        for (name, observed) in &slow {
            assert!(observed.is_dropped(), "{name}");
        }
        let (_, told) = &slow[2];
        assert!(told.written().starts_with(b"HTTP/1.1 400 "), "the body");

        drop(healthy);
        sleep(millis(1)).await;
        harness.idle().await;
        harness.finish().await;
    });
}
