use super::{
    ConnectionLimitLayer,
    limiter::{Answering, Limiter},
};
use crate::{
    Connection,
    connection::{Linger, Phase},
    error::Refused,
};
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout_at},
};

/// How a connection is rejected.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Refusal {
    /// Drop it. A TCP client sees the end of the stream, or a reset if it has sent something already.
    #[default]
    Close,
    /// [Abort](Connection::abort) it. A TCP client sees a reset.
    Reset,
    /// Write these bytes and [close](Connection::close), so that they arrive although the client's
    /// input was not read.
    ///
    /// This takes at most one second, including the write. Each limit answers up to 64 connections
    /// concurrently and closes further ones without an answer.
    Answer(Arc<[u8]>),
}

impl Refusal {
    /// Sends `bytes` to the client; see [`Answer`](Self::Answer).
    pub fn answer(bytes: impl AsRef<[u8]>) -> Self {
        Self::Answer(bytes.as_ref().into())
    }

    /// Rejects `connection`, immediately or in the returned future.
    pub(super) fn refuse<IO>(
        &self,
        connection: Connection<IO>,
        limiter: &Arc<Limiter>,
        reason: &'static str,
    ) -> Refusing
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let permit = limiter.count_refused(matches!(self, Self::Answer(_)));
        let mut refusing = Refusing {
            answer: None,
            reason,
        };
        match (self, permit) {
            (Self::Reset, _) => connection.abort(),
            (Self::Answer(bytes), Some(permit)) => {
                refusing.answer = Some(Box::pin(answer(permit, connection, bytes.clone())));
            }
            (Self::Close | Self::Answer(_), _) => drop(connection),
        }
        refusing
    }
}

/// Resolves when the connection is dropped.
pub(super) struct Refusing {
    answer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    reason: &'static str,
}

impl Future for Refusing {
    type Output = Refused;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Refused> {
        if let Some(answer) = &mut self.answer {
            ready!(answer.as_mut().poll(cx));
        }
        Poll::Ready(Refused::new(ConnectionLimitLayer::NAME, self.reason))
    }
}

impl fmt::Debug for Refusing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusing")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// Arguments are dropped in reverse order, so the connection is dropped before the permit.
async fn answer<IO>(_permit: Answering, mut connection: Connection<IO>, bytes: Arc<[u8]>)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    connection.info().set_phase(Phase::Closing);
    let deadline = Instant::now() + ANSWER_TIME;
    let written = timeout_at(deadline, connection.write_all(&bytes)).await;
    if let Ok(Ok(())) = written {
        let left = deadline.saturating_duration_since(Instant::now());
        // The outcome is the rejection, whether or not the client receives the answer.
        let _ = connection
            .close_within(Linger::new().with_timeout(left))
            .await;
    }
}

/// Time limit for the write and the close together.
const ANSWER_TIME: Duration = Duration::from_secs(1);
