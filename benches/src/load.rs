//! The client, and the loads that it puts on a server.

use super::{Protocol, Variant, tls::TlsClient};
use harness::{
    exchange::Exchange,
    sequence::{Connect, Gate, Sequence},
};
use portcullis::{BoxError, io::EitherIo};
use std::{io, net::SocketAddr};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// What a server has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Connect, one echo, close: one connection after the other.
    Connection,
    /// Echoes on one connection.
    Echo,
    /// Echoes on sixteen connections: all write, then all read.
    EchoOf16,
    /// As `Connection`, with a TLS session that is resumed.
    Resumed,
}

impl Workload {
    pub(crate) const ALL: [Self; 4] = [Self::Connection, Self::Echo, Self::EchoOf16, Self::Resumed];

    /// Those that are measured for `protocol`.
    pub(crate) const fn of(protocol: Protocol) -> [Self; 3] {
        match protocol {
            Protocol::Echo | Protocol::Http => [Self::Connection, Self::Echo, Self::EchoOf16],
            Protocol::Tls => [Self::Connection, Self::Resumed, Self::Echo],
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Echo => "echo",
            Self::EchoOf16 => "echo-16",
            Self::Resumed => "resumed",
        }
    }

    /// Connections that stay open.
    const fn connections(self) -> usize {
        match self {
            Self::Connection | Self::Resumed => 0,
            Self::Echo => 1,
            Self::EchoOf16 => 16,
        }
    }

    /// Runs `count` units of it.
    pub(crate) async fn run(
        self,
        client: &Client,
        count: usize,
        gate: Option<Gate>,
    ) -> Result<(), BoxError> {
        let mut sequence = Sequence::open(client, self.connections()).await?;
        sequence.run(count, gate).await?;
        sequence.close().await;
        Ok(())
    }
}

/// A client of one server.
pub(crate) struct Client {
    address: SocketAddr,
    exchange: Exchange,
    tls: Option<TlsClient>,
}

impl Client {
    /// For connections of `workload`.
    pub(crate) fn new(
        address: SocketAddr,
        variant: Variant,
        workload: Workload,
    ) -> Result<Self, BoxError> {
        let (exchange, tls) = match (variant.protocol(), workload) {
            (Protocol::Echo, _) => (Exchange::echo(64), None),
            (Protocol::Http, _) => (Exchange::Hello, None),
            (Protocol::Tls, Workload::Echo | Workload::EchoOf16) => {
                (Exchange::echo(RECORD), Some(TlsClient::new(false)?))
            }
            (Protocol::Tls, Workload::Connection) => {
                (Exchange::echo(64), Some(TlsClient::new(false)?))
            }
            (Protocol::Tls, Workload::Resumed) => (Exchange::echo(64), Some(TlsClient::new(true)?)),
        };
        Ok(Self {
            address,
            exchange,
            tls,
        })
    }
}

impl Connect for Client {
    type Stream = EitherIo<TcpStream, Box<TlsStream<TcpStream>>>;

    async fn connect(&self) -> io::Result<Self::Stream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => EitherIo::Left(stream),
            Some(tls) => EitherIo::Right(Box::new(tls.connect(stream).await?)),
        })
    }

    fn exchange(&self) -> &Exchange {
        &self.exchange
    }
}

/// The most bytes of a TLS record.
pub(crate) const RECORD: usize = 16 << 10;
