//! One handshake: its turn, its time, and what was agreed on.

use super::{TlsIo, TlsLayer, rustls::HandshakeKind, wire::Wire};
#[cfg(feature = "tonic")]
use crate::connection::TonicTls;
use crate::{
    BoxError, Connection,
    connection::{Linger, Phase, TlsInfo},
    error::{Elapsed, HandshakeError, TimeoutPhase},
};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Agrees on TLS. Dropping the future drops the IO, then frees the slot and releases the guards.
pub(super) async fn handshake<IO>(
    layer: TlsLayer,
    connection: Connection<IO>,
) -> Result<Connection<TlsIo<IO>>, BoxError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (io, rest) = connection.into_parts();
    rest.info.set_phase(Phase::Handshake);
    let (error, io) = match agree(&layer, io).await? {
        Ok(stream) => {
            rest.info.set_tls(tls_info(&stream));
            rest.info.set_phase(Phase::Serving);
            let io = TlsIo::new(stream, rest.info.clone());
            return Ok(rest.with_io(io));
        }
        Err(failed) => failed,
    };
    // The alert is written; a drop with input unread would take it back by a reset.
    let close = rest
        .with_io(io)
        .close_within(Linger::new().with_time(ALERT_TIME));
    // In a box: its buffer must not make every handshake larger.
    let _ = Box::pin(close).await;
    Err(HandshakeError::new(error).into())
}

/// The part that has a bound and needs a slot.
async fn agree<IO>(
    layer: &TlsLayer,
    io: IO,
) -> Result<Result<TlsStream<Wire<IO>>, (io::Error, IO)>, Elapsed>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let bound = layer.timeout.unwrap_or(Duration::MAX);
    let agreed = timeout(bound, async {
        let _slot = layer.slots.enter().await;
        let acceptor = TlsAcceptor::from(layer.config.clone());
        let agreed = acceptor.accept(Wire(io)).into_fallible().await;
        agreed.map_err(|(error, wire)| (error, wire.0))
    });
    let elapsed = |_| Elapsed::new(TimeoutPhase::Handshake, bound);
    agreed.await.map_err(elapsed)
}

fn tls_info<IO>(stream: &TlsStream<Wire<IO>>) -> TlsInfo {
    let session = stream.get_ref().1;
    let mut info = TlsInfo::new();
    info.version = session.protocol_version().and_then(|v| v.as_str());
    info.cipher_suite = session
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str());
    info.alpn = session.alpn_protocol().map(<[u8]>::to_vec);
    info.server_name = session.server_name().map(str::to_owned);
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
