//! Reads one header from a trusted source.

use super::{
    ProxyHeader, ProxyProtocolLayer,
    error::{HeaderFailure, ProxyHeaderError},
    layer::Bounds,
    parse::{Header, Parsed, parse},
    warnings::Warnings,
};
use crate::io::PrefixedIo;
use crate::{
    BoxError, Connection,
    connection::Milestone,
    drain::within_grace_period,
    error::{Elapsed, TimeoutPhase, WithOutcome},
    outcome::Outcome,
};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

/// Removes the header and records its contents. Dropping the future drops the connection.
pub(super) fn receive<IO>(
    layer: &ProxyProtocolLayer,
    mut connection: Connection<IO>,
) -> impl Future<Output = Result<Connection<PrefixedIo<IO>>, BoxError>> + use<IO>
where
    IO: AsyncRead + Unpin,
{
    let (bounds, warnings) = (layer.bounds, layer.warnings.clone());
    async move {
        let mut received = Vec::with_capacity(FIRST_READ);
        let bound = bounds.timeout.unwrap_or(Duration::MAX);
        let info = connection.info().clone();
        let reading = timeout(bound, read(bounds, &mut connection, &mut received));
        let failure = match within_grace_period(&info, reading).await {
            Ok(Ok(Ok(header))) => return Ok(accept(connection, header, received, &warnings)),
            Ok(Ok(Err(failure))) => Some(failure),
            Ok(Err(_)) => None,
            // The server is shutting down; the proxy has made no mistake.
            Err(after) => return Err(Elapsed::new(TimeoutPhase::PROXY_HEADER, after).into()),
        };
        let peer = connection.info().socket_peer();
        let error: BoxError = match failure {
            // A disconnect, for example of a health check, needs no reset and is no mistake.
            Some(failure @ HeaderFailure::Io(_)) => {
                return Err(ProxyHeaderError::new(peer, failure, &received).into());
            }
            Some(failure) => {
                let error = ProxyHeaderError::new(peer, failure, &received);
                WithOutcome::new(Outcome::ProxyHeaderFailed, error).into()
            }
            None => Elapsed::new(TimeoutPhase::PROXY_HEADER, bound).into(),
        };
        warnings.header(peer, &*error);
        connection.abort();
        Err(error)
    }
}

/// Reads until the header is complete; `None` if it is absent and optional.
async fn read(
    bounds: Bounds,
    io: &mut (impl AsyncRead + Unpin),
    received: &mut Vec<u8>,
) -> Result<Option<Header>, HeaderFailure> {
    loop {
        if received.len() == received.capacity() {
            // Grows with the received bytes, not with the length that the header claims; complete at
            // `max_len` at the latest.
            received.reserve(received.len());
        }
        let ended = io.read_buf(received).await.map_err(HeaderFailure::Io)? == 0;
        match parse(received, bounds.max_len) {
            Parsed::Complete(header) => return Ok(Some(header)),
            Parsed::Invalid(problem) => return Err(HeaderFailure::Invalid(problem)),
            Parsed::Absent if bounds.required => return Err(HeaderFailure::Absent),
            Parsed::Absent => return Ok(None),
            Parsed::Undecided if ended && !bounds.required => return Ok(None),
            Parsed::Undecided | Parsed::Incomplete if ended => {
                return Err(HeaderFailure::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            Parsed::Undecided | Parsed::Incomplete => {}
        }
    }
}

fn accept<IO>(
    mut connection: Connection<IO>,
    header: Option<Header>,
    received: Vec<u8>,
    warnings: &Warnings,
) -> Connection<PrefixedIo<IO>> {
    let mut taken = 0;
    if let Some(Header {
        length,
        addresses,
        header,
    }) = header
    {
        taken = length;
        let info = connection.info();
        // If the first header has no client, the second must not provide one either.
        let first = connection.extensions().get::<ProxyHeader>().is_none()
            && addresses.is_none_or(|(peer, local)| info.set_effective(peer, local));
        if first {
            info.reach(Milestone::ProxyHeader);
            connection.extensions_mut().insert(header);
        } else {
            warnings.repeated(info.socket_peer());
        }
    }
    connection.map_io(|io| PrefixedIo::with_unread(io, received, taken))
}

/// Fits in the smallest segment that every host accepts (576 bytes less 40), as any common header does.
const FIRST_READ: usize = 536;
