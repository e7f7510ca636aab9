//! Tests of [`PrefixedIo`].

use super::*;
use crate::testing::{ScriptedIo, assert_transparent};
use std::{future::poll_fn, io, pin::Pin, task::Context};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_test::io::Builder;

#[test]
fn without_a_prefix_it_is_the_io_itself() {
    assert_transparent(PrefixedIo::new);
    assert_transparent(|io| PrefixedIo::with_unread(io, b"all taken".to_vec(), 9));
}

#[test]
fn what_is_written_passes_a_prefix_by() {
    let mut task = tokio_test::task::spawn(());
    for seed in 0..64 {
        let (mut bare, expected) = ScriptedIo::pair(seed);
        let (io, calls) = ScriptedIo::pair(seed);
        let mut io = PrefixedIo::with_unread(io, b"prefix".to_vec(), 3);
        assert_eq!(io.is_write_vectored(), bare.is_write_vectored());
        for _ in 0..4 {
            let answers = task.enter(|cx, _| (write(&mut io, cx), write(&mut bare, cx)));
            assert_eq!(answers.0, answers.1, "seed {seed}");
        }
        assert_eq!(calls.take(), expected.take());
        assert_eq!(io.prefix(), b"fix");
    }
}

fn write(io: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) -> [String; 4] {
    let bufs = [io::IoSlice::new(b"ab"), io::IoSlice::new(b"c")];
    [
        format!("{:?}", Pin::new(&mut *io).poll_write_vectored(cx, &bufs)),
        format!("{:?}", Pin::new(&mut *io).poll_write(cx, b"abc")),
        format!("{:?}", Pin::new(&mut *io).poll_flush(cx)),
        format!("{:?}", Pin::new(&mut *io).poll_shutdown(cx)),
    ]
}

#[tokio::test]
async fn the_prefix_comes_first_whatever_room_there_is() {
    for room in 1..12 {
        let io = Builder::new().read(b"then").read(b" this").build();
        let mut io = PrefixedIo::with_unread(io, b"HEADERfirst ".to_vec(), 6);
        let (mut received, mut buffer) = (Vec::<u8>::new(), vec![0; room]);
        loop {
            let length = io.read(&mut buffer).await.unwrap();
            received.extend(&buffer[..length]);
            if length == 0 {
                break;
            }
        }
        assert_eq!(received, b"first then this");
    }
}

#[tokio::test]
async fn what_is_prepended_comes_before_what_is_left_of_the_prefix() {
    let mut io = PrefixedIo::with_prefix(&b" rest"[..], b"first".to_vec());
    io.prepend(b"");
    assert_eq!(io.prefix(), b"first");
    assert_eq!(io.read_u8().await.unwrap(), b'f');
    io.prepend(b"-th");
    io.prepend(b"four");
    assert_eq!(io.prefix(), b"four-thirst");
    let mut whole = String::new();
    io.read_to_string(&mut whole).await.unwrap();
    assert_eq!(whole, "four-thirst rest");

    let mut empty = PrefixedIo::new(tokio::io::empty());
    empty.prepend(b"");
    assert!(empty.prefix().is_empty());
    empty.prepend(b"all");
    whole.clear();
    empty.read_to_string(&mut whole).await.unwrap();
    assert_eq!(whole, "all");
}

#[test]
fn either_of_two_is_the_io_itself() {
    assert_transparent(EitherIo::<_, tokio::io::Empty>::Left);
    assert_transparent(EitherIo::<tokio::io::Empty, _>::Right);
}

#[tokio::test]
async fn a_read_of_the_prefix_does_not_touch_the_io() {
    // A read would fail.
    let io = Builder::new()
        .read_error(io::ErrorKind::ConnectionReset.into())
        .build();
    let mut io = PrefixedIo::with_unread(io, b"abc".to_vec(), 0);
    assert_eq!(io.read(&mut []).await.unwrap(), 0);
    assert_eq!(io.prefix(), b"abc");
    let mut buffer = [0; 8];
    assert_eq!(io.read(&mut buffer).await.unwrap(), 3);
    assert!(io.prefix().is_empty());
    assert!(io.read(&mut buffer).await.is_err());
}

#[tokio::test]
async fn a_buffer_keeps_what_it_held_before() {
    let io = Builder::new().build();
    let mut io = PrefixedIo::with_unread(io, b"cd".to_vec(), 0);
    let mut room = [0; 8];
    let mut buf = ReadBuf::new(&mut room);
    buf.put_slice(b"ab");
    let read = poll_fn(|cx| Pin::new(&mut io).poll_read(cx, &mut buf));
    read.await.unwrap();
    assert_eq!(buf.filled(), b"abcd");
}

#[tokio::test]
async fn it_is_one_word_larger_than_the_io_and_prints_no_bytes() {
    assert_eq!(size_of::<PrefixedIo<u64>>(), 16);
    let (ours, _theirs) = tokio::io::duplex(8);
    let mut io = PrefixedIo::with_unread(ours, b"secret".to_vec(), 2);
    assert!(!format!("{io:?}").contains("cret"));
    io.write_all(b"out").await.unwrap();
    let mut received = [0; 4];
    io.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"cret");
}
