//! The schedule in paused time, and real connections over loopback.

mod layered;
mod loopback;
mod schedule;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod tls;
use super::*;
use std::{io, net::SocketAddr};

const V4: [&str; 3] = ["192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80"];
const V6: [&str; 3] = ["[2001:db8::1]:80", "[2001:db8::2]:80", "[2001:db8::3]:80"];

fn addresses<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<SocketAddr> {
    texts
        .into_iter()
        .map(|text| text.parse().unwrap())
        .collect()
}

/// Resolves every name to `addresses`.
fn resolving_to(addresses: Vec<SocketAddr>) -> Connector {
    Connector::new().with_resolver(move |_, _| std::future::ready(Ok(addresses.clone())))
}

fn named() -> Target {
    Target::try_from("host.invalid:80").unwrap()
}

async fn listener() -> (tokio::net::TcpListener, SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A port of 127.0.0.1 that refuses connections while the socket exists, because it is bound but not
/// listening.
fn refusing() -> (socket2::Socket, SocketAddr) {
    let (domain, kind) = (socket2::Domain::IPV4, socket2::Type::STREAM);
    let socket = socket2::Socket::new(domain, kind, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

fn kinds(error: &ConnectError) -> Vec<io::ErrorKind> {
    error
        .attempts()
        .iter()
        .map(|attempt| attempt.error().kind())
        .collect()
}
