//! Tests of copied and direct writes.

use super::*;
use std::io::IoSlice;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_test::assert_ready_ok;

/// Bytes taken by one vectored write of `parts`.
fn write_parts(io: &mut WriteBufferIo<Wire>, parts: &[&str]) -> usize {
    let slices: Vec<_> = parts
        .iter()
        .map(|part| IoSlice::new(part.as_bytes()))
        .collect();
    assert_ready_ok!(Pin::new(io).poll_write_vectored(&mut quietly(), &slices))
}

fn sent(bytes: &str) -> Step {
    Step::Sent(bytes.to_owned())
}

#[tokio::test]
async fn small_writes_go_out_as_one() {
    let wire = Wire::open();
    let mut io = buffered(&wire);
    for word in ["so ", "many ", "words"] {
        io.write_all(word.as_bytes()).await.unwrap();
    }
    assert_eq!(wire.steps(), []);
    assert_eq!(io.unsent(), b"so many words");
    io.flush().await.unwrap();
    assert_eq!(wire.steps(), [sent("so many words"), Step::Flushed]);
    assert_eq!(io.unsent(), b"");
}

#[tokio::test]
async fn the_buffer_takes_its_size_and_not_a_byte_more() {
    let wire = Wire::plain();
    let mut io = buffered(&wire);
    io.write_all(b"fifteen bytes..").await.unwrap();
    io.write_all(b"!").await.unwrap();
    assert_eq!(wire.steps(), []);
    io.write_all(b"?").await.unwrap();
    assert_eq!(wire.steps(), [sent("fifteen bytes..!")]);
    assert_eq!(io.unsent(), b"?");
}

#[tokio::test]
async fn a_large_write_goes_out_uncopied_behind_what_was_buffered() {
    const LARGE: &str = "more than sixteen bytes";
    let (vectored, plain) = (Wire::open(), Wire::plain());
    for wire in [&vectored, &plain] {
        let mut io = buffered(wire);
        io.write_all(b"small").await.unwrap();
        io.write_all(LARGE.as_bytes()).await.unwrap();
        assert_eq!(io.unsent(), b"");
    }
    assert_eq!(vectored.steps(), [sent("smallmore than sixteen bytes")]);
    assert_eq!(plain.steps(), [sent("small"), sent(LARGE)]);
}

#[test]
fn a_large_write_alone_allocates_nothing() {
    let wire = Wire::open();
    let mut io = buffered(&wire);
    assert_eq!(write_parts(&mut io, &["exactly sixteen."]), SIZE);
    assert_eq!(wire.steps(), [sent("exactly sixteen.")]);
    assert_eq!(io.buffer_capacity(), 0);
}

#[test]
fn vectored_writes_are_gathered_too() {
    let wire = Wire::plain();
    let mut io = buffered(&wire);
    assert!(io.is_write_vectored());
    assert_eq!(write_parts(&mut io, &["a", "", "bc"]), 3);
    assert_eq!(write_parts(&mut io, &[]), 0);
    assert_eq!(write_parts(&mut io, &["", ""]), 0);
    assert_eq!(io.unsent(), b"abc");
    assert_eq!(wire.steps(), []);
}

#[test]
fn large_vectored_writes_go_through_with_the_buffer_in_front() {
    let wire = Wire::open();
    let mut io = buffered(&wire);
    assert_eq!(write_parts(&mut io, &["head "]), 5);
    assert_eq!(
        write_parts(&mut io, &["large enough", " to go through"]),
        26
    );
    assert_eq!(wire.steps(), [sent("head large enough to go through")]);
    assert_eq!(write_parts(&mut io, &["once more", " without a head"]), 24);
    assert_eq!(wire.steps(), [sent("once more without a head")]);
}

#[test]
fn small_parts_in_front_of_a_large_one_are_gathered_where_the_io_cannot() {
    let wire = Wire::plain();
    let mut io = buffered(&wire);
    let large = "a body of more than sixteen bytes";
    assert_eq!(write_parts(&mut io, &["", "head", ": ", large]), 6);
    assert_eq!(wire.steps(), []);
    assert_eq!(write_parts(&mut io, &[large]), large.len());
    assert_eq!(wire.steps(), [sent("head: "), sent(large)]);
}

#[test]
fn a_hundred_parts_are_taken_in_order() {
    let wire = Wire::open();
    let mut io = buffered(&wire);
    assert_eq!(write_parts(&mut io, &["<"]), 1);
    let parts: Vec<_> = (0..100).map(|n| format!("{n},")).collect();
    let mut parts: Vec<_> = parts.iter().map(String::as_str).collect();
    let all = format!("<{}", parts.concat());
    while !parts.is_empty() {
        let mut taken = write_parts(&mut io, &parts);
        assert!(taken > 0);
        while taken > 0 {
            let length = parts[0].len().min(taken);
            parts[0] = &parts[0][length..];
            taken -= length;
            if parts[0].is_empty() {
                parts.remove(0);
            }
        }
    }
    assert_ready_ok!(Pin::new(&mut io).poll_flush(&mut quietly()));
    assert_eq!(wire.sent(), all);
}

#[test]
fn whatever_the_io_takes_nothing_is_lost_doubled_or_reordered() {
    for seed in 0..500_usize {
        let wire = if seed % 2 == 0 {
            Wire::with_room(0)
        } else {
            Wire::plain()
        };
        let mut io = buffered(&wire);
        let (mut written, mut arrived) = (String::new(), String::new());
        let mut random = seed;
        for step in 0..60 {
            random = random
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e);
            let chance = random >> 40;
            let mut cx = quietly();
            let io = Pin::new(&mut io);
            match chance % 8 {
                0 => drop(io.poll_flush(&mut cx)),
                1 => drop(io.poll_read(&mut cx, &mut ReadBuf::new(&mut [0; 4]))),
                2 => wire.fail(io::ErrorKind::Interrupted),
                3 | 4 => wire.make_room(chance / 8 % 40),
                _ => {
                    let text = format!("{step:-<width$}|", width = chance / 8 % 30);
                    let parts = text.split_at(text.len() / 3);
                    let slices = [parts.0, parts.1].map(|part| IoSlice::new(part.as_bytes()));
                    if let std::task::Poll::Ready(Ok(taken)) =
                        io.poll_write_vectored(&mut cx, &slices)
                    {
                        written.push_str(&text[..taken]);
                    }
                }
            }
            arrived += &wire.sent();
            assert!(
                written.starts_with(&arrived),
                "seed {seed}: {arrived} of {written}"
            );
            assert!(io_is_bounded(&arrived, &written), "seed {seed}");
        }
        wire.make_room(usize::MAX);
        let _ = Pin::new(&mut io).poll_flush(&mut quietly());
        assert_ready_ok!(Pin::new(&mut io).poll_shutdown(&mut quietly()));
        assert_eq!(arrived + &wire.sent(), written, "seed {seed}");
    }
}

fn io_is_bounded(arrived: &str, written: &str) -> bool {
    written.len() - arrived.len() <= SIZE
}
