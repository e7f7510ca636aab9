//! Speaks for the server until TLS begins.

use super::{Prelude, PreludeLayer, PreludeStep};
use crate::{
    BoxError, Connection,
    connection::Linger,
    drain::within_grace_period,
    error::{Elapsed, Refused, TimeoutPhase},
    io::PrefixedIo,
};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// Returns the connection where TLS begins. Dropping the future drops the connection.
pub(super) async fn speak<P, IO>(
    mut layer: PreludeLayer<P>,
    mut connection: Connection<IO>,
) -> Result<Connection<PrefixedIo<IO>>, BoxError>
where
    P: Prelude,
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let info = connection.info().clone();
    let bound = layer.timeout.unwrap_or(Duration::MAX);
    let elapsed = |after| Elapsed::new(TimeoutPhase::PRELUDE, after).into();
    let mut refused = None;
    let speaking = async {
        let end = timeout(bound, converse(&mut layer, &mut connection)).await;
        match end.map_err(|_| elapsed(bound))?? {
            PreludeEnd::Tls(bytes) => {
                Ok(connection.map_io(|io| PrefixedIo::with_prefix(io, bytes)))
            }
            PreludeEnd::Refused(reason) => {
                refused = Some(reason);
                // Boxed, so that its state does not enlarge each prelude. The client gets the reply before the
                // close.
                let linger = Linger::new().with_timeout(Duration::from_secs(1));
                let _ = Box::pin(connection.close_within(linger)).await;
                Err(refusal::<P>(reason))
            }
        }
    };
    match within_grace_period(&info, speaking).await {
        Ok(result) => result,
        Err(after) => Err(refused.map_or_else(|| elapsed(after), refusal::<P>)),
    }
}

fn refusal<P>(reason: &'static str) -> BoxError {
    Refused::new(PreludeLayer::<P>::NAME, reason).into()
}

enum PreludeEnd {
    /// TLS begins with these bytes.
    Tls(Vec<u8>),
    Refused(&'static str),
}

/// The part that has a timeout.
async fn converse<P: Prelude, IO: AsyncRead + AsyncWrite + Unpin>(
    layer: &mut PreludeLayer<P>,
    connection: &mut Connection<IO>,
) -> io::Result<PreludeEnd> {
    let greeting = layer.prelude.greeting();
    send(connection, &greeting).await?;
    let mut received = Vec::with_capacity(FIRST_READ);
    let mut total = 0;
    let mut replies = 0;
    loop {
        if total >= layer.max_len {
            return Ok(PreludeEnd::Refused(PreludeLayer::<P>::TOO_LONG));
        }
        let left = (layer.max_len - total) as u64;
        let read = (&mut *connection)
            .take(left)
            .read_buf(&mut received)
            .await?;
        if read == 0 {
            return Err(disconnected());
        }
        total += read;
        while !received.is_empty() {
            let step = layer.prelude.advance(&received);
            if let PreludeStep::StartTls { taken, .. } | PreludeStep::Reply { taken, .. } = &step
                && !(1..=received.len()).contains(taken)
            {
                let text = "a prelude took none or more of the bytes than there were";
                return Err(io::Error::other(text));
            }
            match step {
                PreludeStep::Need => break,
                PreludeStep::Tls => return Ok(PreludeEnd::Tls(received)),
                PreludeStep::Refuse { reply, reason } => {
                    send(connection, &reply).await?;
                    return Ok(PreludeEnd::Refused(reason));
                }
                PreludeStep::StartTls { taken, .. } if taken < received.len() => {
                    return Ok(PreludeEnd::Refused(PreludeLayer::<P>::PIPELINED));
                }
                PreludeStep::StartTls { reply, .. } => {
                    send(connection, &reply).await?;
                    received.clear();
                    return begin_tls(connection, received).await;
                }
                PreludeStep::Reply { taken, reply } => {
                    replies += 1;
                    if replies > layer.max_replies {
                        return Ok(PreludeEnd::Refused(PreludeLayer::<P>::TOO_MANY));
                    }
                    received.drain(..taken);
                    send(connection, &reply).await?;
                }
            }
        }
    }
}

/// Reads the first bytes after the reply, which must be those of a TLS handshake (RFC 8446, section 5.1).
async fn begin_tls(
    connection: &mut (impl AsyncRead + Unpin),
    mut received: Vec<u8>,
) -> io::Result<PreludeEnd> {
    if connection.read_buf(&mut received).await? == 0 {
        return Err(disconnected());
    }
    Ok(match received[0] {
        HANDSHAKE => PreludeEnd::Tls(received),
        _ => PreludeEnd::Refused(PreludeLayer::<()>::NO_TLS),
    })
}

fn disconnected() -> io::Error {
    let text = "the client disconnected before TLS began";
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

async fn send(io: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    io.write_all(bytes).await?;
    io.flush().await
}

const FIRST_READ: usize = 256;

/// The type of the first record.
const HANDSHAKE: u8 = 22;
