//! Samples for the plots, and metrics for Prometheus.

use super::{Administered, forward_to};
use crate::gate::{backend, line};
use serde_json::Value;

#[tokio::test]
async fn samples_count_what_happens() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let mut client = running.gate.connect().await;
    line(&mut client).await.expect("the greeting");
    let sum = |column: &Value| -> u64 {
        column
            .as_array()
            .expect("a column")
            .iter()
            .filter_map(Value::as_u64)
            .sum()
    };
    let has_seen = |live: &Value| sum(&live["accepted"]) == 1 && sum(&live["bytes_out"]) == 4;
    let live = running.eventually("/api/live", has_seen).await;
    let last = live["at"].as_array().expect("times").len() - 1;
    assert_eq!(live["connections"]["a"][last], 1);
    drop(client);
    let has_ended = |live: &Value| sum(&live["outcomes"]["completed"]) == 1;
    let live = running.eventually("/api/live", has_ended).await;
    let at = live["at"].as_array().expect("times");
    let lengths = ["accepted", "refused", "bytes_in", "bytes_out"].map(|key| &live[key]);
    let handshakes = &live["handshakes"];
    let lengths = lengths
        .into_iter()
        .chain([&handshakes["counts"], &handshakes["p50"]]);
    for column in lengths {
        assert_eq!(column.as_array().expect("a column").len(), at.len());
    }
    let since = at
        .last()
        .expect("there are some")
        .as_u64()
        .expect("a number");
    let newer = running
        .get(&format!("/api/live?since={since}"))
        .await
        .json();
    assert!(newer["at"].as_array().expect("times").len() <= 1);
    assert_eq!(
        sum(&live["bytes_out"]),
        4,
        "the end of a connection adds nothing twice"
    );
}

#[tokio::test]
async fn metrics_are_there_for_prometheus_in_both_formats() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    line(&mut running.gate.connect().await)
        .await
        .expect("the greeting");
    running.post("/api/reload").await;
    running
        .eventually("/api/endings", |it| it["last"] == 1)
        .await;
    let plain = running.get("/metrics").await;
    assert!(
        plain
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        plain.head
    );
    for part in [
        "# TYPE portcullis_connections_accepted_total counter",
        "portcullis_connections_accepted_total{listener=\"a\"} 1",
        "portcullis_connections_bytes_total{listener=\"a\",direction=\"out\"} 4",
        "portcullis_connections_closed_total{listener=\"a\",outcome=\"completed\"} 1",
        "portcullis_connections_duration_seconds_bucket{listener=\"a\",le=\"+Inf\"} 1",
        "portcullis_reloads_total{of=\"configuration\",result=\"completed\"} 1",
        "portcullis_log_lines_dropped_total 0",
        "portcullis_build_info{version=\"",
    ] {
        assert!(plain.body.contains(part), "{part} in {}", plain.body);
    }
    // Each series has a description, without which promtool complains.
    for line in plain
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
    {
        let name = line.split(' ').next().expect("a name");
        assert!(plain.body.contains(&format!("# HELP {name} ")), "{name}");
    }
    let open = running
        .api()
        .with_header("accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
        .get("/metrics")
        .await;
    assert!(
        open.head
            .contains("content-type: application/openmetrics-text; version=1.0.0")
    );
    assert!(
        open.body
            .contains("# TYPE portcullis_connections_accepted counter\n")
    );
    assert!(open.body.ends_with("# EOF\n"));
}
