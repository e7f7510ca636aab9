//! Trusted and untrusted sources.

use super::*;
use crate::io::PrefixedIo;
use crate::{connection::Phase, error::Refused, outcome::Outcome};
use tokio_test::io::Builder;
use tower_test::mock;

fn input(header: &[u8]) -> Vec<u8> {
    [header, b"hello"].concat()
}

#[tokio::test]
async fn a_trusted_source_speaks_for_its_clients() {
    for header in [V1, &v2_tcp4(&[])] {
        let io = Builder::new().read(&input(header)).build();
        let observed = serve(layer(), from_proxy(io)).await.unwrap();
        assert_eq!((observed.peer, observed.local), (ip(CLIENT), ip(SERVER)));
        assert_eq!(observed.input, b"hello");
    }
}

#[tokio::test]
async fn the_addresses_of_the_socket_are_kept() {
    let connection = from_proxy(Builder::new().read(V1).build());
    let info = connection.info().clone();
    serve(layer(), connection).await.unwrap();
    assert_eq!(info.socket_peer(), &ip("10.1.2.3:5000"));
    assert_eq!(info.socket_local(), &ip("10.0.0.1:443"));
    assert_eq!(info.peer(), &ip(CLIENT));
}

#[tokio::test]
async fn a_stranger_is_refused_unheard() {
    let fails = Builder::new()
        .read_error(io::ErrorKind::Other.into())
        .build();
    let connection = from_stranger(fails);
    let info = connection.info().clone();
    let error = serve(layer(), connection).await.unwrap_err();
    let refused = find::<Refused>(&*error).unwrap();
    assert_eq!(refused.by(), "proxy_protocol");
    assert_eq!(refused.reason(), ProxyProtocolLayer::UNTRUSTED_SOURCE);
    assert_eq!(Outcome::of(&info, Some(&*error)), Outcome::Refused);
}

#[tokio::test]
async fn the_header_of_a_stranger_is_never_believed() {
    for layer in [
        layer().with_direct_clients(),
        layer().with_direct_clients().with_optional_header(),
    ] {
        for header in [V1, &v2_tcp4(&[])] {
            let io = Builder::new().read(&input(header)).build();
            let observed = serve(layer.clone(), from_stranger(io)).await.unwrap();
            assert_eq!(observed.peer, ip("192.0.2.66:5000"));
            assert_eq!(observed.local, ip("10.0.0.1:443"));
            assert_eq!(observed.header, None);
            assert_eq!(
                observed.input,
                input(header),
                "it is what the stranger sent"
            );
        }
    }
}

#[tokio::test]
async fn trust_goes_by_the_socket_and_not_by_what_a_header_said() {
    let info = ConnectionInfo::new(ip("192.0.2.66:5000"), Address::Unknown);
    info.set_effective(ip("10.1.2.3:5000"), Address::Unknown);
    let io = Builder::new().build();
    let error = serve(layer(), Connection::new(io, info)).await.unwrap_err();
    assert!(find::<Refused>(&*error).is_some());
}

#[tokio::test]
async fn only_the_first_header_is_taken_off() {
    let two = [V1, b"PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n"].concat();
    let io = Builder::new().read(&two).build();
    let observed = serve(layer(), from_proxy(io)).await.unwrap();
    assert_eq!(observed.peer, ip(CLIENT));
    assert_eq!(observed.input, two[V1.len()..]);
}

#[tokio::test]
async fn unix_sockets_are_trusted_only_where_that_is_said() {
    let peer = || Address::Unix(UnixAddress::default());
    let io = Builder::new().build();
    let error = serve(layer(), from(peer(), io)).await.unwrap_err();
    assert!(find::<Refused>(&*error).is_some());
    let unix = ProxyProtocolLayer::new(TrustedSources::none().with_unix_sockets());
    let io = Builder::new().read(&input(V1)).build();
    let observed = serve(unix, from(peer(), io)).await.unwrap();
    assert_eq!(
        (observed.peer, &observed.input[..]),
        (ip(CLIENT), &b"hello"[..])
    );
}

#[tokio::test]
async fn a_required_header_is_required() {
    let io = Builder::new().read(b"GET / HTTP/1.1\r\n\r\n").build();
    let error = serve(layer(), from_proxy(io)).await.unwrap_err();
    assert!(header_error(&error).is_absent());
}

#[tokio::test]
async fn an_optional_header_that_is_wrong_is_no_missing_one() {
    let io = Builder::new().read(b"PROXY TCP4 oops\r\n").build();
    let error = serve(layer().with_optional_header(), from_proxy(io)).await;
    assert!(header_error(&error.unwrap_err()).is_invalid());
}

#[tokio::test]
async fn a_source_with_optional_header_may_end_at_once() {
    for input in [&b""[..], b"P", b"\r\n\r\n"] {
        let mut io = Builder::new();
        if !input.is_empty() {
            io.read(input);
        }
        let layer = layer().with_optional_header();
        let observed = serve(layer, from_proxy(io.build())).await.unwrap();
        assert_eq!(observed.input, input);
    }
}

#[tokio::test]
async fn what_else_a_header_tells_is_in_the_extensions() {
    let header = v2_tcp4(&tlv(0x02, b"example.com"));
    let io = Builder::new().read(&header).build();
    let observed = serve(layer(), from_proxy(io)).await.unwrap();
    assert_eq!(observed.header.unwrap().authority(), Some("example.com"));
}

#[tokio::test]
async fn the_inner_service_becomes_ready_after_the_header_and_not_before() {
    let (mut service, mut handle) = mock::spawn_layer::<Connection<_>, (), _>(layer());
    handle.allow(0);
    tokio_test::assert_ready_ok!(service.poll_ready());
    let io = Builder::new().read(V1).build();
    let connection = from_proxy(io);
    let info = connection.info().clone();
    let call = service.call(connection);
    let serve = async {
        while info.phase() != Phase::Waiting {
            tokio::task::yield_now().await;
        }
        // The mock panics when it is called without being ready.
        handle.allow(1);
        let (connection, response) = handle.next_request().await.unwrap();
        let connection: Connection<PrefixedIo<_>> = connection;
        assert_eq!(connection.info().peer(), &ip(CLIENT));
        response.send_response(());
    };
    let (end, ()) = tokio::join!(call, serve);
    end.unwrap();
}
