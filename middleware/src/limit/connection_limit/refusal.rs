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

/// What is done to a connection that is refused.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Refusal {
    /// Drop it. A TCP client sees an end, or a reset where it has sent something already.
    #[default]
    Close,
    /// [Abort](Connection::abort) it. A TCP client sees a reset, and no state lingers.
    Reset,
    /// Write these bytes and [close](Connection::close), so that they arrive although the client's
    /// input was not read.
    ///
    /// For a second at most, the write included, and for up to 64 connections of one limit at a
    /// time: beyond that they are closed without an answer.
    Answer(Arc<[u8]>),
}

impl Refusal {
    /// Tells the client `bytes`; see [`Answer`](Self::Answer).
    pub fn answer(bytes: impl AsRef<[u8]>) -> Self {
        Self::Answer(bytes.as_ref().into())
    }

    /// Refuses `connection`; at once, or in the future returned.
    pub(super) fn refuse<IO>(
        &self,
        connection: Connection<IO>,
        limiter: &Arc<Limiter>,
        reason: &'static str,
    ) -> Refusing
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let leave = limiter.count_refused(matches!(self, Self::Answer(_)));
        let mut refusing = Refusing {
            answer: None,
            reason,
        };
        match (self, leave) {
            (Self::Reset, _) => connection.abort(),
            (Self::Answer(bytes), Some(leave)) => {
                refusing.answer = Some(Box::pin(answer(leave, connection, bytes.clone())));
            }
            (Self::Close | Self::Answer(_), _) => drop(connection),
        }
        refusing
    }
}

/// Resolves when the connection is gone.
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

/// Arguments are dropped in reverse: the connection goes before the leave to answer it.
async fn answer<IO>(_leave: Answering, mut connection: Connection<IO>, bytes: Arc<[u8]>)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    connection.info().set_phase(Phase::Closing);
    let deadline = Instant::now() + ANSWER_TIME;
    let written = timeout_at(deadline, connection.write_all(&bytes)).await;
    if let Ok(Ok(())) = written {
        let left = deadline.saturating_duration_since(Instant::now());
        // The outcome is the refusal, whether the client heard of it or not.
        let _ = connection
            .close_within(Linger::new().with_timeout(left))
            .await;
    }
}

const ANSWER_TIME: Duration = Duration::from_secs(1);
