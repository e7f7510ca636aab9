//! The handshake of one connection, with its timeout and limits.

use super::{
    TlsIo, TlsLayer,
    client_side::Client,
    common::{self, linger_for_alert},
    metrics::HandshakeResult,
    negotiation::{Negotiation, Session, UnbufferedHandshake},
    rustls::{self, ServerConfig, crypto::CryptoProvider},
    unbuffered::Unbuffered,
    unfinished::HandshakePlace,
    wire::Wire,
};
#[cfg(feature = "tonic")]
use crate::connection::TonicTls;
use crate::{
    BoxError, Connection, ConnectionInfo,
    connection::{EndedBy, ForcedClose, Phase, TlsInfo},
    drain::within_grace_period,
    error::{Elapsed, HandshakeError, TimeoutPhase, find},
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Performs the TLS handshake. Dropping the future drops the stream, frees the place and then releases the
/// guards.
pub(super) async fn handshake<IO>(
    layer: TlsLayer,
    connection: Connection<IO>,
) -> Result<Connection<TlsIo<IO>>, BoxError>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (io, rest) = connection.into_parts();
    rest.info.set_phase(Phase::Handshake);
    let mut timer = layer.metrics.begin();
    let Some(mut place) = layer.unfinished.enter() else {
        timer.fail(HandshakeResult::Refused);
        rest.with_io(io).abort();
        return Err(TlsLayer::too_many_handshakes().into());
    };
    let bound = layer.timeout.unwrap_or(Duration::MAX);
    let negotiating =
        within_grace_period(&rest.info, negotiate(&layer, &rest.info, &mut place, io));
    let negotiated = timeout(bound, negotiating).await.unwrap_or(Err(bound));
    let negotiated = negotiated.map_err(|after| {
        timer.fail(HandshakeResult::TimedOut);
        Elapsed::new(TimeoutPhase::HANDSHAKE, after)
    })?;
    let (failure, io) = match negotiated {
        Ok(negotiated) => {
            timer.complete(negotiated.is_resumed);
            rest.info.set_phase(Phase::Serving);
            return Ok(rest.with_io(negotiated.io));
        }
        Err(failed) => failed,
    };
    match failure {
        HandshakeFailure::Io(error) => {
            timer.fail(HandshakeResult::Failed);
            rest.info.set_ended_by(ended_by(&error));
            let close = rest.with_io(io).close_within(linger_for_alert());
            // Boxed, so that its buffer does not enlarge every handshake. The connection keeps its place
            // because it holds a file descriptor, and can be displaced like others.
            let close = Box::pin(async { close.await.map_err(HandshakeFailure::from) });
            let _ = place.wait_for_client(close).await;
            Err(HandshakeError::new(error).into())
        }
        HandshakeFailure::Displaced => {
            timer.fail(HandshakeResult::Refused);
            rest.with_io(io).abort();
            Err(TlsLayer::too_many_handshakes().into())
        }
    }
}

/// The side that has ended a handshake: the client if it left or sent an alert, else the server, which rejected it.
fn ended_by(error: &io::Error) -> EndedBy {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let is_alert = |error| matches!(error, &rustls::Error::AlertReceived(_));
    let has_left = match error.kind() {
        UnexpectedEof | ConnectionReset | BrokenPipe => true,
        // That of a forced close, too.
        ConnectionAborted => find::<ForcedClose>(error).is_none(),
        _ => find(error).is_some_and(is_alert),
    };
    match has_left {
        true => EndedBy::Client,
        false => EndedBy::Gate,
    }
}

/// A stream after its handshake.
struct Negotiated<IO> {
    io: TlsIo<IO>,
    /// Of this handshake. The connection's information is that of the outer one if there are two (TLS within TLS).
    is_resumed: bool,
}

/// Why a handshake failed.
#[derive(Debug)]
pub(super) enum HandshakeFailure {
    Io(io::Error),
    /// Another connection took the place.
    Displaced,
}

impl From<io::Error> for HandshakeFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The part that has a timeout and a place.
///
/// TLS state is allocated, in a box, once the whole ClientHello has arrived. A silent client takes none.
async fn negotiate<IO>(
    layer: &TlsLayer,
    info: &ConnectionInfo,
    place: &mut HandshakePlace<'_>,
    io: IO,
) -> Result<Negotiated<IO>, (HandshakeFailure, IO)>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut client = Client::new(io);
    match place.wait_for_client(client.hello()).await {
        Ok(is_hello) => Box::pin(exchange(layer, info, place, client, is_hello)).await,
        Err(failure) => Err((failure, client.into_io())),
    }
}

/// Exchanges the flights of the handshake, from the ClientHello on.
async fn exchange<IO>(
    layer: &TlsLayer,
    info: &ConnectionInfo,
    place: &mut HandshakePlace<'_>,
    mut client: Client<IO>,
    is_hello: bool,
) -> Result<Negotiated<IO>, (HandshakeFailure, IO)>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (config, session) = match drive(layer, place, &mut client, is_hello).await {
        Ok(session) => session,
        Err(failure) => return Err((failure, client.into_io())),
    };
    let session = match session {
        Session::Buffered(session) => session,
        Session::Unbuffered(UnbufferedHandshake {
            records,
            server_name,
        }) => {
            let server_name = server_name.as_deref().map(TlsInfo::host_name);
            let tls = common::tls_info(records.state(), server_name, config.crypto_provider());
            let is_resumed = record(info, tls);
            let stream = Unbuffered::new(client.into_io(), records);
            let io = TlsIo::unbuffered(stream, info.clone());
            return Ok(Negotiated { io, is_resumed });
        }
    };
    // tokio-rustls cannot wrap a session that was driven by other code, but it lends out the session that it
    // creates.
    let stream = TlsAcceptor::from(config.clone())
        .accept_with(Wire(client.into_io()), |new| *new = session)
        .into_fallible();
    match stream.await {
        Ok(stream) => {
            let is_resumed = record(info, tls_info(&stream, config.crypto_provider()));
            let io = TlsIo::new(stream, info.clone());
            Ok(Negotiated { io, is_resumed })
        }
        Err((error, wire)) => Err((error.into(), wire.0)),
    }
}

/// Processes each flight of the client in a slot. The slot is free again before the response is sent.
async fn drive<IO>(
    layer: &TlsLayer,
    place: &mut HandshakePlace<'_>,
    client: &mut Client<IO>,
    is_hello: bool,
) -> Result<(Arc<ServerConfig>, Session), HandshakeFailure>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut negotiation = Negotiation::new(&layer.source, layer.is_unbuffered)?;
    // A client that half-closes before it has received the server's flight cannot answer it.
    let mut must_stay = is_hello;
    loop {
        let slot = client.turn(&layer.slots, must_stay).await?;
        let not_tls = if is_hello { None } else { client.not_tls() };
        let processed = client.process(&mut negotiation);
        drop(slot);
        if let Err(error) = processed {
            client.send_alert(&mut negotiation).await;
            return Err(not_tls.unwrap_or(error).into());
        }
        let mut is_done = false;
        if let Negotiation::Session(_, session) = &mut negotiation {
            place.wait_for_client(client.send(session)).await?;
            is_done = !session.is_handshaking();
        }
        if is_done && let Negotiation::Session(config, session) = negotiation {
            return Ok((config, session));
        }
        client.check_connected()?;
        place.wait_for_client(client.receive()).await?;
        must_stay = false;
    }
}

/// Records what was negotiated; true if a session was resumed.
fn record(info: &ConnectionInfo, tls: TlsInfo) -> bool {
    let is_resumed = tls.resumed;
    let _within_tls = info.set_tls(tls);
    is_resumed
}

fn tls_info<IO>(stream: &TlsStream<Wire<IO>>, provider: &CryptoProvider) -> TlsInfo {
    let session = stream.get_ref().1;
    let server_name = session.server_name().map(TlsInfo::host_name);
    let info = common::tls_info(session, server_name, provider);
    #[cfg(feature = "tonic")]
    let info = TlsInfo {
        tonic: Some(TonicTls::of(stream)),
        ..info
    };
    info
}
