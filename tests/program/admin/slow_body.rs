//! A request whose body does not end.

use super::{Administered, TOKEN, forward_to};
use crate::gate::backend;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

/// The clock is that of the program, so this test takes as long.
#[tokio::test]
async fn a_body_has_half_a_minute() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let mut slow = TcpStream::connect(running.admin).await.expect("it listens");
    let request = format!(
        "POST /api/reload HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 65536\r\n\
         connection: close\r\n\r\n",
        running.admin
    );
    let begun = Instant::now();
    slow.write_all(request.as_bytes())
        .await
        .expect("it is open");
    let answer = async {
        let mut answer = Vec::new();
        let (mut read, mut write) = slow.split();
        let drip = async {
            // Faster than the rate below which a body ends.
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let _closed = write.write_all(&[b'x'; 300]).await;
            }
        };
        tokio::select! {
            _ = read.read_to_end(&mut answer) => {}
            () = drip => {}
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = timeout(Duration::from_secs(80), answer).await;
    let answer = answer.expect("it keeps its place");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("more than 30 s"), "{answer}");
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(30), "{took:?}");
}
