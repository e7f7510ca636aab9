//! The client, and the loads that it puts on a server.

use super::{Protocol, Variant};
use harness::{
    exchange::Exchange,
    sequence::{Connect, Gate, Sequence},
};
use portcullis::BoxError;
use std::{io, net::SocketAddr};
use tokio::net::TcpStream;

/// What a server has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Connect, one echo, close: one connection after the other.
    Connection,
    /// Echoes on one connection.
    Echo,
    /// Echoes on sixteen connections: all write, then all read.
    EchoOf16,
}

impl Workload {
    pub(crate) const ALL: [Self; 3] = [Self::Connection, Self::Echo, Self::EchoOf16];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Echo => "echo",
            Self::EchoOf16 => "echo-16",
        }
    }

    /// Connections that stay open.
    const fn connections(self) -> usize {
        match self {
            Self::Connection => 0,
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
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    exchange: Exchange,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, variant: Variant) -> Self {
        let exchange = match variant.protocol() {
            Protocol::Echo => Exchange::echo(64),
            Protocol::Http => Exchange::Hello,
        };
        Self { address, exchange }
    }
}

impl Connect for Client {
    type Stream = TcpStream;

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn exchange(&self) -> &Exchange {
        &self.exchange
    }
}
