//! Reads the first bytes until the detector decides.

use super::{Detect, Detector, PeekLayer};
use crate::{
    BoxError, Connection,
    connection::Milestone,
    drain::within_grace_period,
    error::{Elapsed, Refused, TimeoutPhase, find},
    io::PrefixedIo,
    log_text::Causes,
};
use std::{error::Error, io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

/// Reads the first bytes and records what was found. Dropping the future drops the connection.
pub(super) async fn receive<D: Detector, IO: AsyncRead + Unpin>(
    layer: PeekLayer<D>,
    mut connection: Connection<IO>,
) -> Result<Connection<PrefixedIo<IO>>, BoxError> {
    let mut received = Vec::with_capacity(FIRST_READ);
    let info = connection.info().clone();
    let bound = layer.bounds.timeout.unwrap_or(Duration::MAX);
    let mut detector = layer.detector;
    let reading = read(
        &mut detector,
        layer.bounds.max_len,
        &mut connection,
        &mut received,
    );
    let elapsed = |after| Elapsed::new(TimeoutPhase::CLIENT_HELLO, after);
    let found = match within_grace_period(&info, timeout(bound, reading)).await {
        Ok(Ok(found)) => found,
        Ok(Err(_)) => Err(elapsed(bound).into()),
        // The server is shutting down; the client has made no mistake.
        Err(after) => return Err(elapsed(after).into()),
    };
    match found {
        Ok(Some(found)) => {
            info.reach(Milestone::Detected);
            if let Some(hello) = detector.into_hello() {
                info.set_hello(hello);
            }
            connection.extensions_mut().insert(found);
        }
        Ok(None) => {}
        Err(error) if layer.bounds.observe => {
            let observer = &layer.observer;
            observer.observe(&info, reason(&*error), Causes(&*error));
        }
        Err(error) => {
            // A disconnect needs no reset.
            if !error.is::<io::Error>() {
                connection.abort();
            }
            return Err(error);
        }
    }
    Ok(connection.map_io(|io| PrefixedIo::with_prefix(io, received)))
}

/// What is noted where the layer only observes.
fn reason(error: &(dyn Error + 'static)) -> &'static str {
    if let Some(refused) = find::<Refused>(error) {
        refused.reason()
    } else if let Some(elapsed) = find::<Elapsed>(error) {
        elapsed.phase().as_str()
    } else {
        DISCONNECTED
    }
}

/// `None` for a connection that is passed on without a result.
async fn read<D: Detector>(
    detector: &mut D,
    max_len: usize,
    io: &mut (impl AsyncRead + Unpin),
    received: &mut Vec<u8>,
) -> Result<Option<D::Found>, BoxError> {
    loop {
        let refused = |reason| Refused::new(PeekLayer::NAME, reason);
        if received.len() >= max_len {
            return Err(refused(PeekLayer::TOO_LONG).into());
        }
        if received.len() == received.capacity() {
            // Grows with the received bytes, whatever length they claim.
            received.reserve_exact(received.len());
        }
        let left = (max_len - received.len()) as u64;
        if (&mut *io).take(left).read_buf(received).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, DISCONNECTED).into());
        }
        match detector.detect(received) {
            Detect::Need => {}
            Detect::Found(found) => return Ok(Some(found)),
            Detect::Not => return Ok(None),
            Detect::Invalid(error) => {
                return Err(refused(PeekLayer::INVALID).with_source(error).into());
            }
        }
    }
}

/// Fits in the smallest segment that every host accepts. Most ClientHellos take one or two more reads.
const FIRST_READ: usize = 512;

const DISCONNECTED: &str = "the client disconnected before its protocol was detected";
