//! Which protocol is found, and with how many bytes.

use super::*;
use crate::connection::Hello;

/// The result, the number of bytes that it took, and the hello.
fn detected(bytes: &[u8]) -> Option<(Protocol, usize, Option<Hello>)> {
    let mut detector = ProtocolDetector::new();
    for end in 1..=bytes.len() {
        match detector.detect(&bytes[..end]) {
            Detect::Need => {}
            Detect::Found(found) => {
                // The same as for one read of everything.
                let whole = ProtocolDetector::new().detect(bytes);
                assert!(matches!(whole, Detect::Found(whole) if whole == found));
                return Some((found, end, detector.into_hello()));
            }
            other => panic!("{other:?}"),
        }
    }
    None
}

#[test]
fn protocols_are_found_with_their_first_bytes() {
    let postgres = |code: u32, length: u32| [length.to_be_bytes(), code.to_be_bytes()].concat();
    for (bytes, protocol, needed) in [
        (&b"GET / HTTP/1.1\r\n"[..], Protocol::Http1, 4),
        (b"HEAD / HTTP/1.1\r\n", Protocol::Http1, 5),
        (b"POST / HTTP/1.1\r\n", Protocol::Http1, 5),
        (b"PUT / HTTP/1.1\r\n", Protocol::Http1, 4),
        (b"DELETE / HTTP/1.1\r\n", Protocol::Http1, 5),
        (b"CONNECT a:1 HTTP/1.1\r\n", Protocol::Http1, 5),
        (b"OPTIONS * HTTP/1.1\r\n", Protocol::Http1, 5),
        (b"TRACE / HTTP/1.1\r\n", Protocol::Http1, 5),
        (b"PATCH / HTTP/1.1\r\n", Protocol::Http1, 5),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Protocol::Http2, 5),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Protocol::Ssh, 4),
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            Protocol::Proxy,
            6,
        ),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", Protocol::Proxy, 12),
        (&postgres(80_877_103, 8), Protocol::Postgres, 8),
        (&postgres(80_877_104, 8), Protocol::Postgres, 8),
        (&postgres(80_877_102, 16), Protocol::Postgres, 8),
        (&postgres(3 << 16, 84), Protocol::Postgres, 8),
        (&postgres(3 << 16 | 2, 84), Protocol::Postgres, 8),
        (&postgres(3 << 16, 10_001), Protocol::Unknown, 8),
        (&postgres(1, 8), Protocol::Unknown, 8),
        (b"\0\x02", Protocol::Unknown, 2),
        (b"\x16\x02\x00", Protocol::Unknown, 2),
        (b"\x80\x2e\x01", Protocol::Unknown, 1),
        (b"GETTY", Protocol::Unknown, 4),
        (b"SSH 2", Protocol::Unknown, 4),
        (b"EHLO a.example\r\n", Protocol::Unknown, 1),
    ] {
        let found = detected(bytes);
        assert_eq!(
            found,
            Some((protocol, needed, None)),
            "{}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn tls_is_found_with_the_whole_hello() {
    let bytes = hello();
    let (protocol, needed, hello) = detected(&bytes).unwrap();
    assert_eq!((protocol, needed), (Protocol::Tls, bytes.len()));
    let hello = hello.unwrap();
    assert_eq!(hello.server_name(), Some("shop.example"));
    assert_eq!(hello.alpn().collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
    assert_eq!(hello.ja4(), None);
}

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
#[test]
fn the_fingerprint_is_computed_on_request() {
    let bytes = hello();
    let mut detector = ProtocolDetector::new().with_ja4(true);
    assert!(matches!(detector.detect(&bytes), Detect::Found(_)));
    let hello = detector.into_hello().unwrap();
    assert!(hello.ja4().unwrap().starts_with("t13d0204h2_"));
}

#[test]
fn the_name_is_in_lower_case() {
    let bytes = TestHello::to("SHOP.Example.").records(64);
    let (_, _, hello) = detected(&bytes).unwrap();
    assert_eq!(hello.unwrap().server_name(), Some("shop.example"));
}

#[tokio::test]
async fn the_service_gets_the_protocol_and_every_byte() {
    let bytes = [hello(), b"and more".to_vec()].concat();
    for step in [1, 5, 64, bytes.len()] {
        let mut io = tokio_test::io::Builder::new();
        for piece in bytes.chunks(step) {
            io.read(piece);
        }
        let (protocol, input) = serve(PeekLayer::new(), io.build()).await.unwrap();
        assert!(protocol == Some(Protocol::Tls), "{protocol:?}");
        assert_eq!(input, bytes);
    }
}

#[tokio::test]
async fn the_hello_is_in_the_info_that_outer_layers_hold() {
    let io = tokio_test::io::Builder::new().read(&hello()).build();
    let connection = connection(io);
    let info = connection.info().clone();
    assert_eq!(name(&info), None);
    serve_connection(PeekLayer::new(), connection)
        .await
        .unwrap();
    assert_eq!(name(&info), Some("shop.example"));
}

/// Decides by the first byte.
#[derive(Clone)]
struct Vowels;

impl Detector for Vowels {
    type Found = char;

    fn detect(&mut self, bytes: &[u8]) -> Detect<char> {
        match bytes[0] {
            vowel @ (b'a' | b'e' | b'i' | b'o' | b'u') => Detect::Found(vowel.into()),
            b'y' => Detect::Invalid("sometimes a vowel".into()),
            _ => Detect::Not,
        }
    }
}

#[tokio::test]
async fn a_custom_detector_finds_passes_on_and_rejects() {
    let read = |mut connection: Connection<PrefixedIo<&'static [u8]>>| async move {
        let mut input = String::new();
        connection.read_to_string(&mut input).await?;
        io::Result::Ok((connection.extensions().get::<char>().copied(), input))
    };
    let mut service = PeekLayer::with_detector(Vowels).layer(service_fn(read));
    let served = service.call(connection(&b"abc"[..])).await.unwrap();
    assert_eq!(served, (Some('a'), "abc".to_owned()));
    let served = service.call(connection(&b"bcd"[..])).await.unwrap();
    assert_eq!(served, (None, "bcd".to_owned()));
    let error = service.call(connection(&b"yes"[..])).await.unwrap_err();
    let refused = find::<Refused>(&*error).unwrap();
    assert_eq!(refused.reason(), PeekLayer::INVALID);
    let source = std::error::Error::source(refused).unwrap();
    assert_eq!(source.to_string(), "sometimes a vowel");
}
