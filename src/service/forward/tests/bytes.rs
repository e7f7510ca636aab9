//! Every byte arrives, in order.

use super::support::{Forwards, Random, in_memory, over_tcp};
use crate::service::forward::{
    Side,
    direction::{Direction, Surroundings},
    scratch::BATCH,
};
use portcullis_middleware::{
    connection::EndedBy,
    io::{BoxIo, Passthrough},
    testing,
};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::sleep,
};
use tokio_test::{assert_ready, task};

/// The byte at `position` of a stream; each seed has streams of its own.
pub(super) fn byte(seed: u64, position: usize) -> u8 {
    let mixed = (position as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ seed;
    (mixed >> 29) as u8
}

/// Sends `length` bytes in random pieces with pauses, then half-closes.
async fn send(io: &mut (impl AsyncWrite + Unpin), seed: u64, length: usize, largest: usize) {
    let mut random = Random::new(seed);
    let mut position = 0;
    while position < length {
        let size = (1 + random.below(largest)).min(length - position);
        let piece: Vec<u8> = (position..position + size).map(|p| byte(seed, p)).collect();
        io.write_all(&piece).await.unwrap();
        position += size;
        match random.below(8) {
            0 => io.flush().await.unwrap(),
            1 => sleep(Duration::from_micros(random.below(500) as u64)).await,
            2 => tokio::task::yield_now().await,
            _ => {}
        }
    }
    io.shutdown().await.unwrap();
}

/// Receives until the end in random pieces with pauses, and compares.
pub(super) async fn receive(
    io: &mut (impl AsyncRead + Unpin),
    seed: u64,
    length: usize,
    largest: usize,
) {
    let mut random = Random::new(!seed);
    let mut position = 0;
    let mut buffer = vec![0; largest];
    loop {
        let size = 1 + random.below(largest);
        let read = io.read(&mut buffer[..size]).await.unwrap();
        if read == 0 {
            break;
        }
        for (offset, received) in buffer[..read].iter().enumerate() {
            let position = position + offset;
            assert_eq!(
                *received,
                byte(seed, position),
                "seed {seed}, byte {position}"
            );
        }
        position += read;
        match random.below(8) {
            0 => sleep(Duration::from_micros(random.below(500) as u64)).await,
            1 => tokio::task::yield_now().await,
            _ => {}
        }
    }
    assert_eq!(position, length, "seed {seed}");
}

/// Both ends send and receive concurrently; the streams end at different times.
pub(super) async fn exchange<C, S>(forwards: Forwards, client: C, server: S, seed: u64, most: usize)
where
    C: AsyncRead + AsyncWrite + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut random = Random::new(seed ^ 0x5EED);
    let lengths = [random.below(most), random.below(most)];
    let largest = 1 + random.below(most / 4 + 1);
    let [up, down] = [seed << 1, seed << 1 | 1];
    let (mut client_in, mut client_out) = tokio::io::split(client);
    let (mut server_in, mut server_out) = tokio::io::split(server);
    tokio::join!(
        send(&mut client_out, up, lengths[0], largest),
        receive(&mut server_in, up, lengths[0], largest),
        send(&mut server_out, down, lengths[1], largest),
        receive(&mut client_in, down, lengths[1], largest),
    );
    let forwarded = forwards.result().await.unwrap();
    let moved = [forwarded.to_backend, forwarded.to_client];
    assert_eq!(moved, lengths.map(|length| length as u64), "seed {seed}");
    assert_ne!(forwarded.ended_by, EndedBy::Gate);
    assert_eq!(forwarded.first_byte_of_client.is_some(), lengths[0] > 0);
}

#[tokio::test(start_paused = true)]
async fn random_streams_in_memory_arrive_whole() {
    for seed in 0..1000 {
        let (forwards, client, server) = in_memory(1 + (seed as usize * 37) % 3000);
        exchange(forwards, client, server, seed, 20_000).await;
    }
}

#[tokio::test]
async fn random_streams_over_tcp_arrive_whole() {
    for seed in 0..12 {
        let (forwards, client, server) = over_tcp().await;
        exchange(forwards, client, server, seed, 3_000_000).await;
    }
}

#[tokio::test]
async fn random_streams_arrive_whole_if_only_one_side_is_a_socket() {
    for seed in 100..108 {
        let (client, theirs) = testing::over_tcp().await;
        let (backend, server) = testing::over_tcp().await;
        let forwards = Forwards::start(client.box_io(), backend, |s| s);
        exchange(forwards, theirs, server, seed, 1_000_000).await;
        let (client, theirs) = testing::over_tcp().await;
        let (backend, server) = testing::in_memory(5000);
        let forwards = Forwards::start(client, backend, |s| s);
        exchange(forwards, theirs, server, seed, 1_000_000).await;
    }
}

/// Always has input in small pieces, as TLS may, and accepts everything.
struct Endless;

impl Passthrough for Endless {}

impl AsyncRead for Endless {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut small = [0; 1024];
        let mut piece = ReadBuf::new(&mut small);
        // Takes one unit of the task's budget.
        ready!(Pin::new(&mut tokio::io::repeat(7)).poll_read(cx, &mut piece))?;
        buffer.put_slice(piece.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut tokio::io::sink()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_direction_that_never_waits_leaves_the_other_one_its_share() {
    let [client, backend] = [(), ()].map(|()| {
        let (connection, _) = testing::in_memory(64);
        connection.map_io(|_| BoxIo::new(Endless))
    });
    let forwards = Forwards::start(client, backend, |s| s);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    forwards.info.force_close();
    let forwarded = forwards.error().await.forwarded;
    let (up, down) = (forwarded.to_backend, forwarded.to_client);
    assert!(up.max(down) > 1_000_000);
    assert!(up.min(down) > up.max(down) / 2, "{up} and {down} bytes");
}

#[test]
fn a_stream_that_never_pauses_leaves_other_tasks_a_turn_after_1_mib_that_is_copied() {
    const MIB: usize = 1024 * 1024;
    let (mut direction, other) = (Direction::new(Side::Client), Direction::new(Side::Backend));
    let mut scratch = vec![0; BATCH];
    let mut task = task::spawn(poll_fn(|cx| {
        let surroundings = Surroundings {
            other: &other,
            failure: None,
        };
        let polled = direction.poll(cx, &mut Endless, &mut Endless, surroundings, &mut scratch);
        assert!(polled.is_pending());
        Poll::Ready(())
    }));
    assert_ready!(task.poll());
    assert!(task.is_woken());
    drop(task);
    assert!((MIB..MIB + BATCH).contains(&(direction.moved() as usize)));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn bulk_moves_through_pipes_only_if_both_sides_are_sockets() {
    use crate::service::forward::{pipes::ALL_PIPES, transfer::SPLICED};

    let _all = ALL_PIPES.lock().await;
    // The forwarder is in the thread of this test.
    for boxed in [true, false] {
        let before = SPLICED.get();
        let (client, mut theirs) = testing::over_tcp().await;
        let (backend, mut server) = testing::over_tcp().await;
        let _forwards = match boxed {
            true => Forwards::start(client.box_io(), backend, |s| s),
            false => Forwards::start(client, backend, |s| s),
        };
        let piece: Vec<_> = (0..8_000_000).map(|position| byte(1, position)).collect();
        let mut received = vec![0; piece.len()];
        let (sent, read) = tokio::join!(theirs.write_all(&piece), server.read_exact(&mut received));
        sent.unwrap();
        read.unwrap();
        assert!(received == piece);
        let spliced = SPLICED.get() - before;
        assert_eq!(spliced > 4_000_000, !boxed, "{spliced} bytes");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn pipes_are_filled_with_256_kib_at_most_until_16_mib_have_moved() {
    use crate::service::forward::{pipes::ALL_PIPES, transfer::LARGEST};

    let _all = ALL_PIPES.lock().await;
    let (forwards, mut theirs, mut server) = over_tcp().await;
    LARGEST.set(0);
    let sending =
        tokio::spawn(async move { while theirs.write_all(&[7; 1024 * 1024]).await.is_ok() {} });
    let mut received = vec![0; 1024 * 1024];
    for _ in 0..1000 {
        server.read_exact(&mut received).await.unwrap();
        let (moved, largest) = (forwards.info.bytes_read(), LARGEST.get());
        assert!(moved > 16 * 1024 * 1024 || largest <= 256 * 1024);
        if largest > 256 * 1024 {
            break;
        }
    }
    assert!(LARGEST.get() > 256 * 1024);
    drop(server);
    sending.await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_stream_goes_on_after_urgent_data() {
    for ends in [true, false] {
        let (forwards, mut client, mut server) = over_tcp().await;
        let receiving = async {
            let mut received = vec![0; 4_000_000];
            server.read_exact(&mut received).await.unwrap();
            assert_eq!(
                received.iter().filter(|byte| **byte == 7).count(),
                4_000_000
            );
            if ends {
                assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
                server.shutdown().await.unwrap();
            }
        };
        let sending = async {
            client.write_all(&[7; 3_000_000]).await.unwrap();
            client.writable().await.unwrap();
            let socket = socket2::SockRef::from(&client);
            while socket.send_out_of_band(b"!").is_err() {
                sleep(Duration::from_millis(1)).await;
            }
            client.write_all(&[7; 1_000_000]).await.unwrap();
            if ends {
                client.shutdown().await.unwrap();
            }
        };
        let both = async { tokio::join!(sending, receiving) };
        tokio::time::timeout(Duration::from_secs(20), both)
            .await
            .unwrap();
        if ends {
            forwards.result().await.unwrap();
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn random_streams_between_unix_sockets_and_tcp_arrive_whole() {
    use portcullis_middleware::{Connection, connection::AnyStream};
    use tokio::net::UnixStream;

    for seed in 200..208 {
        let (client, theirs) = testing::over_tcp().await;
        let (backend, server) = UnixStream::pair().unwrap();
        let backend = Connection::accept(AnyStream::from(backend));
        let forwards = Forwards::start(client, backend, |s| s);
        exchange(forwards, theirs, server, seed, 2_000_000).await;
        let (client, theirs) = UnixStream::pair().unwrap();
        let (backend, server) = UnixStream::pair().unwrap();
        let [client, backend] = [client, backend].map(Connection::accept);
        let forwards = Forwards::start(client, backend, |s| s);
        exchange(forwards, theirs, server, seed, 2_000_000).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn streams_arrive_whole_while_no_pipe_is_left() {
    use crate::service::forward::{
        pipes::{ALL_PIPES, PooledPipe},
        transfer::SPLICED,
    };

    let _all = ALL_PIPES.lock().await;
    let taken: Vec<_> = std::iter::from_fn(PooledPipe::take).collect();
    let (forwards, client, server) = over_tcp().await;
    let before = SPLICED.get();
    exchange(forwards, client, server, 300, 3_000_000).await;
    // Other tests may give back one of theirs meanwhile.
    assert!(SPLICED.get() - before < 500_000);
    drop(taken);
}
