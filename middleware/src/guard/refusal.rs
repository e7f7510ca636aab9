use crate::{
    Connection,
    connection::{Linger, Phase},
    departure::poll_departure,
    error::Refused,
};
use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep, timeout_at},
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
    /// This takes at most one second, including the write. Each layer answers up to 64 connections
    /// concurrently and closes further ones without an answer.
    Answer(Arc<[u8]>),
    /// Keep it open for a time without serving it, which slows down clients that try again immediately.
    ///
    /// The layer reads and writes nothing. Under TLS it reads ahead to detect a disconnect. The connection is
    /// closed early when its client disconnects, when it is force-closed, and when the server shuts down. It
    /// holds a file descriptor and its permits of outer layers, but none of this layer.
    Tarpit {
        /// How long a connection is kept open.
        hold: Duration,
        /// Maximum number of connections that the layer keeps open concurrently; further ones are closed.
        at_most: usize,
    },
}

impl Refusal {
    /// Sends `bytes` to the client; see [`Answer`](Self::Answer).
    pub fn answer(bytes: impl AsRef<[u8]>) -> Self {
        Self::Answer(bytes.as_ref().into())
    }

    /// Rejects `connection` with `refused`, immediately or in the returned future.
    pub(crate) fn refuse<IO>(
        &self,
        connection: Connection<IO>,
        held: &Arc<Held>,
        refused: Refused,
    ) -> Refusing
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut refusing = Refusing {
            work: None,
            refused: Some(refused),
        };
        match self {
            Self::Close => drop(connection),
            Self::Reset => connection.abort(),
            Self::Answer(bytes) => {
                if let Some(place) = held.enter(MAX_ANSWERING) {
                    refusing.work = Some(Box::pin(answer(place, connection, bytes.clone())));
                }
            }
            Self::Tarpit { hold, at_most } => {
                if let Some(place) = held.enter(*at_most) {
                    refusing.work = Some(Box::pin(tarpit(place, connection, *hold)));
                }
            }
        }
        refusing
    }
}

/// Resolves when the connection is dropped.
pub(crate) struct Refusing {
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    refused: Option<Refused>,
}

impl Future for Refusing {
    type Output = Refused;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Refused> {
        if let Some(work) = &mut self.work {
            ready!(work.as_mut().poll(cx));
            self.work = None;
        }
        let refused = self.refused.take();
        Poll::Ready(refused.expect("polled again after the connection was rejected"))
    }
}

impl fmt::Debug for Refusing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusing")
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

/// Number of rejected connections that a layer keeps open.
#[derive(Debug, Default)]
pub(crate) struct Held(AtomicUsize);

impl Held {
    fn enter(self: &Arc<Self>, at_most: usize) -> Option<HeldPlace> {
        let next = |held| (held < at_most).then_some(held + 1);
        let relaxed = Ordering::Relaxed;
        let entered = self.0.fetch_update(relaxed, relaxed, next).is_ok();
        entered.then(|| HeldPlace(self.clone()))
    }
}

/// A place among the connections that are kept open, returned on drop.
#[derive(Debug)]
struct HeldPlace(Arc<Held>);

impl Drop for HeldPlace {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Arguments are dropped in reverse order, so the connection is dropped before its place is free.
async fn answer<IO>(_place: HeldPlace, mut connection: Connection<IO>, bytes: Arc<[u8]>)
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

/// Arguments are dropped in reverse order, so the connection is dropped before its place is free.
async fn tarpit<IO: 'static>(_place: HeldPlace, mut connection: Connection<IO>, hold: Duration) {
    let info = connection.info().clone();
    info.set_phase(Phase::Closing);
    tokio::select! {
        () = sleep(hold) => {}
        () = info.closed() => {}
        () = info.drain() => {}
        _left = poll_fn(|cx| poll_departure(connection.get_mut(), cx)) => {}
    }
}

/// Maximum number of concurrent answers per layer; each holds a file descriptor for up to a second.
pub(crate) const MAX_ANSWERING: usize = 64;

/// Time limit for the write and the close together.
const ANSWER_TIME: Duration = Duration::from_secs(1);
