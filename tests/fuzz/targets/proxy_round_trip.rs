//! A header that we send is received with the same contents, and any other input without a panic.
//!
//! The first byte of the input chooses what is done with the rest.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_middleware::{
    Connection, ConnectionInfo,
    connection::{Address, CertificateFacts, TlsInfo, UnixAddress},
    io::PrefixedIo,
    proxy_protocol::{ProxyHeader, ProxyHeaderEncoder, ProxyProtocolLayer},
};
use std::{
    convert::Infallible,
    future::Future,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    task::{Context, Poll, Waker},
    time::SystemTime,
};
use tokio::io::AsyncReadExt;
use tower::{Layer, ServiceExt, service_fn};

struct Received {
    peer: Address,
    local: Address,
    header: Option<ProxyHeader>,
    rest: Vec<u8>,
}

/// What a service behind the layer receives; `None` if the header is rejected.
fn receive(bytes: Vec<u8>) -> Option<Received> {
    let proxy: SocketAddr = "10.0.0.1:1".parse().unwrap();
    let connection = Connection::new(
        std::io::Cursor::new(bytes),
        ConnectionInfo::new(proxy, proxy),
    );
    let read = |mut connection: Connection<PrefixedIo<_>>| async move {
        let mut rest = Vec::new();
        connection.read_to_end(&mut rest).await.unwrap();
        Ok::<_, Infallible>(Received {
            peer: connection.info().peer().clone(),
            local: connection.info().local().clone(),
            header: connection.extensions().get().cloned(),
            rest,
        })
    };
    let layer = ProxyProtocolLayer::new("10.0.0.1".parse().unwrap()).with_timeout(None);
    let mut served = pin!(layer.layer(service_fn(read)).oneshot(connection));
    match served
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(received) => received.ok(),
        Poll::Pending => panic!("the input is complete"),
    }
}

fn address(bytes: &[u8], kind: u8) -> Address {
    let mut padded = [0; 18];
    let length = bytes.len().min(18);
    padded[..length].copy_from_slice(&bytes[..length]);
    let [ip @ .., high, low] = padded;
    let port = u16::from_be_bytes([high, low]);
    match kind % 5 {
        0 => Address::Unknown,
        1 => Address::Unix(UnixAddress::default()),
        2 => Address::Unix(UnixAddress::new(String::from_utf8_lossy(bytes).as_ref())),
        3 => SocketAddr::from((Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]), port)).into(),
        _ => SocketAddr::from((Ipv6Addr::from(ip), port)).into(),
    }
}

/// As the encoder describes it.
fn canonical(peer: &Address, local: &Address) -> Option<(Address, Address)> {
    let (Some(peer), Some(local)) = (peer.ip(), local.ip()) else {
        return None;
    };
    let canonical =
        |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (peer, local) = (canonical(peer), canonical(local));
    (peer.is_ipv4() == local.is_ipv4()).then(|| (peer.into(), local.into()))
}

fuzz_target!(|input: &[u8]| {
    let Some((&[choice, kinds, length], rest)) = input.split_first_chunk() else {
        return;
    };
    if choice == 0 {
        receive(rest.to_vec());
        return;
    }
    let (first, rest) = rest.split_at(rest.len().min(length.into()));
    let (second, rest) = rest.split_at(rest.len().min(length.into()));
    let (peer, local) = (address(first, kinds & 15), address(second, kinds >> 4));
    let info = ConnectionInfo::new(peer.clone(), local.clone());
    let connection = Connection::new((), info.clone());
    let mut tls = TlsInfo::new();
    tls.alpn = Some(first.to_vec());
    tls.server_name = Some(String::from_utf8_lossy(second).into_owned());
    tls.peer_certificates = vec![rest.to_vec()];
    let mut facts = CertificateFacts::new(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH);
    facts.subject = Some(String::from_utf8_lossy(rest).into_owned());
    tls.peer_certificate = Some(Box::new(facts));
    connection.set_tls(tls.clone());
    let bit = |bit: u8| choice & 1 << bit != 0;
    let encoder = match bit(0) {
        true => ProxyHeaderEncoder::v2(),
        false => ProxyHeaderEncoder::v1(),
    };
    let encoder = encoder
        .with_authority(bit(1))
        .with_alpn(bit(2))
        .with_ssl(bit(3));
    let encoder = encoder.with_unique_id(bit(4)).with_crc32c(bit(5));
    let mut bytes = encoder.encode(&info);
    bytes.extend(rest);
    let received = receive(bytes).expect("our own header is valid");
    assert_eq!(received.rest, rest);
    let header = received.header.expect("it is recorded");
    if let Some(expected) = canonical(&peer, &local) {
        assert_eq!((received.peer, received.local), expected);
    }
    if header.version() == 2 {
        // Longer values are left out.
        let fits = |value: &[u8]| value.len() <= 512;
        let name = tls
            .server_name
            .as_deref()
            .filter(|name| bit(1) && fits(name.as_bytes()));
        assert_eq!(header.authority(), name);
        let alpn = tls.alpn.as_deref().filter(|alpn| bit(2) && fits(alpn));
        assert_eq!(header.alpn(), alpn);
        assert_eq!(header.ssl().is_some(), bit(3));
        assert_eq!(header.unique_id().is_some(), bit(4));
    }
});
