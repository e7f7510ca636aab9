//! TLS to servers.

use portcullis_middleware::{BoxError, tls::TlsConnector};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// TLS to a [`Server`](super::Server).
///
/// The [`TlsConnector`] has the roots, the client certificate, the application protocols and the session cache, which
/// servers with clones of it share.
#[derive(Clone, Debug)]
pub struct ServerTls {
    connector: TlsConnector,
    name: Option<String>,
    prelude: Option<ServerPrelude>,
}

impl ServerTls {
    /// The server's certificate must be valid for the host of its address.
    pub const fn new(connector: TlsConnector) -> Self {
        Self {
            connector,
            name: None,
            prelude: None,
        }
    }

    /// Sets the name that the server's certificate must be valid for, which is also sent to the server (SNI).
    ///
    /// A server on a Unix domain socket needs a name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Requests TLS in the plain text of a protocol first; off by default.
    #[must_use]
    pub fn with_prelude(mut self, prelude: impl Into<Option<ServerPrelude>>) -> Self {
        self.prelude = prelude.into();
        self
    }

    pub(super) const fn connector(&self) -> &TlsConnector {
        &self.connector
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) const fn prelude(&self) -> Option<ServerPrelude> {
        self.prelude
    }
}

impl From<TlsConnector> for ServerTls {
    fn from(connector: TlsConnector) -> Self {
        Self::new(connector)
    }
}

/// The plain text in which a client requests TLS from a server; the counterpart of the layer
/// [`prelude`](portcullis_middleware::prelude).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerPrelude {
    /// The `SSLRequest` of PostgreSQL.
    Postgres,
}

impl ServerPrelude {
    /// Requests TLS. It reads exactly the reply, so that TLS begins behind it.
    pub(super) async fn request<IO>(self, mut io: IO) -> Result<(), BoxError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let Self::Postgres = self;
        io.write_all(&SSL_REQUEST).await?;
        match io.read_u8().await? {
            b'S' => Ok(()),
            b'N' => Err("the server does not support TLS".into()),
            // It sends an error message instead, for example while it shuts down.
            _ => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        }
    }
}

/// Length and code ("Message Formats" in PostgreSQL's documentation).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
