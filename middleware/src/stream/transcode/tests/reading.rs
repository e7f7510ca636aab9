//! Tests of reads.

use super::*;
use encoding_rs::*;
use tokio_test::{assert_pending, assert_ready_ok, task};

fn reading<const N: usize>(encoding: &'static Encoding, pieces: [&[u8]; N]) -> TranscodeIo<Pieces> {
    transcoded(Pieces::reading(pieces), encoding, BadText::Fail)
}

#[tokio::test]
async fn a_part_of_a_character_is_waited_out_and_is_no_end() {
    let mut io = reading(SHIFT_JIS, [b"\x82", b"\xa0"]);
    let mut room = [0; 8];
    let mut read = task::spawn(io.read(&mut room));
    assert_pending!(read.poll());
    // The first half arrived here.
    assert_pending!(read.poll());
    assert!(read.is_woken());
    assert_eq!(assert_ready_ok!(read.poll()), 3);
    drop(read);
    assert_eq!(&room[..3], "あ".as_bytes());
}

#[tokio::test]
async fn a_character_is_read_byte_by_byte_where_the_buffer_is_that_small() {
    let mut io = reading(SHIFT_JIS, [b"\x82\xa0\x82\xa2"]);
    let mut text = Vec::new();
    while let Ok(byte) = io.read_u8().await {
        text.push(byte);
    }
    assert_eq!(text, "あい".as_bytes());
}

#[tokio::test]
async fn a_read_without_room_asks_nobody() {
    let mut io = reading(SHIFT_JIS, [b"a"]);
    let mut read = task::spawn(io.read(&mut []));
    assert_eq!(assert_ready_ok!(read.poll()), 0);
}

#[tokio::test]
async fn what_the_buffer_held_before_stays() {
    let mut io = reading(WINDOWS_1252, [b"\xe9", b"t\xe9"]);
    let mut text = String::from("un ");
    io.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "un été");
}

#[tokio::test]
async fn the_end_stays_the_end() {
    let mut io = reading(ISO_2022_JP, [b"\x1b$B$\"\x1b(B"]);
    let mut text = String::new();
    io.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "あ");
    for _ in 0..3 {
        assert_eq!(io.read(&mut [0; 8]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_byte_order_mark_is_a_character_and_chooses_nothing() {
    let mut io = reading(UTF_8, [b"\xef\xbb", b"\xbfa"]);
    let mut text = String::new();
    io.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "\u{FEFF}a");
    let mut io = reading(WINDOWS_1252, [b"\xff\xfea\0"]);
    text.clear();
    io.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "ÿþa\0");
}

#[tokio::test]
async fn bad_bytes_are_a_typed_error_between_the_text_before_and_behind() {
    let mut io = reading(EUC_KR, [b"ab\xb0\xa1\xff", b"c"]);
    let mut room = [0; 64];
    let length = io.read(&mut room).await.unwrap();
    assert_eq!(&room[..length], "ab가".as_bytes());
    let error = typed(io.read(&mut room).await.unwrap_err());
    assert_eq!(error.encoding(), EUC_KR);
    assert_eq!(error.direction(), Direction::Read);
    assert_eq!(error.problem(), TextProblem::Malformed);
    assert_eq!(error.offset(), 4);
    assert_eq!(error.to_string(), "read malformed EUC-KR at byte 4");
    let length = io.read(&mut room).await.unwrap();
    assert_eq!(&room[..length], b"c");
    assert_eq!(io.read(&mut room).await.unwrap(), 0);
}

#[tokio::test]
async fn an_end_within_a_character_is_an_error_and_then_the_end() {
    let mut io = reading(GB18030, [b"a\x81\x30", b"\x81"]);
    let mut room = [0; 64];
    assert_eq!(io.read(&mut room).await.unwrap(), 1);
    let error = typed(io.read(&mut room).await.unwrap_err());
    assert_eq!(
        (error.problem(), error.offset()),
        (TextProblem::Truncated, 1)
    );
    assert_eq!(error.to_string(), "read truncated gb18030 at byte 1");
    assert_eq!(io.read(&mut room).await.unwrap(), 0);
}

#[tokio::test]
async fn after_a_shutdown_only_one_error_is_told() {
    let mut io = reading(UTF_8, [b"a\xffb\xffc\xff"]);
    io.shutdown().await.unwrap();
    let mut text = Vec::new();
    assert!(io.read_to_end(&mut text).await.is_err());
    assert_eq!(text, b"a");
    io.read_to_end(&mut text).await.unwrap();
    assert_eq!(text, "ab\u{FFFD}c\u{FFFD}".as_bytes());
}

#[tokio::test]
async fn before_a_shutdown_each_error_is_told() {
    let mut io = reading(UTF_8, [b"\xff\xff", b"\xff"]);
    for offset in 0..3 {
        let error = typed(io.read(&mut [0; 8]).await.unwrap_err());
        assert_eq!(error.offset(), offset);
    }
    assert_eq!(io.read(&mut [0; 8]).await.unwrap(), 0);
}

/// Much input follows the error, more than fits into the small buffers of the next reads.
#[tokio::test]
async fn replacements_fit_into_whatever_room_there_is() {
    for before in 0..80 {
        for room in [1, 63, 64, 65, 66, 70] {
            let wire = [&b"\xff"[..], &b"a".repeat(before), &b"\xff".repeat(100)].concat();
            let mut io = reading(UTF_8, [&wire]);
            io.shutdown().await.unwrap();
            assert!(io.read(&mut [0; 2000]).await.is_err());
            let (mut text, mut room) = (Vec::new(), vec![0; room]);
            loop {
                match io.read(&mut room).await.unwrap() {
                    0 => break,
                    length => text.extend_from_slice(&room[..length]),
                }
            }
            let expected = String::from_utf8_lossy(&wire[1..]);
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn a_dropped_read_loses_nothing() {
    let mut io = reading(SHIFT_JIS, [b"\x82", b"\xa0a"]);
    for _ in 0..2 {
        assert_pending!(task::spawn(io.read(&mut [0; 8])).poll());
    }
    let mut text = String::new();
    io.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "あa");
}

#[tokio::test]
async fn what_is_read_and_not_decoded_takes_no_memory_unless_it_is_bad() {
    let wire = b"\x80".repeat(50_000);
    let mut io = reading(WINDOWS_1252, [&wire]);
    let mut room = [0; 1000];
    while io.read(&mut room).await.unwrap() > 0 {
        assert_eq!(io.undecoded(), 0);
    }
    assert!(
        size_of::<TranscodeIo<()>>() <= 400,
        "{}",
        size_of::<TranscodeIo<()>>()
    );
}
