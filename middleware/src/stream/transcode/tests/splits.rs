//! Splitting the input into pieces does not change the result.

use super::*;
use encoding_rs::*;

const ENCODINGS: [&Encoding; 16] = [
    BIG5,
    EUC_JP,
    EUC_KR,
    GB18030,
    GBK,
    IBM866,
    ISO_2022_JP,
    ISO_8859_2,
    ISO_8859_8,
    KOI8_U,
    MACINTOSH,
    SHIFT_JIS,
    UTF_8,
    WINDOWS_1252,
    WINDOWS_874,
    X_USER_DEFINED,
];

/// Bytes that begin, continue and break characters in various charsets.
fn wire(random: &mut Random) -> Vec<u8> {
    let parts: [&[u8]; 24] = [
        b"a",
        b"Z9",
        b"\n",
        b"\\~",
        b"\x1b$B",
        b"\x1b(B",
        b"\x1b(J",
        b"\x1b(I",
        b"\x1b$",
        b"\x1b",
        b"$\"",
        b"\x80",
        b"\x81",
        b"\x81\x40",
        b"\x81\x30\x81\x30",
        b"\x81\x30",
        b"\x88\x62",
        b"\xa4\xa2",
        b"\xb0\xa1",
        b"\xe3\x81\x82",
        b"\xf0\x9f\x98",
        b"\xff",
        b"\xfe",
        b"\x8f\xa2",
    ];
    let count = random.below(60);
    (0..count)
        .flat_map(|_| random.pick(&parts).to_vec())
        .collect()
}

/// UTF-8 that only some charsets can encode, with malformed bytes if `bad`.
fn text(random: &mut Random, bad: bool) -> Vec<u8> {
    let parts: [&[u8]; 20] = [
        b"a",
        b"Z9",
        b"\n",
        b"\\~",
        "é".as_bytes(),
        "¥".as_bytes(),
        "Ω".as_bytes(),
        "Ж".as_bytes(),
        "あ".as_bytes(),
        "漢".as_bytes(),
        "ｱ".as_bytes(),
        "한".as_bytes(),
        "€".as_bytes(),
        "😀".as_bytes(),
        b"\x1b",
        "\u{FFFD}".as_bytes(),
        b"\xff",
        b"\xe3\x81",
        b"\x80",
        b"\xf0\x9f",
    ];
    let parts = if bad { &parts[..] } else { &parts[..16] };
    let count = random.below(60);
    (0..count)
        .flat_map(|_| random.pick(parts).to_vec())
        .collect()
}

/// Reads all with buffers of up to `most` bytes; returns the text and the first error.
async fn read_all(
    io: &mut TranscodeIo<Pieces>,
    random: &mut Random,
    most: usize,
) -> (Vec<u8>, Option<TranscodeError>) {
    let mut text = Vec::new();
    loop {
        let mut room = vec![0; 1 + random.below(most)];
        match io.read(&mut room).await {
            Ok(0) => return (text, None),
            Ok(length) => text.extend_from_slice(&room[..length]),
            Err(error) => return (text, Some(typed(error))),
        }
    }
}

fn in_pieces(random: &mut Random, bytes: &[u8], most: usize) -> Pieces {
    let pieces = random.split(bytes, most);
    Pieces {
        input: pieces.into_iter().map(<[u8]>::to_vec).collect(),
        ..Pieces::default()
    }
}

#[tokio::test]
async fn what_is_read_is_what_one_conversion_with_replacement_gives() {
    for encoding in ENCODINGS {
        for seed in 0..100 {
            let random = &mut Random(seed);
            let wire = wire(random);
            let (expected, _) = encoding.decode_without_bom_handling(&wire);
            for (piece, room) in [(1, 1), (1, 200), (3, 5), (100, 1), (100, 70), (500, 500)] {
                let io = in_pieces(random, &wire, piece);
                let mut io = transcoded(io, encoding, BadText::Replace);
                let (text, error) = read_all(&mut io, random, room).await;
                assert_eq!(error, None);
                let text = String::from_utf8(text).unwrap();
                assert_eq!(text, expected, "{} {wire:?}", encoding.name());
            }
        }
    }
}

/// The text before the first malformed bytes, and their position, as the decoder reports them.
fn first_error(encoding: &'static Encoding, wire: &[u8]) -> (String, Option<(TextProblem, u64)>) {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut text = String::with_capacity(wire.len() * 3 + 64);
    let (result, read) = decoder.decode_to_string_without_replacement(wire, &mut text, false);
    if let DecoderResult::Malformed(bad, behind) = result {
        let offset = (read - usize::from(bad) - usize::from(behind)) as u64;
        return (text, Some((TextProblem::Malformed, offset)));
    }
    let (result, _) = decoder.decode_to_string_without_replacement(b"", &mut text, true);
    if let DecoderResult::Malformed(bad, behind) = result {
        let offset = (wire.len() - usize::from(bad) - usize::from(behind)) as u64;
        return (text, Some((TextProblem::Truncated, offset)));
    }
    (text, None)
}

#[tokio::test]
async fn the_first_bad_bytes_are_told_at_their_place_behind_all_text_before() {
    let mut errors = 0;
    for encoding in ENCODINGS {
        for seed in 0..100 {
            let random = &mut Random(seed);
            let wire = wire(random);
            let (expected, expected_error) = first_error(encoding, &wire);
            for (piece, room) in [(1, 1), (3, 5), (100, 1), (500, 500)] {
                let io = in_pieces(random, &wire, piece);
                let mut io = transcoded(io, encoding, BadText::Fail);
                let (text, error) = read_all(&mut io, random, room).await;
                assert_eq!(text, expected.as_bytes(), "{} {wire:?}", encoding.name());
                let error = error.map(|error| (error.problem(), error.offset()));
                assert_eq!(error, expected_error, "{} {wire:?}", encoding.name());
                errors += usize::from(error.is_some());
            }
        }
    }
    assert!(errors > 1000, "{errors}");
}

#[tokio::test]
async fn a_reader_that_goes_on_behind_errors_gets_all_the_rest() {
    for encoding in ENCODINGS {
        for seed in 0..50 {
            let random = &mut Random(seed);
            let wire = wire(random);
            let (expected, _) = encoding.decode_without_bom_handling(&wire);
            let io = in_pieces(random, &wire, 100);
            let mut io = transcoded(io, encoding, BadText::Fail);
            let mut all = Vec::new();
            loop {
                let (text, error) = read_all(&mut io, random, 40).await;
                all.extend_from_slice(&text);
                if error.is_none() {
                    break;
                }
                all.extend_from_slice("\u{FFFD}".as_bytes());
            }
            assert_eq!(String::from_utf8(all).unwrap(), expected);
        }
    }
}

/// The expected output for `text`, character by character.
fn encoded(encoding: &'static Encoding, text: &[u8]) -> Vec<u8> {
    let mut encoder = encoding.new_encoder();
    let mut wire = Vec::new();
    let mut put = |text: &str, last| {
        let mut room = [0; 16];
        let (result, _, length) =
            encoder.encode_from_utf8_without_replacement(text, &mut room, last);
        wire.extend_from_slice(&room[..length]);
        result == EncoderResult::InputEmpty
    };
    for character in String::from_utf8_lossy(text).chars() {
        let character = character.to_string();
        assert!(
            [&character, "\u{FFFD}", "?"]
                .into_iter()
                .any(|text| put(text, false))
        );
    }
    put("", true);
    wire
}

#[tokio::test]
async fn what_is_sent_is_what_one_conversion_gives() {
    for encoding in ENCODINGS {
        for seed in 0..100 {
            let random = &mut Random(seed);
            let text = text(random, seed % 2 == 0);
            let expected = encoded(encoding, &text);
            if let Ok(text) = str::from_utf8(&text)
                && let (once, _, false) = encoding.encode(text)
            {
                assert_eq!(*once, expected);
            }
            for (piece, takes) in [(1, 0), (1, 1), (3, 2), (100, 1), (1000, 0)] {
                let io = Pieces {
                    takes,
                    ..Pieces::default()
                };
                let mut io = transcoded(io, encoding, BadText::Replace);
                for piece in random.split(&text, piece) {
                    match random.below(3) {
                        0 => io.flush().await.unwrap(),
                        1 => assert_eq!(io.write(b"").await.unwrap(), 0),
                        _ => {}
                    }
                    io.write_all(piece).await.unwrap();
                }
                io.shutdown().await.unwrap();
                assert_eq!(
                    io.get_ref().output,
                    expected,
                    "{} {text:?}",
                    encoding.name()
                );
                assert!(io.get_ref().shut_down);
            }
        }
    }
}

/// With maximal growth, the buffer is filled to its end repeatedly and never reallocated.
#[tokio::test]
async fn large_texts_are_sent_within_the_bounds_of_the_buffer() {
    let texts = ["x", "aΩ", "¥\\", "\x1b漢", "€", "😀é", "\u{FFFD}"].map(|text| text.repeat(6000));
    let texts = texts.iter().map(|text| text.as_bytes());
    let bad = [b"\xff".repeat(20_000), b"a\xe3\x81".repeat(6000)];
    for text in texts.chain(bad.iter().map(|bad| &**bad)) {
        for encoding in [GB18030, ISO_2022_JP, UTF_8, WINDOWS_1252] {
            let io = Pieces {
                takes: 3000,
                ..Pieces::default()
            };
            let mut io = transcoded(io, encoding, BadText::Replace);
            io.write_all(text).await.unwrap();
            assert_eq!(io.buffer_capacity(), 8192, "{}", encoding.name());
            io.shutdown().await.unwrap();
            assert!(
                io.get_ref().output == encoded(encoding, text),
                "{}",
                encoding.name()
            );
        }
    }
}

#[tokio::test]
async fn vectored_writes_are_one_text() {
    for seed in 0..100 {
        let random = &mut Random(seed);
        let text = text(random, true);
        let mut io = transcoded(Pieces::default(), GB18030, BadText::Replace);
        let mut rest = &text[..];
        while !rest.is_empty() {
            let pieces = random.split(rest, 5);
            let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let taken = io.write_vectored(&slices).await.unwrap();
            assert!(taken > 0);
            rest = &rest[taken..];
        }
        io.shutdown().await.unwrap();
        assert_eq!(io.get_ref().output, encoded(GB18030, &text));
    }
}
