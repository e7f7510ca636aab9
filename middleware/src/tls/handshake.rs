//! One handshake: its place, its turn, its time, and what was agreed on.

use super::{
    TlsIo, TlsLayer,
    client_side::Client,
    rustls::{HandshakeKind, ServerConnection},
    unfinished::Place,
    wire::Wire,
};
#[cfg(feature = "tonic")]
use crate::connection::TonicTls;
use crate::{
    BoxError, Connection, ConnectionInfo,
    connection::{Linger, Phase, TlsInfo},
    drain::within_grace_period,
    error::{Elapsed, HandshakeError, TimeoutPhase},
};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Agrees on TLS. Dropping the future drops the IO, then gives back its place and releases the guards.
pub(super) async fn handshake<IO>(
    layer: TlsLayer,
    connection: Connection<IO>,
) -> Result<Connection<TlsIo<IO>>, BoxError>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (io, rest) = connection.into_parts();
    rest.info.set_phase(Phase::Handshake);
    let Some(mut place) = layer.unfinished.enter() else {
        rest.with_io(io).abort();
        return Err(TlsLayer::too_many_handshakes().into());
    };
    let bound = layer.timeout.unwrap_or(Duration::MAX);
    let agreeing = within_grace_period(&rest.info, agree(&layer, &rest.info, &mut place, io));
    let agreed = timeout(bound, agreeing).await.unwrap_or(Err(bound));
    let agreed = agreed.map_err(|after| Elapsed::new(TimeoutPhase::HANDSHAKE, after))?;
    let (failure, io) = match agreed {
        Ok(io) => {
            rest.info.set_tls(tls_info(io.stream()));
            rest.info.set_phase(Phase::Serving);
            return Ok(rest.with_io(io));
        }
        Err(failed) => failed,
    };
    match failure {
        Failure::Io(error) => {
            // The alert is written; a drop with input unread would take it back by a reset.
            let linger = Linger::new().with_timeout(ALERT_TIME);
            let close = rest.with_io(io).close_within(linger);
            // In a box: its buffer must not make every handshake larger. It keeps the place, since it holds a
            // file descriptor, and makes room as others do.
            let close = Box::pin(async { close.await.map_err(Failure::from) });
            let _ = place.listen(close).await;
            Err(HandshakeError::new(error).into())
        }
        Failure::Displaced => {
            rest.with_io(io).abort();
            Err(TlsLayer::too_many_handshakes().into())
        }
    }
}

/// Why there was no agreement.
#[derive(Debug)]
pub(super) enum Failure {
    Io(io::Error),
    /// Another connection got the place.
    Displaced,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The part that has a bound in time and a place.
///
/// A silent client has no TLS state; that comes, in a box, with the whole ClientHello.
async fn agree<IO>(
    layer: &TlsLayer,
    info: &ConnectionInfo,
    place: &mut Place<'_>,
    io: IO,
) -> Result<TlsIo<IO>, (Failure, IO)>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut client = Client::new(io);
    match place.listen(client.hello()).await {
        Ok(is_hello) => Box::pin(exchange(layer, info, place, client, is_hello)).await,
        Err(failure) => Err((failure, client.into_io())),
    }
}

/// Goes through the flights of the handshake, from the ClientHello on.
async fn exchange<IO>(
    layer: &TlsLayer,
    info: &ConnectionInfo,
    place: &mut Place<'_>,
    mut client: Client<IO>,
    is_hello: bool,
) -> Result<TlsIo<IO>, (Failure, IO)>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let session = match drive(layer, place, &mut client, is_hello).await {
        Ok(session) => session,
        Err(failure) => return Err((failure, client.into_io())),
    };
    // tokio-rustls makes no stream of a session that somebody else drove, but it lends the one that it makes.
    let stream = TlsAcceptor::from(layer.config.clone())
        .accept_with(Wire(client.into_io()), |new| *new = session)
        .into_fallible();
    let io = stream.await.map(|stream| TlsIo::new(stream, info.clone()));
    io.map_err(|(error, wire)| (error.into(), wire.0))
}

/// Each flight of the client is processed in a slot, which is free again before the answer is sent.
async fn drive<IO>(
    layer: &TlsLayer,
    place: &mut Place<'_>,
    client: &mut Client<IO>,
    is_hello: bool,
) -> Result<ServerConnection, Failure>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let session = ServerConnection::new(layer.config.clone());
    let mut session = session.map_err(io::Error::other)?;
    // A client that ends its side before it has our flight cannot answer it.
    let mut must_stay = is_hello;
    loop {
        let slot = client.turn(&layer.slots, must_stay).await?;
        let processed = client.process(&mut session);
        drop(slot);
        if let Err(error) = processed {
            client.send_alert(&mut session).await;
            return Err(error.into());
        }
        place.listen(client.send(&mut session)).await?;
        if !session.is_handshaking() {
            return Ok(session);
        }
        client.still_there()?;
        place.listen(client.receive()).await?;
        must_stay = false;
    }
}

fn tls_info<IO>(stream: &TlsStream<Wire<IO>>) -> TlsInfo {
    let session = stream.get_ref().1;
    let mut info = TlsInfo::new();
    info.version = session.protocol_version().and_then(|v| v.as_str());
    info.cipher_suite = session
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str());
    info.alpn = session.alpn_protocol().map(<[u8]>::to_vec);
    info.server_name = session.server_name().map(TlsInfo::host_name);
    let certificates = session.peer_certificates().unwrap_or_default();
    info.peer_certificates = certificates.iter().map(|c| c.to_vec()).collect();
    info.resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    #[cfg(feature = "tonic")]
    {
        info.tonic = Some(TonicTls::of(stream));
    }
    info
}

/// How long the close after a failed handshake may take.
const ALERT_TIME: Duration = Duration::from_secs(1);
