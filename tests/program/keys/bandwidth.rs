//! `listener.bandwidth`: bytes take the time that the rate gives them.

use super::{PATIENCE, Running};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

/// How long it takes to send so many bytes and to get them back.
async fn round_trip(client: &mut TcpStream, bytes: usize) -> Duration {
    let begun = Instant::now();
    let sent = vec![7; bytes];
    let mut received = vec![0; bytes];
    let (mut read, mut write) = client.split();
    let both = async { tokio::join!(write.write_all(&sent), read.read_exact(&mut received)) };
    let (wrote, read) = timeout(PATIENCE, both).await.expect("it is too slow");
    wrote.expect("it is open");
    read.expect("it is open");
    begun.elapsed()
}

const KIB: usize = 1_024;

#[tokio::test]
async fn each_connection_has_its_rate_after_the_burst() {
    let keys = "bandwidth = { per-connection = \"64 KiB/s\", burst = \"4 KiB\" }";
    let running = Running::listener(keys).await;
    let (mut one, mut two) = (running.greeted().await, running.greeted().await);
    let (one, two) = tokio::join!(
        round_trip(&mut one, 64 * KIB),
        round_trip(&mut two, 64 * KIB)
    );
    // 60 KiB of 64 come after the burst.
    for took in [one, two] {
        assert!(took >= Duration::from_millis(800), "{took:?}");
    }
}

#[tokio::test]
async fn all_connections_of_the_listener_share_the_total() {
    let keys = "bandwidth = { total = \"64 KiB/s\", burst = \"4 KiB\" }";
    let running = Running::listener(keys).await;
    let (mut one, mut two) = (running.greeted().await, running.greeted().await);
    let (one, two) = tokio::join!(
        round_trip(&mut one, 48 * KIB),
        round_trip(&mut two, 48 * KIB)
    );
    // 96 KiB at 64 KiB/s.
    let both = one.max(two);
    assert!(both >= Duration::from_millis(1_300), "{both:?}");
}

#[tokio::test]
async fn a_burst_passes_at_full_speed() {
    // Without it, 128 KiB would take 7 s.
    for key in ["per-connection", "total"] {
        let keys = format!("bandwidth = {{ {key} = \"16 KiB/s\", burst = \"256 KiB\" }}");
        let running = Running::listener(&keys).await;
        let took = round_trip(&mut running.greeted().await, 128 * KIB).await;
        assert!(took < Duration::from_secs(4), "{key}: {took:?}");
    }
}
