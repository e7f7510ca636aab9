use super::*;
use hyper_util::client::legacy::connect::Connection as _;
use portcullis_middleware::connection::{ConnectionInfo, TlsInfo};

use portcullis_middleware::testing::{assert_transparent, connection};
#[cfg(feature = "tls")]
use portcullis_middleware::{io::EitherIo, tls::TlsClientIo};

#[test]
fn what_hyper_asks_for_arrives_as_it_was_asked() {
    use hyper_util::rt::TokioIo;
    assert_transparent(|io| TokioIo::new(HttpConnection::new(connection(io))));
}

#[cfg(feature = "tls")]
#[test]
fn without_tls_everything_passes() {
    assert_transparent(EitherIo::<_, TlsClientIo<tokio::io::Empty>>::Left);
}

#[cfg(feature = "tls")]
type PlainOrTls<IO> = EitherIo<IO, TlsClientIo<IO>>;

#[cfg(feature = "tls")]
#[test]
fn writes_are_vectored_where_the_wire_is() {
    let (vectored, _peer) = tokio::io::duplex(1);
    let http = HttpConnection::new(connection(PlainOrTls::Left(vectored)));
    assert!(hyper::rt::Write::is_write_vectored(&http));
}

#[test]
fn hyper_is_told_of_http2_only_where_tls_agreed_on_it() {
    for (alpn, expected) in [
        (Some(&b"h2"[..]), true),
        (Some(b"http/1.1"), false),
        (None, false),
    ] {
        let connection = connection(tokio::io::empty());
        let mut tls = TlsInfo::new();
        tls.alpn = alpn.map(<[u8]>::to_vec);
        connection.set_tls(tls);
        let connected = HttpConnection::new(connection).connected();
        assert_eq!(connected.is_negotiated_h2(), expected, "{alpn:?}");
    }
    let plain = HttpConnection::new(connection(tokio::io::empty()));
    assert!(!plain.connected().is_negotiated_h2());
}

#[test]
fn a_response_is_told_of_its_connection() {
    let mut connection = connection(tokio::io::empty());
    let id = connection.id();
    let mut inserted = http::Extensions::new();
    let describe = |connection| HttpConnection::new(connection).connected();
    connection.extensions_mut().insert(7_u8);
    describe(connection).get_extras(&mut inserted);
    assert_eq!(inserted.get::<ConnectionInfo>().unwrap().id(), id);
    let left = inserted.get::<portcullis_middleware::Extensions>().unwrap();
    assert_eq!(left.get::<u8>(), Some(&7));
}
