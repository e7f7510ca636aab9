//! Tests of writes.

use super::*;
use encoding_rs::*;
use tokio_test::{assert_pending, assert_ready_ok, task};

fn writing(encoding: &'static Encoding) -> TranscodeIo<Pieces> {
    transcoded(Pieces::default(), encoding, BadText::Fail)
}

#[tokio::test]
async fn what_is_written_is_sent_without_a_flush() {
    let mut io = writing(KOI8_U);
    assert_eq!(io.write("так".as_bytes()).await.unwrap(), 6);
    assert_eq!(io.get_ref().output, b"\xd4\xc1\xcb");
}

#[tokio::test]
async fn a_character_may_be_written_in_parts() {
    let mut io = writing(GB18030);
    for part in ["😀漢".as_bytes(), "é".as_bytes()].concat().chunks(1) {
        assert_eq!(io.write(part).await.unwrap(), 1);
        io.flush().await.unwrap();
    }
    assert_eq!(io.get_ref().output, *GB18030.encode("😀漢é").0);
}

#[tokio::test]
async fn a_character_that_the_wire_does_not_have_is_an_error_behind_the_text_before() {
    let mut io = writing(WINDOWS_1252);
    assert_eq!(io.write("né→".as_bytes()).await.unwrap(), 3);
    for _ in 0..2 {
        let error = typed(io.write("→b".as_bytes()).await.unwrap_err());
        assert_eq!(error.direction(), Direction::Write);
        assert_eq!(error.problem(), TextProblem::Unmappable('→'));
        assert_eq!(error.offset(), 3);
        assert_eq!(
            error.to_string(),
            "U+2192 does not exist in windows-1252 at byte 3"
        );
    }
    io.write_all(b"->b").await.unwrap();
    assert_eq!(io.get_ref().output, b"n\xe9->b");
}

#[tokio::test]
async fn one_that_was_written_in_parts_is_forgotten() {
    let mut io = writing(WINDOWS_1252);
    io.write_all(&"é→".as_bytes()[..4]).await.unwrap();
    let error = typed(io.write(&"→b".as_bytes()[2..]).await.unwrap_err());
    assert_eq!(
        (error.problem(), error.offset()),
        (TextProblem::Unmappable('→'), 2)
    );
    io.write_all(b"b").await.unwrap();
    io.shutdown().await.unwrap();
    assert_eq!(io.get_ref().output, b"\xe9b");
}

#[tokio::test]
async fn what_is_no_utf_8_is_an_error_where_it_begins() {
    for (parts, offset) in [
        ([&b"ab"[..], b"\xff"], 2),
        ([b"ab\xe3", b"\x81x"], 2),
        ([b"ab\xe3\x81", b"x"], 2),
        ([b"ab\xed", b"\xa0\x80"], 2),
        ([b"", b"\x80"], 0),
    ] {
        let mut io = writing(SHIFT_JIS);
        io.write_all(parts[0]).await.unwrap();
        let error = typed(io.write_all(parts[1]).await.unwrap_err());
        assert_eq!(
            (error.problem(), error.offset()),
            (TextProblem::Malformed, offset)
        );
        assert_eq!(
            error.to_string(),
            format!("wrote malformed UTF-8 at byte {offset}")
        );
        io.write_all(b"on").await.unwrap();
        assert!(io.get_ref().output.ends_with(b"on"));
    }
}

#[tokio::test]
async fn an_end_within_a_character_fails_once() {
    let mut io = writing(SHIFT_JIS);
    io.write_all(b"a\xe3\x81").await.unwrap();
    let error = typed(io.shutdown().await.unwrap_err());
    assert_eq!(
        (error.problem(), error.offset()),
        (TextProblem::Truncated, 1)
    );
    assert!(!io.get_ref().shut_down);
    io.shutdown().await.unwrap();
    assert!(io.get_ref().shut_down);
    assert_eq!(io.get_ref().output, b"a");
}

#[tokio::test]
async fn an_end_within_a_character_is_replaced_where_that_was_chosen() {
    for (encoding, expected) in [(WINDOWS_1252, &b"a?"[..]), (UTF_8, "a\u{FFFD}".as_bytes())] {
        let mut io = transcoded(Pieces::default(), encoding, BadText::Replace);
        io.write_all(b"a\xe3\x81").await.unwrap();
        io.shutdown().await.unwrap();
        assert_eq!(io.get_ref().output, expected);
    }
}

#[tokio::test]
async fn iso_2022_jp_returns_to_ascii_at_the_end_and_not_at_a_flush() {
    let mut io = writing(ISO_2022_JP);
    io.write_all("あ".as_bytes()).await.unwrap();
    io.flush().await.unwrap();
    assert_eq!(io.get_ref().output, b"\x1b$B$\"");
    io.write_all("い".as_bytes()).await.unwrap();
    io.shutdown().await.unwrap();
    assert_eq!(io.get_ref().output, b"\x1b$B$\"$$\x1b(B");
    // Not at a flush, because two changes of state in a row are malformed.
    let (_, malformed) = ISO_2022_JP.decode_without_bom_handling(b"\x1b$B$\"\x1b(B\x1b$B$$\x1b(B");
    assert!(malformed);
}

#[tokio::test]
async fn controls_that_would_change_the_state_do_not_get_through() {
    let mut io = writing(ISO_2022_JP);
    let error = typed(io.write(b"\x1b(J").await.unwrap_err());
    assert_eq!(error.problem(), TextProblem::Unmappable('\x1b'));
    assert_eq!(error.offset(), 0);
}

#[tokio::test]
async fn after_the_end_nothing_is_taken() {
    let mut io = writing(ISO_2022_JP);
    io.shutdown().await.unwrap();
    let error = io.write(b"late").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    io.shutdown().await.unwrap();
    assert_eq!(io.get_ref().output, b"");
}

#[tokio::test]
async fn a_failure_to_send_what_was_taken_is_told_by_the_next_operation() {
    for next in ["write", "flush", "shutdown"] {
        let mut io = writing(WINDOWS_1252);
        io.get_mut().failure = Some(ErrorKind::TimedOut);
        assert_eq!(io.write(b"taken").await.unwrap(), 5);
        let failure = match next {
            "write" => io.write(b"not taken").await.map(drop),
            "flush" => io.flush().await,
            _ => io.shutdown().await,
        };
        assert_eq!(failure.unwrap_err().kind(), ErrorKind::TimedOut, "{next}");
        io.write_all(b" on").await.unwrap();
        assert_eq!(io.get_ref().output, b"taken on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waits_takes_nothing() {
    let (ours, mut theirs) = tokio::io::duplex(1);
    let mut io = TranscodeIo::new(ours, WINDOWS_1252, BadText::Fail).unwrap();
    let text = "é".repeat(3000);
    let mut taken = 0;
    while let Poll::Ready(written) = task::spawn(io.write(text.as_bytes())).poll() {
        taken += written.unwrap();
    }
    assert!(taken < 30_000, "the buffer is bounded");
    let mut sent = vec![0; taken / 2];
    let read = theirs.read_exact(&mut sent);
    let (flushed, read) = in_time(async { tokio::join!(io.flush(), read) }).await;
    flushed.unwrap();
    assert_eq!(read.unwrap(), taken / 2);
    assert_pending!(task::spawn(theirs.read_u8()).poll());
}

/// Unsent text is sent before a read waits.
#[tokio::test(start_paused = true)]
async fn a_handler_that_forgets_to_flush_does_not_wait_for_ever() {
    let (ours, mut theirs) = tokio::io::duplex(1);
    let mut io = TranscodeIo::new(ours, SHIFT_JIS, BadText::Fail).unwrap();
    io.write_all("質問".as_bytes()).await.unwrap();
    let mut answer = [0; 3];
    let mut read = task::spawn(io.read_exact(&mut answer));
    assert_pending!(read.poll());
    let client = async {
        let mut question = [0; 4];
        theirs.read_exact(&mut question).await.unwrap();
        assert_eq!(question, *SHIFT_JIS.encode("質問").0);
        theirs.write_all(b"\x82\xa0").await.unwrap();
    };
    let (read, ()) = in_time(async { tokio::join!(read, client) }).await;
    read.unwrap();
    assert_eq!(answer, *"あ".as_bytes());
}

#[tokio::test]
async fn an_error_behind_parts_that_were_taken_is_told_by_the_next_write() {
    let mut io = writing(WINDOWS_1252);
    let arrow = "→".as_bytes();
    let parts = [b"ab", &arrow[..1], &arrow[1..]].map(IoSlice::new);
    assert_eq!(io.write_vectored(&parts).await.unwrap(), 3);
    let error = typed(io.write(b"c").await.unwrap_err());
    assert_eq!(
        (error.problem(), error.offset()),
        (TextProblem::Unmappable('→'), 2)
    );
    assert!(io.is_write_vectored());
}

#[tokio::test]
async fn a_part_behind_a_bad_one_is_not_taken() {
    let mut io = writing(WINDOWS_1252);
    let parts = [&b"ab\xff"[..], b"cd"].map(IoSlice::new);
    assert_eq!(io.write_vectored(&parts).await.unwrap(), 2);
    assert_eq!(typed(io.write(b"\xff").await.unwrap_err()).offset(), 2);
    assert_eq!(io.get_ref().output, b"ab");
}

#[tokio::test]
async fn an_end_without_output_needs_no_buffer() {
    let mut io = writing(ISO_2022_JP);
    io.flush().await.unwrap();
    io.shutdown().await.unwrap();
    assert_eq!(io.buffer_capacity(), 0);
    let mut write = task::spawn(io.write(b""));
    assert!(write.poll().is_ready());
}

#[tokio::test]
async fn the_inner_io_comes_back_and_nothing_is_shown() {
    let mut io = writing(WINDOWS_1252);
    io.write_all("é".as_bytes()).await.unwrap();
    assert_ready_ok!(
        Pin::new(io.get_mut())
            .poll_write(&mut Context::from_waker(std::task::Waker::noop()), b"\xe8")
    );
    assert_eq!(io.encoding(), WINDOWS_1252);
    assert!(format!("{io:?}").contains("windows-1252"));
    assert_eq!(io.into_inner().output, b"\xe9\xe8");
}
