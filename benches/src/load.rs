//! The client, and the loads that it puts on a server.

use super::{Protocol, Variant, tls::TlsClient};
use harness::{
    bulk,
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
    /// A MiB from the backend to the client, through a forwarder.
    ToClient,
    /// A MiB from the client to the backend.
    ToBackend,
}

impl Workload {
    pub(crate) const ALL: [Self; 6] = [
        Self::Connection,
        Self::Echo,
        Self::EchoOf16,
        Self::Resumed,
        Self::ToClient,
        Self::ToBackend,
    ];

    /// What servers of a protocol are measured with.
    ///
    /// Forwarders are not measured with sixteen connections, because the number of answers of the backend that they
    /// find at each wait varies.
    pub(crate) const fn of(protocol: Protocol) -> &'static [Self] {
        match protocol {
            Protocol::Echo | Protocol::Http => &[Self::Connection, Self::Echo, Self::EchoOf16],
            Protocol::Tls => &[Self::Connection, Self::Resumed, Self::Echo],
            Protocol::Program => &[Self::Connection, Self::Echo],
            Protocol::Forward => &[
                Self::Connection,
                Self::Echo,
                Self::ToClient,
                Self::ToBackend,
            ],
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Echo => "echo",
            Self::EchoOf16 => "echo-16",
            Self::ToClient => "to-client",
            Self::ToBackend => "to-backend",
            Self::Resumed => "resumed",
        }
    }

    /// Connections that stay open.
    const fn connections(self) -> usize {
        match self {
            Self::Connection | Self::Resumed | Self::ToClient | Self::ToBackend => 0,
            Self::Echo => 1,
            Self::EchoOf16 => 16,
        }
    }

    /// Whether it moves a MiB in each unit. Of those, only system calls are counted.
    pub(crate) const fn is_bulk(self) -> bool {
        matches!(self, Self::ToClient | Self::ToBackend)
    }

    /// Runs `count` units of it.
    pub(crate) async fn run(
        self,
        client: &Client,
        count: usize,
        gate: Option<Gate>,
    ) -> Result<(), BoxError> {
        let mib = (count as u64) << 20;
        match self {
            Self::ToClient => return Ok(bulk::download(client.connect().await?, mib).await?),
            Self::ToBackend => return Ok(bulk::upload(client.connect().await?, mib).await?),
            Self::Connection | Self::Echo | Self::EchoOf16 | Self::Resumed => {}
        }
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
            (Protocol::Echo | Protocol::Forward | Protocol::Program, _) => {
                (Exchange::echo(64), None)
            }
            (Protocol::Http, _) => (Exchange::Hello, None),
            (Protocol::Tls, Workload::Echo | Workload::EchoOf16) => {
                (Exchange::echo(RECORD), Some(TlsClient::new(false)?))
            }
            (Protocol::Tls, Workload::Connection) => {
                (Exchange::echo(64), Some(TlsClient::new(false)?))
            }
            (Protocol::Tls, Workload::Resumed) => (Exchange::echo(64), Some(TlsClient::new(true)?)),
            (Protocol::Tls, Workload::ToClient | Workload::ToBackend) => {
                return Err("bulk data is measured for forwarders only".into());
            }
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
