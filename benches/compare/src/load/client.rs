//! How clients connect.

use crate::{entry::Job, tls};
use harness::{BoxError, exchange::Exchange, sequence::Connect};
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
pub(crate) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

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
                true => Exchange::Hello,
                false => Exchange::echo(size),
            },
        })
    }

    /// The same client with a separate cache of TLS sessions.
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

    /// The connection of this number. One address of a client has ports for so many connections.
    pub(crate) async fn connect_numbered(&self, number: usize) -> io::Result<Stream> {
        let group = u8::try_from(number / PORTS).map_err(io::Error::other)?;
        if group == 0 {
            return self.connect().await;
        }
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 0, 1, group), 0).into())?;
        self.handshake(socket.connect(self.address).await?).await
    }

    async fn handshake(&self, stream: TcpStream) -> io::Result<Stream> {
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

impl Connect for Client {
    type Stream = Stream;

    async fn connect(&self) -> io::Result<Stream> {
        self.handshake(TcpStream::connect(self.address).await?)
            .await
    }

    fn exchange(&self) -> &Exchange {
        &self.exchange
    }
}

/// Whether the server resumed the client's session.
pub(crate) fn is_resumed(stream: &Stream) -> bool {
    match stream {
        Either::Left(_) => false,
        Either::Right(tls) => tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed),
    }
}

/// Fewer than Linux has ports for clients by default, 28,232.
const PORTS: usize = 20_000;
