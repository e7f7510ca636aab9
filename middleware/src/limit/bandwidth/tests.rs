use super::{bucket::TokenBucket, io::DirectionBandwidth, *};
use crate::{
    BoxError, Connection,
    io::Passthrough,
    testing::{assert_transparent, over_tcp},
};
use std::{future::poll_fn, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, sleep, timeout},
};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, service_fn};

const SECOND: Duration = Duration::from_secs(1);
const RATE: Bandwidth = Bandwidth::per_second(1000);

fn limited<IO>(io: IO, read: Option<Bandwidth>, write: Option<Bandwidth>) -> BandwidthIo<IO> {
    let [read, write] = [read, write].map(|limit| DirectionBandwidth::new(limit, None, None));
    BandwidthIo::new(io, read, write)
}

fn in_memory(
    read: Option<Bandwidth>,
    write: Option<Bandwidth>,
) -> (BandwidthIo<DuplexStream>, DuplexStream) {
    let (ours, theirs) = duplex(1 << 20);
    (limited(ours, read, write), theirs)
}

/// Asserts that `took` is `expected`, or later by a few of the timer's steps per portion.
#[track_caller]
fn assert_took(took: Duration, expected: Duration) {
    let latest = expected + expected / 20 + Duration::from_millis(5);
    assert!(took >= expected && took <= latest, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn reads_pass_at_the_rate_after_the_burst() {
    let (mut io, mut peer) = in_memory(Some(RATE), None);
    peer.write_all(&[7; 5000]).await.unwrap();
    let begun = Instant::now();
    io.read_exact(&mut [0; 999]).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    io.read_exact(&mut [0; 4001]).await.unwrap();
    assert_took(begun.elapsed(), SECOND * 4);
}

#[tokio::test(start_paused = true)]
async fn writes_pass_at_the_rate_after_the_burst() {
    let (mut io, mut peer) = in_memory(None, Some(RATE.with_burst(100)));
    let begun = Instant::now();
    io.write_all(&[7; 5100]).await.unwrap();
    assert_took(begun.elapsed(), SECOND * 5);
    peer.read_exact(&mut [0; 5100]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lists_of_buffers_pass_at_the_rate() {
    let (mut io, mut peer) = in_memory(None, Some(RATE));
    let begun = Instant::now();
    let (mut sent, part) = (0, [7; 300]);
    while sent < 3000 {
        let bufs = [&[][..], &part, &part].map(std::io::IoSlice::new);
        sent += io.write_vectored(&bufs).await.unwrap();
    }
    assert_took(begun.elapsed(), SECOND / 1000 * (sent as u32 - 1000));
    peer.read_exact(&mut vec![0; sent]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silence_restores_the_burst_and_no_more() {
    let (mut io, _peer) = in_memory(None, Some(RATE));
    io.write_all(&[7; 1000]).await.unwrap();
    sleep(SECOND * 100).await;
    let begun = Instant::now();
    io.write_all(&[7; 1000]).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    io.write_all(&[7; 1000]).await.unwrap();
    assert_took(begun.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_directions_are_limited_each_for_itself() {
    let (mut io, mut peer) = in_memory(Some(RATE), None);
    peer.write_all(&[7; 2000]).await.unwrap();
    let begun = Instant::now();
    io.write_all(&[7; 100_000]).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    io.read_exact(&mut [0; 2000]).await.unwrap();
    assert_took(begun.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn connections_share_a_bandwidth() {
    let all = SharedBandwidth::new(RATE);
    let begun = Instant::now();
    let writers = [(); 5].map(|()| {
        let write = DirectionBandwidth::new(None, Some(all.clone()), None);
        let (ours, theirs) = duplex(1 << 20);
        let mut io = BandwidthIo::new(ours, DirectionBandwidth::default(), write);
        tokio::spawn(async move {
            io.write_all(&[7; 1000]).await.unwrap();
            drop(theirs);
        })
    });
    for writer in writers {
        writer.await.unwrap();
    }
    // 5,000 bytes, of which 1,000 are the burst.
    assert_took(begun.elapsed(), SECOND * 4);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_dropped_while_it_waits_takes_nothing() {
    let (mut io, mut peer) = in_memory(Some(RATE), None);
    peer.write_all(&[7; 2000]).await.unwrap();
    io.read_exact(&mut [0; 1000]).await.unwrap();
    let begun = Instant::now();
    for _ in 0..1000 {
        let dropped = timeout(Duration::ZERO, io.read(&mut [0; 1000])).await;
        assert!(dropped.is_err());
    }
    io.read_exact(&mut [0; 1000]).await.unwrap();
    assert_took(begun.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_side_does_not_stop_the_other_one() {
    let (ours, mut peer) = duplex(16);
    let io = limited(ours, Some(RATE), Some(RATE));
    let (mut reader, mut writer) = tokio::io::split(io);
    let stalled = tokio::spawn(async move { writer.write_all(&[7; 1000]).await });
    let begun = Instant::now();
    let sent = tokio::spawn(async move {
        peer.write_all(&[7; 3000]).await.unwrap();
        peer
    });
    reader.read_exact(&mut [0; 3000]).await.unwrap();
    assert_took(begun.elapsed(), SECOND * 2);
    assert!(!stalled.is_finished());
    drop(sent.await.unwrap());
    assert!(stalled.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn extreme_bandwidths_neither_panic_nor_stand_still() {
    let (mut io, _peer) = in_memory(None, Some(Bandwidth::per_second(u64::MAX)));
    io.write_all(&[7; 100_000]).await.unwrap();
    let (mut io, _peer) = in_memory(None, Some(Bandwidth::per_second(1)));
    let begun = Instant::now();
    io.write_all(&[7; 4]).await.unwrap();
    assert!(begun.elapsed() >= SECOND * 2 && begun.elapsed() <= SECOND * 8);
    let mut bucket = TokenBucket::new(Bandwidth::per_second(1).with_burst(u64::MAX));
    bucket.take(u64::MAX, Instant::now());
    let _no_panic = bucket.available(Instant::now());
}

#[tokio::test(start_paused = true)]
async fn the_wrapper_is_transparent() {
    assert_transparent(|io| limited(io, None, None));
    let fast = Some(Bandwidth::per_second(u64::MAX));
    assert_transparent(|io| limited(io, fast, fast));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_limited_stream_knows_what_the_system_has_not_sent_and_what_is_unread() {
    let (connection, mut client) = over_tcp().await;
    let mut connection = connection.map_io(|io| limited(io, None, None));
    crate::io::splice_tests::assert_sees_unread(connection.get_ref(), &mut client).await;
    connection.write_all(&[7; 500_000]).await.unwrap();
    assert_pending!(task::spawn(poll_fn(|cx| connection.poll_sent(cx))).poll());
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_observes_lets_all_bytes_pass_and_notes_what_exceeds_a_limit() {
    for more in [0, 1] {
        let exceeded = more > 0;
        let limits = BandwidthLayer::new().with_write(RATE).with_read(RATE);
        let layer = limits.with_observe(true);
        let (ours, mut peer) = duplex(1 << 20);
        let connection = Connection::accept(ours);
        let info = connection.info().clone();
        let mut service = layer.layer(service_fn(async |io| Ok::<_, BoxError>(io)));
        let mut io: Connection<BandwidthIo<_>> = service.call(connection).await.unwrap();
        let begun = Instant::now();
        let noted = || info.notes().map(|note| note.reason()).collect::<Vec<_>>();
        // In many operations, of which the last waits for a part of a byte.
        for _ in 0..999 + more {
            io.write_all(&[7]).await.unwrap();
        }
        let expected = exceeded.then_some(BandwidthLayer::WRITE);
        assert_eq!(noted(), expected.as_slice());
        assert_eq!(layer.observed(), u64::from(exceeded));
        // In one operation.
        peer.write_all(&vec![7; 1000 + more]).await.unwrap();
        io.read_exact(&mut vec![0; 1000 + more]).await.unwrap();
        assert_eq!(noted().len(), 2 * more);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        // What was held back is not owed, so the burst is there again after a second; and no direction is noted twice.
        sleep(SECOND).await;
        io.write_all(&[7; 1000]).await.unwrap();
        assert_eq!(layer.observed(), 2 * more as u64);
        io.write_all(&[7; 1000]).await.unwrap();
        assert_eq!(layer.observed(), 1 + more as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn what_passes_beyond_a_shared_limit_that_is_observed_is_not_owed_by_others() {
    let all = SharedBandwidth::new(RATE);
    let layer = BandwidthLayer::new()
        .with_shared_write(all)
        .with_observe(true);
    let mut service = layer.layer(service_fn(async |io| Ok::<_, BoxError>(io)));
    for (bytes, observed) in [(100_000, 1), (1000, 1), (1001, 2)] {
        let (ours, _peer) = duplex(1 << 20);
        let mut io: Connection<BandwidthIo<_>> =
            service.call(Connection::accept(ours)).await.unwrap();
        io.write_all(&vec![7; bytes]).await.unwrap();
        assert_eq!(layer.observed(), observed, "{bytes}");
        sleep(SECOND).await;
    }
}

#[test]
#[should_panic(expected = "a bandwidth of zero")]
fn a_bandwidth_of_zero_panics() {
    let _ = Bandwidth::per_second(0);
}
