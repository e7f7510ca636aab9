//! `listener.throughput`: connections below the rate end, by the direction that counts.

use super::{Running, end, flooding_server, serve, stays_open};
use crate::gate::Folder;
use std::{net::SocketAddr, time::Duration};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Three listeners with a rate for this direction each, in front of this server.
async fn in_each_direction(server: SocketAddr) -> Running {
    let keys = ["in", "out", "both"].map(|direction| {
        format!("throughput = {{ min = \"10 KiB/s\", over = \"2s\", direction = \"{direction}\" }}")
    });
    let keys = keys.each_ref().map(|keys| &**keys);
    let backend = format!("servers = \"{server}\"");
    Running::in_folder(Folder::new(), "", &keys, &backend).await
}

/// Longer than it is measured.
const A_WHILE: Duration = Duration::from_millis(4_500);

#[tokio::test]
async fn a_client_that_sends_little_ends_where_its_bytes_count_alone() {
    let mut running = in_each_direction(flooding_server().await).await;
    // Each reads what the server sends.
    let mut slow = running.connect_to(0).await;
    let mut out = running.connect_to(1).await;
    let mut both = running.connect_to(2).await;
    let (took, out, both) = tokio::join!(
        end(&mut slow),
        stays_open(&mut out, A_WHILE),
        stays_open(&mut both, A_WHILE)
    );
    assert!(took >= Duration::from_secs(2), "{took:?}");
    assert!(out, "the bytes to the client count");
    assert!(both, "the bytes of both count");
    let ended = running.ended().await;
    assert_eq!(ended["listener"], "l0", "{ended}");
    let reason = ended["reason"].as_str().expect("a reason");
    assert!(reason.contains("throughput"), "{reason}");
}

#[tokio::test]
async fn a_server_that_sends_little_ends_where_its_bytes_count_alone() {
    let swallowing = serve(|mut stream| async move {
        tokio::io::copy(&mut stream, &mut tokio::io::sink())
            .await
            .map(drop)
    });
    let mut running = in_each_direction(swallowing.await).await;
    let mut halves = Vec::new();
    for number in 0..3 {
        let (read, write) = running.connect_to(number).await.into_split();
        tokio::spawn(keep_sending(write));
        halves.push(read);
    }
    let [from_client, slow, both] = &mut *halves else {
        panic!("three clients");
    };
    let (from_client, took, both) = tokio::join!(
        stays_open(from_client, A_WHILE),
        end(slow),
        stays_open(both, A_WHILE)
    );
    assert!(took >= Duration::from_secs(2), "{took:?}");
    assert!(from_client, "the bytes of the client count");
    assert!(both, "the bytes of both count");
    assert_eq!(running.ended().await["listener"], "l1");
}

/// Far more than the rate, all the time.
async fn keep_sending(mut stream: impl AsyncWrite + Unpin) {
    while stream.write_all(&[0; 65_536]).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_slow_connection_that_is_only_observed_goes_on_and_is_logged() {
    let keys = "throughput = { min = \"10 KiB/s\", over = \"2s\", observe = true }";
    let mut running = Running::listener(keys).await;
    let mut client = running.greeted().await;
    assert!(stays_open(&mut client, A_WHILE).await);
    drop(client);
    let ended = running.ended().await;
    let observed = ended["observed"].as_str().unwrap_or_default();
    assert!(observed.contains("throughput"), "{ended}");
}
