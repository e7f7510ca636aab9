//! Which rejections are logged, and how often.

use super::*;
use crate::observe::trace::tests::log::Log;
use std::time::Duration;
use tokio_test::io::Builder;
use tracing::Level;

const MINUTE: Duration = Duration::from_secs(60);

/// The text and `suppressed` of each line.
#[track_caller]
fn warnings(log: &Log) -> Vec<(String, String)> {
    let lines = log.lines().into_iter();
    lines
        .map(|line| {
            assert_eq!(line.level, Level::WARN);
            (line.text, line.fields["suppressed"].clone())
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn untrusted_sources_are_named_once_a_minute() {
    let log = Log::of_lines(Level::INFO);
    let layer = layer();
    for _ in 0..600 {
        let io = Builder::new().build();
        serve(layer.clone(), from_stranger(io)).await.unwrap_err();
    }
    let [(text, suppressed)] = warnings(&log).try_into().unwrap();
    assert!(
        text.contains("192.0.2.66:5000 is not a trusted source"),
        "{text}"
    );
    assert_eq!(suppressed, "0");

    tokio::time::advance(MINUTE - Duration::from_millis(1)).await;
    serve(layer.clone(), from_stranger(Builder::new().build()))
        .await
        .unwrap_err();
    assert_eq!(log.lines().len(), 1);
    tokio::time::advance(Duration::from_millis(1)).await;
    serve(layer, from_stranger(Builder::new().build()))
        .await
        .unwrap_err();
    assert_eq!(warnings(&log)[1].1, "600");
}

#[tokio::test(start_paused = true)]
async fn a_trusted_source_without_a_valid_header_is_named_whoever_else_was() {
    for said in [&b"GET / HTTP/1.1\r\n"[..], b"PROXY nonsense\n"] {
        let log = Log::of_lines(Level::INFO);
        let layer = layer();
        serve(layer.clone(), from_stranger(Builder::new().build()))
            .await
            .unwrap_err();
        for _ in 0..3 {
            let io = Builder::new().read(said).build();
            serve(layer.clone(), from_proxy(io)).await.unwrap_err();
        }
        let [_, (text, _)] = warnings(&log).try_into().unwrap();
        assert!(text.contains("PROXY header from 10.1.2.3:5000"), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_trusted_source_that_stays_silent_is_named() {
    let log = Log::of_lines(Level::INFO);
    let (io, _silent) = tokio::io::duplex(64);
    serve(layer(), from_proxy(io)).await.unwrap_err();
    let [(text, _)] = warnings(&log).try_into().unwrap();
    assert!(text.contains("timed out after 5s"), "{text}");
}

#[tokio::test]
async fn health_checks_and_direct_clients_are_not_worth_a_warning() {
    let log = Log::of_lines(Level::INFO);
    serve(layer(), from_proxy(Builder::new().build()))
        .await
        .unwrap_err();
    let direct = layer().with_direct_clients();
    serve(direct, from_stranger(Builder::new().build()))
        .await
        .unwrap();
    assert!(log.lines().is_empty());
}

#[tokio::test]
async fn a_second_layer_takes_its_header_off_and_records_nothing() {
    let first = tlv(0x05, b"first");
    for (first, peer) in [
        (v2_tcp4(&first), ip(CLIENT)),
        // It names no client, and the second header must not either.
        (v2(LOCAL, 0, &first), ip("10.1.2.3:5000")),
    ] {
        let log = Log::of_lines(Level::INFO);
        let second = b"PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n";
        let sent = [&*first, second, b"hello"].concat();
        let connection = from_proxy(Builder::new().read(&sent).build());
        let twice = tower::layer::layer_fn(|service| layer().layer(layer().layer(service)));
        let seen = twice
            .layer(tower::service_fn(see))
            .oneshot(connection)
            .await
            .unwrap();

        assert_eq!((seen.peer, &*seen.said), (peer, &b"hello"[..]));
        assert_eq!(seen.header.unwrap().unique_id(), Some(&b"first"[..]));
        let [(text, _)] = warnings(&log).try_into().unwrap();
        assert!(
            text.contains("a second PROXY header from 10.1.2.3:5000 was ignored"),
            "{text}"
        );
    }
}
