//! Halves that wait in two tasks, over a stream that keeps only the last waker.

use super::*;
use std::{io::IoSlice, sync::Arc};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, duplex, split};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok};

type Halves = (
    ReadHalf<WriteBufferIo<Wire>>,
    WriteHalf<WriteBufferIo<Wire>>,
);

/// Fourteen bytes are buffered, so that small writes have to wait for capacity.
async fn nearly_full(wire: &Wire) -> Halves {
    let mut io = buffered(wire);
    io.write_all(b"fourteen bytes").await.unwrap();
    split(io)
}

#[tokio::test]
async fn what_is_written_while_a_read_waits_is_sent_by_it() {
    let wire = Wire::open();
    let (mut reader, mut writer) = split(buffered(&wire));
    let mut reading = read(&mut reader);
    assert_pending!(reading.poll());
    writer.write_all(b"a").await.unwrap();
    writer.write_all(b"b").await.unwrap();
    assert!(reading.is_woken());
    assert_eq!(wire.steps(), []);
    assert_pending!(reading.poll());
    assert_eq!(wire.steps(), [Step::Sent("ab".into()), Step::Flushed]);
    assert!(!reading.is_woken());
    writer.write_all(b"c").await.unwrap();
    assert!(reading.is_woken(), "each time anew");
}

#[tokio::test]
async fn what_is_buffered_behind_a_full_buffer_is_sent_by_the_read_too() {
    let wire = Wire::open();
    let (mut reader, mut writer) = nearly_full(&wire).await;
    wire.receive(b"x");
    assert_ready_ok!(read(&mut reader).poll());
    let mut reading = read(&mut reader);
    assert_pending!(reading.poll());
    writer.write_all(b"twelve bytes").await.unwrap();
    writer.write_all(b"twelve more.").await.unwrap();
    assert!(reading.is_woken());
    assert_pending!(reading.poll());
    assert_eq!(wire.sent(), "fourteen bytestwelve bytestwelve more.");
}

#[tokio::test]
async fn parts_that_are_gathered_while_a_read_waits_are_sent_by_it() {
    let wire = Wire::open();
    let (mut reader, mut writer) = split(buffered(&wire));
    let mut reading = read(&mut reader);
    assert_pending!(reading.poll());
    let parts = [b"a", b"b"].map(|part| IoSlice::new(part));
    assert_eq!(writer.write_vectored(&parts).await.unwrap(), 2);
    assert!(reading.is_woken());
}

#[tokio::test]
async fn a_read_that_takes_the_waker_of_a_write_leaves_one_for_both() {
    let wire = Wire::with_room(0);
    let (mut reader, mut writer) = nearly_full(&wire).await;
    let mut writing = task::spawn(writer.write_all(b"no room"));
    assert_pending!(writing.poll());
    let mut reading = read(&mut reader);
    assert_pending!(reading.poll());
    wire.make_room(100);
    assert!(writing.is_woken() && reading.is_woken());
    assert_ready_ok!(writing.poll());
    assert_pending!(reading.poll());
    assert_eq!(wire.sent(), "fourteen bytesno room");
}

#[tokio::test]
async fn a_write_that_takes_the_waker_of_a_read_leaves_one_for_both() {
    for gives_up in [false, true] {
        let wire = Wire::with_room(0);
        let (mut reader, mut writer) = nearly_full(&wire).await;
        let mut reading = read(&mut reader);
        assert_pending!(reading.poll());
        let mut writing = task::spawn(writer.write_all(b"no room"));
        assert_pending!(writing.poll());
        if gives_up {
            drop(writing);
        }
        wire.make_room(100);
        assert!(reading.is_woken());
        assert_pending!(reading.poll());
        assert_eq!(wire.sent(), "fourteen bytes");
    }
}

#[tokio::test]
async fn a_read_that_gives_up_leaves_the_write_its_wake() {
    let wire = Wire::with_room(0);
    let (mut reader, mut writer) = nearly_full(&wire).await;
    let mut flushing = task::spawn(writer.flush());
    assert_pending!(flushing.poll());
    assert_pending!(read(&mut reader).poll());
    wire.make_room(100);
    assert!(flushing.is_woken());
    assert_ready_ok!(flushing.poll());
}

/// A stream may forget an earlier waker after a later poll was ready.
#[tokio::test]
async fn a_read_that_makes_room_wakes_the_write() {
    for fails in [false, true] {
        let wire = Wire::with_room(0);
        let (mut reader, mut writer) = nearly_full(&wire).await;
        let mut writing = task::spawn(writer.write_all(b"no room"));
        assert_pending!(writing.poll());
        wire.forget_wakers();
        wire.make_room(100);
        assert!(!writing.is_woken());
        if fails {
            wire.fail(io::ErrorKind::Interrupted);
            assert_ready_err!(read(&mut reader).poll());
        } else {
            assert_pending!(read(&mut reader).poll());
        }
        assert!(writing.is_woken());
        assert_ready_ok!(writing.poll());
    }
}

#[tokio::test]
async fn the_same_task_needs_no_waker_for_both() {
    let wire = Wire::with_room(0);
    let (mut reader, mut writer) = nearly_full(&wire).await;
    let mut both =
        task::spawn(async { tokio::join!(reader.read_u8(), writer.write_all(b"12345")) });
    assert_pending!(both.poll());
    let polls = wire.write_polls();
    assert_eq!(polls, 2, "one for each");
    wire.make_room(100);
    wire.receive(b"x");
    assert!(both.is_woken());
    let (read, written) = tokio_test::assert_ready!(both.poll());
    assert_eq!((read.unwrap(), written.unwrap()), (b'x', ()));
}

/// Echoes every byte, with halves in separate tasks and a slow peer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_in_two_tasks_lose_nothing_and_never_stop() {
    for (size, capacity) in [(16, 1), (16, 7), (64, 16)] {
        let (ours, theirs) = duplex(capacity);
        let data: Arc<[u8]> = (0..4000_u32).map(|n| (n % 251) as u8).collect();
        let (mut reader, mut writer) = split(WriteBufferIo::new(ours, size));
        let (mut their_reader, mut their_writer) = split(theirs);
        let sent = data.clone();
        let writing = tokio::spawn(async move {
            // Odd pieces without a flush, kept open until the other task has its answer.
            for piece in sent.chunks(5) {
                writer.write_all(piece).await.unwrap();
            }
            writer
        });
        let echo =
            tokio::spawn(
                async move { tokio::io::copy(&mut their_reader, &mut their_writer).await },
            );
        let mut back = vec![0; data.len()];
        in_time(reader.read_exact(&mut back)).await.unwrap();
        assert!(back == *data);
        writing.await.unwrap().shutdown().await.unwrap();
        assert_eq!(echo.await.unwrap().unwrap(), data.len() as u64);
    }
}

#[test]
fn a_large_write_while_another_task_waits_in_a_read_is_flushed() {
    let (ours, mut theirs) = duplex(1000);
    // Holds output back until it is flushed, as TLS may.
    let inside = tokio::io::BufStream::with_capacity(1000, 1000, ours);
    let (mut reader, mut writer) = split(WriteBufferIo::new(inside, 16));
    let mut read = task::spawn(async move { reader.read(&mut [0; 1]).await });
    assert!(read.poll().is_pending());
    let mut write = task::spawn(async move { writer.write_all(&[7; 100]).await });
    assert!(write.poll().is_ready());
    assert!(read.is_woken());
    assert!(read.poll().is_pending());
    let mut sent = task::spawn(async move { theirs.read_exact(&mut [0; 100]).await });
    assert!(sent.poll().is_ready());
}
