//! Large, endless and slow ClientHellos.

use super::*;

fn with_alpn_of(length: usize) -> TestHello {
    let mut hello = TestHello::to("shop.example");
    let names: Vec<_> = (0..length / 8)
        .map(|number| format!("{number:07}"))
        .collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    hello.extensions[2] = TestHello::alpn(&names);
    hello
}

#[test]
fn many_protocol_names_are_read_to_the_last_one() {
    let hello = with_alpn_of(15 << 10);
    for fragment in [64, 1400, MAX_RECORD] {
        let bytes = hello.records(fragment);
        let mut parser = ClientHelloParser::new().with_max_len(64 << 10);
        let parsed = parser.parse(&bytes).unwrap().unwrap();
        assert_eq!(parsed.alpn().last(), Some(&b"0001919"[..]));
        assert_eq!(parsed.server_name(), Some("shop.example"));
    }
    hello.parsed(|hello| assert_eq!(hello.alpn().count(), 1920));
}

#[test]
fn a_message_above_the_limit_is_refused_once_it_claims_its_length() {
    for (limit, length) in [(16 << 10, 16 << 10), (64 << 10, 65_500), (1000, 1000)] {
        let claims = |length: usize| {
            let length = u32::try_from(length - 4).unwrap().to_be_bytes();
            records(&[&[1], &length[1..], &[3]].concat(), MAX_RECORD)
        };
        let mut parser = ClientHelloParser::new().with_max_len(limit);
        assert!(parser.parse(&claims(length)).unwrap().is_none());
        let mut parser = ClientHelloParser::new().with_max_len(limit);
        let error = parser.parse(&claims(limit + 1)).unwrap_err();
        assert!(error.is_too_long(), "{error}");
    }
    let bytes = with_alpn_of(64 << 10).records(MAX_RECORD);
    let error = ClientHelloParser::new().parse(&bytes).unwrap_err();
    assert!(error.is_too_long(), "{error}");
}

#[test]
fn records_that_exceed_the_limit_are_refused_although_the_message_does_not() {
    // Six bytes for each one of the message.
    let hello = with_alpn_of(3 << 10);
    let bytes = hello.records(1);
    let mut parser = ClientHelloParser::new();
    assert!(parser.parse(&bytes[..(16 << 10) - 1]).unwrap().is_none());
    assert!(parser.parse(&bytes[..16 << 10]).unwrap_err().is_too_long());
    // Also where all of it arrives together.
    assert!(
        ClientHelloParser::new()
            .parse(&bytes)
            .unwrap_err()
            .is_too_long()
    );
    let mut parser = ClientHelloParser::new().with_max_len(64 << 10);
    assert!(parser.parse(&bytes).unwrap().is_some());
}

#[test]
fn one_that_is_never_finished_needs_no_more_than_the_limit() {
    let mut bytes = with_alpn_of(20 << 10).records(MAX_RECORD);
    bytes[6..9].copy_from_slice(&[0, 0x3f, 0xff]);
    let mut parser = ClientHelloParser::new();
    for end in 0..16 << 10 {
        assert!(parser.parse(&bytes[..end]).unwrap().is_none());
    }
    assert!(parser.parse(&bytes[..16 << 10]).unwrap_err().is_too_long());
}

#[test]
fn a_record_is_neither_empty_nor_longer_than_tls_allows() {
    for length in [0_u16, (1 << 14) + 1, u16::MAX] {
        let [high, low] = length.to_be_bytes();
        let error = parse(&[22, 3, 1, high, low]).unwrap_err();
        let expected =
            format!("invalid ClientHello: record of {length} bytes, expected 1 to 16384");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn nothing_follows_the_message_in_its_record() {
    let message = [TestHello::to("shop.example").message(), vec![0; 3]].concat();
    let error = parse(&records(&message, MAX_RECORD)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid ClientHello: 3 bytes follow the message"
    );
    // Early data arrives in records of their own.
    let early = [
        TestHello::to("shop.example").records(64),
        b"early data".to_vec(),
    ]
    .concat();
    assert!(parse(&early).unwrap().is_some());
}

#[test]
#[should_panic(expected = "64 KiB at most")]
fn the_limit_itself_is_limited() {
    let _ = ClientHelloParser::new().with_max_len((64 << 10) + 1);
}
