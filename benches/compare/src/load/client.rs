//! How clients connect.

use super::Exchange;
use crate::{BoxError, server::Job, tls};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, HandshakeKind, client::Resumption, pki_types::ServerName},
};
use tokio_util::either::Either;

/// A connection of a client.
pub(crate) type Wire = Either<TcpStream, TlsStream<TcpStream>>;

/// A client of one server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    exchange: Exchange,
}

impl Client {
    /// For echoes of this size, without TLS.
    #[cfg(test)]
    pub(crate) fn echo(address: SocketAddr, size: usize) -> Self {
        Self {
            address,
            tls: None,
            exchange: Exchange::echo(size),
        }
    }

    /// For a server with this job; `size` is that of an echo. TLS sessions are not resumed.
    pub(crate) fn new(
        address: SocketAddr,
        job: Job,
        size: usize,
        folder: &Path,
    ) -> Result<Self, BoxError> {
        Ok(Self {
            address,
            tls: job
                .is_tls()
                .then(|| tls::client_config(folder))
                .transpose()?,
            exchange: match job.is_http() {
                true => Exchange::hello(),
                false => Exchange::echo(size),
            },
        })
    }

    /// The same client with a cache of TLS sessions of its own.
    pub(crate) fn resuming(&self) -> Self {
        let mut client = self.clone();
        if let Some(config) = &mut client.tls {
            Arc::make_mut(config).resumption = Resumption::in_memory_sessions(8);
        }
        client
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) const fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    pub(crate) async fn connect(&self) -> io::Result<Wire> {
        self.agree(TcpStream::connect(self.address).await?).await
    }

    /// The connection of this number. One address of a client has ports for so many connections.
    pub(crate) async fn connect_numbered(&self, number: usize) -> io::Result<Wire> {
        let group = u8::try_from(number / PORTS).map_err(io::Error::other)?;
        if group == 0 {
            return self.connect().await;
        }
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 0, 1, group), 0).into())?;
        self.agree(socket.connect(self.address).await?).await
    }

    async fn agree(&self, stream: TcpStream) -> io::Result<Wire> {
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Either::Left(stream)),
            Some(config) => {
                let tls = TlsConnector::from(config.clone());
                let name = ServerName::try_from(tls::NAME).map_err(io::Error::other)?;
                Ok(Either::Right(tls.connect(name, stream).await?))
            }
        }
    }
}

/// Whether the server knew the client's session.
pub(crate) fn is_resumed(wire: &Wire) -> bool {
    match wire {
        Either::Left(_) => false,
        Either::Right(tls) => tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed),
    }
}

/// Fewer than Linux has ports for clients by default, 28,232.
const PORTS: usize = 20_000;
