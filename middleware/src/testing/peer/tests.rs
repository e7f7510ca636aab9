use super::*;
use std::{
    io::{ErrorKind, IoSlice},
    panic::catch_unwind,
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::{Instant, sleep, timeout},
};
use tokio_test::{assert_pending, assert_ready, task};

static_assertions::assert_impl_all!(PeerIo: Send, Sync, Unpin);

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(1);

#[test]
fn a_script_without_pauses_needs_no_runtime() {
    let mut io = Peer::new().sends("ab").sends("cd").half_closes().io();
    let mut room = [0; 9];
    for expected in ["ab", "cd", ""] {
        let read = assert_ready!(task::spawn(io.read(&mut room)).poll()).unwrap();
        assert_eq!(&room[..read], expected.as_bytes());
    }
}

#[test]
fn a_read_takes_what_there_is_room_for_and_the_rest_stays() {
    let mut io = Peer::new().sends("abc").sends("d").io();
    let mut room = [0; 2];
    for expected in ["ab", "c", "d"] {
        let read = assert_ready!(task::spawn(io.read(&mut room)).poll()).unwrap();
        assert_eq!(&room[..read], expected.as_bytes());
    }
    assert_pending!(task::spawn(io.read(&mut room)).poll());
    assert_eq!(
        assert_ready!(task::spawn(io.read(&mut [])).poll()).unwrap(),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn a_stall_lasts_as_long_as_it_says() {
    let mut io = Peer::new().stalls(SECOND).sends("a").io();
    let mut read = task::spawn(io.read_u8());
    assert_pending!(read.poll());
    sleep(SECOND - MOMENT).await;
    assert!(!read.is_woken());
    assert_pending!(read.poll());
    sleep(MOMENT).await;
    assert!(read.is_woken());
    assert_eq!(assert_ready!(read.poll()).unwrap(), b'a');
}

#[tokio::test(start_paused = true)]
async fn the_script_goes_on_while_nobody_reads() {
    let mut io = Peer::new().dribbles("abc", 1, SECOND).half_closes().io();
    let begun = Instant::now();
    assert_eq!(io.read_u8().await.unwrap(), b'a');
    sleep(9 * SECOND).await;
    let mut rest = Vec::new();
    io.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"bc");
    assert_eq!(begun.elapsed(), 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn pieces_hold_as_many_bytes_as_they_should() {
    let mut io = Peer::new().dribbles("abcde", 2, SECOND).half_closes().io();
    let begun = Instant::now();
    let mut room = [0; 9];
    for (expected, seconds) in [("ab", 1), ("cd", 2), ("e", 3), ("", 3)] {
        let read = io.read(&mut room).await.unwrap();
        assert_eq!(&room[..read], expected.as_bytes());
        assert_eq!(begun.elapsed(), seconds * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_half_close_ends_reads_and_writes_go_on() {
    let (mut connection, seen) = Peer::new().sends("a").half_closes().connection();
    let mut received = Vec::new();
    connection.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"a");
    connection.write_all(b"still here").await.unwrap();
    assert_eq!(connection.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(seen.written(), b"still here");
}

#[tokio::test(start_paused = true)]
async fn a_reset_ends_both_directions_once_what_was_sent_is_read() {
    let mut io = Peer::new().sends("a").stalls(SECOND).resets().io();
    sleep(MOMENT).await;
    io.write_all(b"in time").await.unwrap();
    sleep(SECOND).await;
    assert_eq!(io.read_u8().await.unwrap(), b'a');
    let reset = ErrorKind::ConnectionReset;
    assert_eq!(io.read_u8().await.unwrap_err().kind(), reset);
    assert_eq!(io.write(b"late").await.unwrap_err().kind(), reset);
    assert_eq!(io.flush().await.unwrap_err().kind(), reset);
    assert_eq!(io.shutdown().await.unwrap_err().kind(), reset);
    assert_eq!(io.seen().written(), b"in time");
}

#[tokio::test(start_paused = true)]
async fn a_reset_wakes_both_who_read_and_who_write() {
    let script = Peer::new().stops_reading().stalls(SECOND).resets();
    let (mut reads, mut writes) = split(script.io());
    let mut reading = task::spawn(reads.read_u8());
    let mut writing = task::spawn(writes.write_all(b"x"));
    assert_pending!(reading.poll());
    assert_pending!(writing.poll());
    sleep(SECOND).await;
    assert!(reading.is_woken() && writing.is_woken());
    assert!(assert_ready!(reading.poll()).is_err());
    assert!(assert_ready!(writing.poll()).is_err());
}

#[tokio::test(start_paused = true)]
async fn what_is_written_waits_while_the_peer_does_not_read() {
    let script = Peer::new().stops_reading().stalls(SECOND).reads_again();
    for operation in ["write", "flush", "shutdown"] {
        let mut io = script.clone().io();
        let mut writing = task::spawn(async {
            match operation {
                "write" => io.write_all(b"x").await,
                "flush" => io.flush().await,
                _ => io.shutdown().await,
            }
        });
        assert_pending!(writing.poll());
        sleep(SECOND - MOMENT).await;
        assert_pending!(writing.poll());
        sleep(MOMENT).await;
        assert!(writing.is_woken(), "{operation}");
        assert!(assert_ready!(writing.poll()).is_ok(), "{operation}");
    }
}

#[tokio::test(start_paused = true)]
async fn writes_are_taken_in_parts_and_in_their_own_time() {
    let (mut io, seen) = Peer::new().takes_every(2, SECOND).pair();
    let begun = Instant::now();
    io.write_all(b"abcde").await.unwrap();
    assert_eq!(
        seen.writes(),
        [b"ab".to_vec(), b"cd".to_vec(), b"e".to_vec()]
    );
    assert_eq!(begun.elapsed(), 3 * SECOND);

    // A write that is dropped and repeated has waited nevertheless.
    assert!(timeout(SECOND - MOMENT, io.write(b"f")).await.is_err());
    let begun = Instant::now();
    io.write_all(b"f").await.unwrap();
    assert_eq!(begun.elapsed(), MOMENT);
}

#[tokio::test(start_paused = true)]
async fn a_slow_peer_that_resets_cuts_the_write_short() {
    let mut io = Peer::new()
        .stalls(SECOND)
        .resets()
        .takes_every(1, 2 * SECOND)
        .io();
    let begun = Instant::now();
    let cut = io.write(b"x").await.unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
    assert_eq!(begun.elapsed(), SECOND);
}

#[tokio::test]
async fn vectored_writes_are_known_or_not() {
    let bufs = [IoSlice::new(b""), IoSlice::new(b"ab"), IoSlice::new(b"cd")];
    let (mut io, seen) = Peer::new().takes(3).pair();
    assert!(io.is_write_vectored());
    assert_eq!(io.write_vectored(&bufs).await.unwrap(), 3);
    assert_eq!(seen.writes(), [b"abc".to_vec()]);

    let (mut io, seen) = Peer::new().without_vectored_writes().pair();
    assert!(!io.is_write_vectored());
    assert_eq!(io.write_vectored(&bufs).await.unwrap(), 2);
    assert_eq!(seen.writes(), [b"ab".to_vec()]);
}

#[tokio::test(start_paused = true)]
async fn the_peer_answers_once_it_was_told_enough() {
    let script = Peer::new().waits_for(3).stalls(SECOND).sends("!");
    let (mut reads, mut writes) = split(script.io());
    let mut reading = task::spawn(reads.read_u8());
    assert_pending!(reading.poll());
    sleep(9 * SECOND).await;
    writes.write_all(b"ab").await.unwrap();
    assert_pending!(reading.poll());
    writes.write_all(b"c").await.unwrap();
    assert!(reading.is_woken());
    assert_pending!(reading.poll());
    sleep(SECOND - MOMENT).await;
    assert_pending!(reading.poll());
    sleep(MOMENT).await;
    assert_eq!(assert_ready!(reading.poll()).unwrap(), b'!');
}

#[tokio::test(start_paused = true)]
async fn what_came_before_it_was_waited_for_counts_once() {
    let script = Peer::new().stalls(SECOND).waits_for(2).sends("1");
    let mut io = script.waits_for(2).sends("2").io();
    io.write_all(b"abc").await.unwrap();
    assert_eq!(io.read_u8().await.unwrap(), b'1');
    assert_pending!(task::spawn(io.read_u8()).poll());
    io.write_all(b"d").await.unwrap();
    assert_eq!(io.read_u8().await.unwrap(), b'2');
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_waits_for_our_end_lets_a_close_end_early() {
    for (script, took) in [
        (Peer::new().waits_for_end().half_closes(), Duration::ZERO),
        (Peer::new(), 5 * SECOND),
    ] {
        let (connection, seen) = script.connection();
        let begun = Instant::now();
        connection.close().await.unwrap();
        assert_eq!(begun.elapsed(), took);
        assert!(seen.is_shut_down() && seen.is_dropped() && !seen.is_reset());
    }
}

#[tokio::test]
async fn the_peer_sees_flush_shutdown_and_drop() {
    let (mut io, seen) = Peer::new().pair();
    assert!(seen.is_flushed());
    io.write_all(b"a").await.unwrap();
    assert!(!seen.is_flushed());
    io.flush().await.unwrap();
    assert!(seen.is_flushed() && !seen.is_shut_down());
    io.shutdown().await.unwrap();
    let late = io.write(b"b").await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::BrokenPipe);

    let mut dropped = task::spawn(seen.dropped());
    assert_pending!(dropped.poll());
    drop(io);
    assert!(dropped.is_woken());
    assert_ready!(dropped.poll());
    assert!(seen.is_shut_down() && seen.is_dropped());
    assert_eq!(seen.written(), b"a");
}

#[tokio::test]
async fn an_abort_is_seen_as_a_reset_and_addresses_are_known() {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 80));
    let (connection, seen) = Peer::new()
        .with_peer_address(address)
        .with_local_address(address)
        .connection();
    assert_eq!(connection.peer_addr(), Some(address));
    assert_eq!(connection.local_addr(), Some(address));
    connection.abort();
    assert!(seen.is_reset());
}

#[test]
fn scripts_that_make_no_sense_are_told_so() {
    type Script = fn() -> Peer;
    let wrong: [(Script, &str); 11] = [
        (
            || Peer::new().sends(""),
            "a peer must send at least one byte",
        ),
        (
            || Peer::new().dribbles("", 1, SECOND),
            "a peer must send at least one byte",
        ),
        (
            || Peer::new().dribbles("a", 0, SECOND),
            "pieces contain at least one byte",
        ),
        (
            || Peer::new().half_closes().sends("a"),
            "a peer that has half-closed cannot send",
        ),
        (
            || Peer::new().half_closes().half_closes(),
            "a peer can half-close only once",
        ),
        (
            || Peer::new().resets().stalls(SECOND),
            "a reset is the last step",
        ),
        (|| Peer::new().resets().resets(), "a reset is the last step"),
        (
            || Peer::new().stops_reading().stops_reading(),
            "this peer has stopped reading already",
        ),
        (
            || Peer::new().reads_again(),
            "this peer has not stopped reading",
        ),
        (
            || Peer::new().stops_reading().waits_for(1),
            "a peer that does not read would wait indefinitely",
        ),
        (
            || Peer::new().takes(0),
            "a write of zero bytes would look like a failure",
        ),
    ];
    for (script, complaint) in wrong {
        let panic = catch_unwind(script).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&complaint));
    }
}
