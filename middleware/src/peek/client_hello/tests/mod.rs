//! ClientHellos that the tests build, and how the parser treats them.

mod bounds;
mod names;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod oracle;

use super::*;

/// A ClientHello to be written. Type and value of each extension are written as they are.
#[derive(Clone, Debug)]
pub(crate) struct TestHello {
    pub(crate) version: u16,
    pub(crate) cipher_suites: Vec<u16>,
    pub(crate) extensions: Vec<(u16, Vec<u8>)>,
}

impl Default for TestHello {
    fn default() -> Self {
        Self {
            version: 0x0303,
            cipher_suites: vec![0x1301, 0x1302],
            extensions: vec![],
        }
    }
}

impl TestHello {
    /// What a browser sends, roughly.
    pub(crate) fn to(name: &str) -> Self {
        let extensions = vec![
            (0x2a2a, vec![0]),
            Self::server_name(name),
            Self::alpn(&["h2", "http/1.1"]),
            Self::signature_algorithms(&[0x0403, 0x0804]),
            Self::versions(&[0x0304, 0x0303]),
        ];
        Self {
            extensions,
            ..Self::default()
        }
    }

    pub(crate) fn server_name(name: &str) -> (u16, Vec<u8>) {
        (
            0,
            block(2, &[&[0], &block(2, name.as_bytes())[..]].concat()),
        )
    }

    pub(crate) fn alpn(names: &[&str]) -> (u16, Vec<u8>) {
        let names = names.iter().flat_map(|name| block(1, name.as_bytes()));
        (16, block(2, &names.collect::<Vec<_>>()))
    }

    pub(crate) fn versions(versions: &[u16]) -> (u16, Vec<u8>) {
        (43, block(1, &pairs(versions)))
    }

    pub(crate) fn signature_algorithms(algorithms: &[u16]) -> (u16, Vec<u8>) {
        (13, block(2, &pairs(algorithms)))
    }

    /// The handshake message with its head.
    pub(crate) fn message(&self) -> Vec<u8> {
        let extension =
            |(kind, value): &(u16, Vec<u8>)| [&kind.to_be_bytes()[..], &block(2, value)].concat();
        let extensions: Vec<u8> = self.extensions.iter().flat_map(extension).collect();
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.extend(block(1, &[9; 32]));
        body.extend(block(2, &pairs(&self.cipher_suites)));
        body.extend(block(1, &[0]));
        if !self.extensions.is_empty() {
            body.extend(block(2, &extensions));
        }
        [&[1], &block(3, &body)[..]].concat()
    }

    /// In records of up to `fragment` bytes.
    pub(crate) fn records(&self, fragment: usize) -> Vec<u8> {
        records(&self.message(), fragment)
    }

    /// What `read` returns for it.
    #[track_caller]
    pub(crate) fn parsed<T>(&self, read: impl FnOnce(&ClientHello<'_>) -> T) -> T {
        let bytes = self.records(MAX_RECORD);
        let parsed = ClientHelloParser::new().parse(&bytes).unwrap();
        read(&parsed.expect("it is complete"))
    }
}

/// `message` in records of up to `fragment` bytes.
pub(super) fn records(message: &[u8], fragment: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[22, 3, 1], &block(2, part)[..]].concat();
    message.chunks(fragment).flat_map(record).collect()
}

/// `bytes` behind their length, a number of `width` bytes.
fn block(width: usize, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[4 - width..], bytes].concat()
}

fn pairs(numbers: &[u16]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect()
}

fn parse(bytes: &[u8]) -> Result<Option<ClientHello<'_>>, ClientHelloError> {
    ClientHelloParser::new().parse(bytes)
}

pub(super) const MAX_RECORD: usize = 1 << 14;

#[test]
fn the_fields_are_those_that_were_sent_in_their_order() {
    let hello = TestHello::to("shop.example");
    hello.parsed(|hello| {
        assert_eq!(hello.server_name(), Some("shop.example"));
        let alpn: Vec<_> = hello.alpn().collect();
        assert_eq!(alpn, [&b"h2"[..], b"http/1.1"]);
        assert_eq!(hello.legacy_version(), 0x0303);
        assert_eq!(
            hello.supported_versions().collect::<Vec<_>>(),
            [0x0304, 0x0303]
        );
        let algorithms: Vec<_> = hello.signature_algorithms().collect();
        assert_eq!(algorithms, [0x0403, 0x0804]);
        assert_eq!(hello.cipher_suites().collect::<Vec<_>>(), [0x1301, 0x1302]);
        let extensions: Vec<_> = hello.extensions().map(|(kind, _)| kind).collect();
        assert_eq!(extensions, [0x2a2a, 0, 16, 13, 43]);
    });
}

#[test]
fn a_hello_of_an_old_client_has_no_extensions() {
    TestHello::default().parsed(|hello| {
        assert_eq!((hello.server_name(), hello.alpn().count()), (None, 0));
        assert_eq!(hello.extensions().count(), 0);
    });
}

#[test]
fn it_borrows_the_bytes_unless_the_message_spans_records() {
    let hello = TestHello::to("shop.example");
    let whole = hello.records(MAX_RECORD);
    assert!(matches!(
        parse(&whole).unwrap().unwrap().body,
        Cow::Borrowed(_)
    ));
    let cut = hello.records(64);
    assert!(matches!(parse(&cut).unwrap().unwrap().body, Cow::Owned(_)));
}

#[test]
fn it_is_complete_with_its_last_byte_however_it_is_split() {
    let hello = TestHello::to("shop.example");
    for fragment in [1, 2, 3, 4, 5, 64, MAX_RECORD] {
        let bytes = hello.records(fragment);
        for step in [1, 5, 7, 100, bytes.len()] {
            let mut parser = ClientHelloParser::new();
            for end in (0..bytes.len()).step_by(step) {
                let parsed = parser.parse(&bytes[..end]).unwrap();
                assert!(parsed.is_none(), "{end} of {}, {fragment}", bytes.len());
            }
            let parsed = parser.parse(&bytes).unwrap().unwrap();
            assert_eq!(parsed.server_name(), Some("shop.example"));
            assert_eq!(parsed.alpn().count(), 2);
        }
        for end in 0..bytes.len() {
            // Also for a new parser that receives all of the first part.
            assert!(parse(&bytes[..end]).unwrap().is_none());
        }
    }
}

#[test]
fn other_protocols_are_told_apart_with_their_first_bytes() {
    for (bytes, needed) in [
        (&b"GET / HTTP/1.1\r\n"[..], 1),
        (b"PRI * HTTP/2.0\r\n", 1),
        (b"SSH-2.0-OpenSSH_9.9\r\n", 1),
        (b"\x80\x2e\x01\x03\x01", 1),
        (b"\x16\x02\x00\x00\x10", 2),
        (b"\x16\x03\x01\x00\x01\x02", 6),
    ] {
        for end in 0..needed {
            assert!(parse(&bytes[..end]).unwrap().is_none());
        }
        for end in needed..bytes.len() {
            let error = parse(&bytes[..end]).unwrap_err();
            assert!(error.is_not_client_hello(), "{error}");
        }
    }
}

/// Each field incomplete, one byte too long, or empty where it must not be.
#[test]
fn a_malformed_hello_is_an_error_that_names_the_field() {
    let with = |kind, value: &[u8]| TestHello {
        extensions: vec![(kind, value.to_vec())],
        ..TestHello::default()
    };
    for (hello, field) in [
        (with(0, b""), "extension server_name"),
        (with(0, &[0, 2, 0, 0]), "extension server_name"),
        (with(0, &[0, 4, 0, 0, 1, b'a', 9]), "extension server_name"),
        (with(16, b""), "extension ALPN"),
        (with(16, &[0, 0]), "extension ALPN"),
        (with(16, &[0, 1, 0]), "extension ALPN"),
        (with(16, &[0, 2, 2, b'h']), "extension ALPN"),
        (with(16, &[0, 2, 1, b'h', 0]), "extension ALPN"),
        (with(43, &[0]), "extension supported_versions"),
        (with(43, &[3, 3, 4, 3]), "extension supported_versions"),
        (with(13, &[0, 0]), "extension signature_algorithms"),
        (with(13, &[0, 4, 4, 3]), "extension signature_algorithms"),
    ] {
        let error = parse(&hello.records(MAX_RECORD)).unwrap_err();
        let expected = format!("invalid ClientHello: malformed {field}");
        assert_eq!(error.to_string(), expected, "{hello:?}");
    }
    let mut no_suites = TestHello::default();
    no_suites.cipher_suites.clear();
    assert!(parse(&no_suites.records(MAX_RECORD)).is_err());
}

#[test]
fn each_part_of_the_message_may_be_cut_off_and_is_then_an_error() {
    let message = TestHello::to("shop.example").message();
    let mut accepted = 0;
    for end in 4..message.len() {
        // With the length that it claims corrected.
        let cut = [&[1], &block(3, &message[4..end])[..]].concat();
        accepted += usize::from(parse(&records(&cut, MAX_RECORD)).is_ok());
    }
    // Where the extensions are left out completely.
    assert_eq!(accepted, 1);
    let longer = [&[1], &block(3, &[&message[4..], &[0]].concat())[..]].concat();
    assert!(parse(&records(&longer, MAX_RECORD)).is_err());
}

#[test]
fn an_extension_may_not_appear_twice() {
    for kind in [0_u16, 16, 0x2a2a, 0xffff] {
        let extension = match kind {
            0 => TestHello::server_name("a.example"),
            16 => TestHello::alpn(&["h2"]),
            kind => (kind, vec![]),
        };
        let hello = TestHello {
            extensions: vec![extension.clone(), (21, vec![]), extension],
            ..TestHello::default()
        };
        let error = parse(&hello.records(MAX_RECORD)).unwrap_err();
        let expected = format!("invalid ClientHello: extension {kind} appears twice");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn debug_output_contains_no_random_values() {
    let text = TestHello::to("shop.example").parsed(|hello| format!("{hello:?}"));
    let expected = "ClientHello { server_name: Some(\"shop.example\"), len: ";
    assert!(text.starts_with(expected) && text.len() < 80, "{text}");
}
