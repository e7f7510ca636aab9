//! Makes one connection to a server: the socket, the PROXY header, TLS.

#[cfg(unix)]
use super::jitter::around;
use super::{BackendIo, Server, ServerAddress};
use crate::connect::Connector;
#[cfg(feature = "tls")]
use portcullis_middleware::io::PrefixedIo;
use portcullis_middleware::{
    BoxError, Connection, ConnectionInfo,
    connection::{AnyStream, Socket},
    internal::LateOptions,
};
use std::io;
#[cfg(unix)]
use std::{path::Path, time::Duration};
#[cfg(feature = "proxy-protocol")]
use tokio::io::AsyncWriteExt;
#[cfg(unix)]
use tokio::{net::UnixStream, time::sleep};

/// Makes connections, each without a timeout.
#[derive(Clone)]
pub(super) struct Dialer {
    connector: Connector,
    /// Those of the connector, which a forwarder postpones.
    late_options: LateOptions,
    #[cfg(test)]
    script: Option<Script>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose<'a> {
    /// It is for this client.
    Client(
        #[cfg_attr(
            not(feature = "proxy-protocol"),
            expect(dead_code, reason = "only PROXY headers name the client")
        )]
        &'a ConnectionInfo,
    ),
    /// It is for a health check.
    Check,
}

impl Dialer {
    pub(super) fn new(connector: Connector) -> Self {
        Self {
            late_options: connector.late_options(),
            connector,
            #[cfg(test)]
            script: None,
        }
    }

    #[cfg(test)]
    pub(super) fn with_script(self, script: Option<Script>) -> Self {
        Self { script, ..self }
    }

    pub(super) const fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Connects to `server`.
    pub(super) async fn dial(
        &self,
        server: &Server,
        purpose: Purpose<'_>,
    ) -> Result<Connection<BackendIo>, BoxError> {
        let connection = self.open(server).await?;
        let connection = send_header(server, purpose, connection).await?;
        encrypt(server, connection).await
    }

    /// Opens a socket.
    async fn open(&self, server: &Server) -> io::Result<Connection<Socket<AnyStream>>> {
        #[cfg(test)]
        if let Some(Script(script)) = &self.script {
            let stream = script(server.address()).await?;
            let info = ConnectionInfo::of(&stream);
            return Ok(Connection::with_info(stream, info));
        }
        match server.address() {
            ServerAddress::Tcp(target) => match target.address() {
                Some(address) => {
                    let late = &self.late_options;
                    let opening = self.connector.open_with(address, late, server.buffers());
                    opening.await
                }
                // Names are resolved before.
                None => Err(io::ErrorKind::InvalidInput.into()),
            },
            #[cfg(feature = "dns")]
            ServerAddress::Srv(_) => Err(io::ErrorKind::InvalidInput.into()),
            #[cfg(unix)]
            ServerAddress::Unix(path) => {
                let stream = AnyStream::from(connect_unix(path).await?);
                let info = ConnectionInfo::of(&stream);
                Ok(Connection::with_info(stream, info))
            }
        }
    }
}

/// Connects to a Unix domain socket.
///
/// While its backlog is full, Linux fails a connect that does not block instead of continuing it later, as with TCP.
#[cfg(unix)]
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let mut pause = BACKLOG_PAUSE;
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sleep(around(pause)).await;
                pause = LONGEST_BACKLOG_PAUSE.min(2 * pause);
            }
            result => return result,
        }
    }
}

/// Sends the PROXY header, if the server expects one.
#[cfg(feature = "proxy-protocol")]
async fn send_header(
    server: &Server,
    purpose: Purpose<'_>,
    mut connection: Plain,
) -> io::Result<Plain> {
    if let Some(encoder) = server.proxy_header() {
        let header = match purpose {
            Purpose::Client(client) => encoder.encode(client),
            Purpose::Check => encoder.encode_local(),
        };
        connection.write_all(&header).await?;
    }
    Ok(connection)
}

#[cfg(not(feature = "proxy-protocol"))]
async fn send_header(_: &Server, _: Purpose<'_>, connection: Plain) -> io::Result<Plain> {
    Ok(connection)
}

/// Performs the TLS handshake, if the server expects one.
#[cfg(feature = "tls")]
async fn encrypt(
    server: &Server,
    mut connection: Plain,
) -> Result<Connection<BackendIo>, BoxError> {
    let Some(tls) = server.tls() else {
        return Ok(connection.map_io(BackendIo::Plain));
    };
    let host = server.host().unwrap_or_default();
    let name = tls.name().unwrap_or(&host);
    let greeting = match tls.prelude() {
        Some(prelude) => prelude.request(name, &mut connection).await?,
        None => Vec::new(),
    };
    let connection = tls.connector().connect(name, connection).await?;
    Ok(connection.map_io(|io| BackendIo::Tls(Box::new(PrefixedIo::with_prefix(io, greeting)))))
}

#[cfg(not(feature = "tls"))]
async fn encrypt(_: &Server, connection: Plain) -> Result<Connection<BackendIo>, BoxError> {
    Ok(connection.map_io(BackendIo::Plain))
}

type Plain = Connection<Socket<AnyStream>>;

/// Before a connect to a full backlog is repeated.
#[cfg(unix)]
const BACKLOG_PAUSE: Duration = Duration::from_millis(10);

/// The pause doubles up to this, because many connects may wait for a server that accepts none.
#[cfg(unix)]
const LONGEST_BACKLOG_PAUSE: Duration = Duration::from_millis(160);

/// How scripted servers answer.
#[cfg(test)]
#[derive(Clone)]
pub(super) struct Script(
    pub(super) std::sync::Arc<dyn Fn(&ServerAddress) -> Opening + Send + Sync>,
);

#[cfg(test)]
pub(super) type Opening = std::pin::Pin<Box<dyn Future<Output = io::Result<AnyStream>> + Send>>;

#[cfg(test)]
impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}
