//! Headers, connections and a service that the tests share.

mod bounds;
mod loopback;
mod splits;
mod trust;
mod vectors;
mod warnings;

use super::{ProxyHeader, ProxyHeaderError, ProxyProtocolLayer, TrustedSources};
use crate::io::PrefixedIo;
use crate::{
    BoxError, Connection, ConnectionInfo,
    connection::{Address, UnixAddress},
    error::find,
};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};
use tower::{Layer, ServiceExt};

/// What a service observes of a connection.
#[derive(Debug)]
struct Seen {
    peer: Address,
    local: Address,
    header: Option<ProxyHeader>,
    input: Vec<u8>,
}

/// Trusts 10.0.0.0/8.
fn layer() -> ProxyProtocolLayer {
    ProxyProtocolLayer::new("10.0.0.0/8".parse().unwrap())
}

fn from<IO>(peer: impl Into<Address>, io: IO) -> Connection<IO> {
    Connection::new(io, ConnectionInfo::new(peer, ip("10.0.0.1:443")))
}

/// From a source that [`layer`] trusts.
fn from_proxy<IO>(io: IO) -> Connection<IO> {
    from(ip("10.1.2.3:5000"), io)
}

/// From a source that [`layer`] does not trust.
fn from_stranger<IO>(io: IO) -> Connection<IO> {
    from(ip("192.0.2.66:5000"), io)
}

fn ip(address: &str) -> Address {
    Address::Ip(address.parse().unwrap())
}

fn unix(path: &str) -> Address {
    Address::Unix(UnixAddress::new(path))
}

/// Reads `connection` to its end inside of `layer`.
async fn serve<IO>(layer: ProxyProtocolLayer, connection: Connection<IO>) -> Result<Seen, BoxError>
where
    IO: AsyncRead + Unpin + Send + 'static,
{
    layer
        .layer(tower::service_fn(see))
        .oneshot(connection)
        .await
}

async fn see<IO: AsyncRead + Unpin>(
    mut connection: Connection<PrefixedIo<IO>>,
) -> Result<Seen, io::Error> {
    let mut input = Vec::new();
    connection.read_to_end(&mut input).await?;
    Ok(Seen {
        peer: connection.info().peer().clone(),
        local: connection.info().local().clone(),
        header: connection.extensions().get().cloned(),
        input,
    })
}

#[track_caller]
fn header_error(error: &BoxError) -> &ProxyHeaderError {
    find(&**error).unwrap_or_else(|| panic!("another error: {error}"))
}

/// A header of version 2, built by hand.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    let fixed = [0x20 | command, family, length[0], length[1]];
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &fixed, block].concat()
}

/// The header of a TCP connection from 198.51.100.7:40000 to 192.0.2.1:443, and `tlvs`.
fn v2_tcp4(tlvs: &[u8]) -> Vec<u8> {
    let addresses = [198, 51, 100, 7, 192, 0, 2, 1, 0x9C, 0x40, 0x01, 0xBB];
    v2(PROXY, TCP4, &[&addresses, tlvs].concat())
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind, length[0], length[1]], value].concat()
}

const LOCAL: u8 = 0;
const PROXY: u8 = 1;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX: u8 = 0x31;
/// From 198.51.100.7:40000 to 192.0.2.1:443, too.
const V1: &[u8] = b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 443\r\n";
const CLIENT: &str = "198.51.100.7:40000";
const SERVER: &str = "192.0.2.1:443";
