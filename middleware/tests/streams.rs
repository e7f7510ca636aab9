//! Every stream wrapper carries the bytes written into it, whatever the order of operations.
//!
//! Random writes, vectored writes, flushes, reads and half-closes through each wrapper have the same results as
//! on the bare stream.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use portcullis_middleware::{
    Connection,
    connection::Socket,
    io::BoxIo,
    observe::{ByteCounter, CountedIo},
    stream::WriteBufferIo,
    timeout::HalfClosedTimeoutIo,
    timeout::TimeoutIo,
};
use std::io::IoSlice;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex,
    split,
};

type Ours = Connection<Socket<DuplexStream>>;

const SEEDS: std::ops::Range<u64> = 1..19;

/// Runs both directions concurrently, with different operations, over streams made by `wrap`.
///
/// The pipe below holds at least `room` bytes.
async fn exchanges<A, B>(room: usize, wrap: impl AsyncFn(Ours, DuplexStream) -> (A, B))
where
    A: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    for seed in SEEDS {
        // From a pipe of one byte to one that holds everything.
        let (ours, theirs) = duplex(room.max(1 << (seed % 17)));
        let (ours, theirs) = wrap(Connection::accept(ours), theirs).await;
        let (our_reads, our_writes) = split(ours);
        let (their_reads, their_writes) = split(theirs);
        // One direction is short and closed early; the other continues alone.
        let (up, down) = if seed % 2 == 0 {
            (300, 60_000)
        } else {
            (60_000, 300)
        };
        let tasks = [
            tokio::spawn(send(our_writes, Random(seed), down)),
            tokio::spawn(send(their_writes, Random(!seed), up)),
            tokio::spawn(receive(their_reads, Random(seed), down)),
            tokio::spawn(receive(our_reads, Random(!seed), up)),
        ];
        for task in tasks {
            task.await
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
    }
}

/// Writes `length` bytes from `random` in random portions, then shuts down.
async fn send(mut io: WriteHalf<impl AsyncWrite>, random: Random, length: usize) {
    let bytes = random.bytes(length);
    let mut random = Random(random.0 ^ 0x5eed);
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let portion = &rest[..rest.len().min(1 + random.below(3000))];
        let sent = match random.below(4) {
            0 => {
                let (first, second) = portion.split_at(random.below(portion.len()));
                io.write_vectored(&[IoSlice::new(first), IoSlice::new(second)])
                    .await
                    .unwrap()
            }
            1 => {
                io.flush().await.unwrap();
                continue;
            }
            _ => io.write(portion).await.unwrap(),
        };
        rest = &rest[sent..];
    }
    io.shutdown().await.unwrap();
}

/// Reads until the end, in random portions, and compares.
async fn receive(mut io: ReadHalf<impl AsyncRead>, random: Random, length: usize) {
    let expected = random.bytes(length);
    let mut random = Random(random.0 ^ 0xfeed);
    let mut received = Vec::new();
    loop {
        let mut buffer = vec![0; 1 + random.below(2000)];
        match io.read(&mut buffer).await.unwrap() {
            0 => break,
            read => received.extend_from_slice(&buffer[..read]),
        }
    }
    assert!(
        received == expected,
        "{} of {length} bytes, or others",
        received.len()
    );
}

/// Xorshift64, reproducible.
#[derive(Clone, Copy)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 32).unwrap() % bound.max(1)
    }

    fn bytes(mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

#[tokio::test]
async fn the_bare_stream_carries_everything() {
    exchanges(1, async |ours, theirs| (ours, theirs)).await;
}

#[tokio::test]
async fn boxes_counts_and_timeouts_carry_everything() {
    exchanges(1, async |ours, theirs| {
        let wrapped = ours
            .map_io(|io| CountedIo::new(io, ByteCounter::new()))
            .map_io(TimeoutIo::new)
            .map_io(HalfClosedTimeoutIo::new)
            .map_io(BoxIo::new);
        (wrapped, theirs)
    })
    .await;
}

#[tokio::test]
async fn a_buffer_of_any_size_carries_everything() {
    for bytes in [0, 1, 100, 100_000] {
        exchanges(1, async |ours, theirs| {
            (ours.map_io(|io| WriteBufferIo::new(io, bytes)), theirs)
        })
        .await;
    }
}

#[cfg(feature = "aws-lc-rs")]
mod tls {
    use super::*;
    use portcullis_middleware::tls::{TlsConnector, TlsLayer};
    use tokio::sync::mpsc;
    use tower::{Layer, ServiceExt, service_fn};

    #[tokio::test]
    async fn tls_on_both_sides_carries_everything() {
        let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (chain, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
        let layer = TlsLayer::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        let connector = TlsConnector::with_roots_pem(chain.as_bytes()).unwrap();
        // Capacity for the server's session tickets, which the client reads later.
        exchanges(4096, async |ours, theirs| {
            let (give, mut take) = mpsc::channel(1);
            let hand_over = service_fn(move |connection| {
                let give = give.clone();
                async move {
                    give.send(connection)
                        .await
                        .map_err(|_| "the receiver was dropped")
                }
            });
            let server = layer.layer(hand_over).oneshot(ours);
            let client = connector.connect("localhost", Connection::accept(theirs));
            let (served, client) = tokio::join!(server, client);
            served.unwrap();
            (take.recv().await.unwrap(), client.unwrap())
        })
        .await;
    }
}
