//! Both directions of a forwarded connection.

use super::{
    direction::{Direction, LAST_INPUT, Surroundings},
    late::LateTuning,
    report::{Failure, ForwardError, ForwardStep, Forwarded, Side},
    scratch::with_scratch,
    service::ForwardSettings,
    silence::{Silence, SilenceLimit},
};
use portcullis_middleware::{
    Connection,
    connection::{EndedBy, ForcedClose, Linger, Milestone},
    error::{Elapsed, TimeoutPhase},
    internal::{is_woken_when_forced, share_forced_because, wake_when_forced},
    io::Passthrough,
};
use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite};

/// Moves bytes in both directions until both have ended.
///
/// When it is dropped before, a side may have sent bytes that the other one has not received. Then both
/// connections are reset, so that a truncated stream does not look complete.
pub(super) struct Forwarding<IO, BackendIo> {
    /// `None` only after the end, because fields of a type with `Drop` cannot be moved.
    sides: Option<(Connection<IO>, Connection<BackendIo>)>,
    to_backend: Direction,
    to_client: Direction,
    /// The first write that failed. What its peer has sent before is still delivered.
    failure: Option<Box<Failure>>,
    /// `None` while nothing limits it.
    silence: Option<Box<Silence>>,
    late: LateTuning,
    /// The longest silence after one side has ended.
    half_closed: SilenceLimit,
    /// Which direction is polled first. It changes, because both share the task's budget.
    backend_first: bool,
}

/// What is left to do after all bytes were forwarded.
pub(super) type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) enum Ended {
    Dropped(Result<Forwarded, ForwardError>),
    Closing(Closing, Result<Forwarded, ForwardError>),
}

impl<IO, BackendIo> Forwarding<IO, BackendIo> {
    pub(super) fn new(
        client: Connection<IO>,
        backend: Connection<BackendIo>,
        late: LateTuning,
        settings: ForwardSettings,
    ) -> Self {
        let silence = Silence::new(client.info(), settings.drain);
        Self {
            sides: Some((client, backend)),
            to_backend: Direction::new(Side::Client),
            to_client: Direction::new(Side::Backend),
            failure: None,
            silence,
            late,
            half_closed: SilenceLimit::new(settings.half_closed),
            backend_first: false,
        }
    }

    /// Grows with each byte that was delivered.
    const fn progress(&self) -> u64 {
        self.to_backend.moved().wrapping_add(self.to_client.moved())
    }

    fn is_in_transit(&self) -> bool {
        self.to_backend.is_in_transit() || self.to_client.is_in_transit()
    }

    /// Whether a side has reset its connection, which the other one is still to notice.
    fn is_reset(&self) -> bool {
        let failure = self.failure.as_deref();
        failure.is_some_and(|failure| !failure.is_closed())
    }

    /// Makes a forced close wake the task.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        let (client, backend) = self.sides.as_ref().expect(OPEN);
        for info in [client.info(), backend.info()] {
            wake_when_forced(info, cx.waker());
        }
    }

    fn is_forced(&self) -> bool {
        let (client, backend) = self.sides.as_ref().expect(OPEN);
        client.info().is_forced() || backend.info().is_forced()
    }

    /// Takes both connections; called once, at the end.
    fn take(&mut self) -> (Connection<IO>, Connection<BackendIo>) {
        self.sides.take().expect(OPEN)
    }
}

impl<IO, BackendIo> Forwarding<IO, BackendIo>
where
    IO: AsyncRead + AsyncWrite + Passthrough + Unpin + Send + 'static,
    BackendIo: AsyncRead + AsyncWrite + Passthrough + Unpin + Send + 'static,
{
    /// Moves what there is. Ready if the connection may have ended, which [`poll_end`](Self::poll_end) tells.
    ///
    /// Small, because most polls do only this.
    #[inline]
    pub(super) fn poll_move(&mut self, cx: &mut Context<'_>) -> Poll<Option<Box<Ended>>> {
        if self.is_forced() {
            return Poll::Ready(None);
        }
        let (client, backend) = self.sides.as_ref().expect(OPEN);
        self.late.poll(cx, client.info(), backend.info());
        let first = match self.backend_first {
            true => Side::Backend,
            false => Side::Client,
        };
        self.backend_first = !self.backend_first;
        // Once for both directions.
        let ended = with_scratch(|scratch| match self.poll_side(cx, first, scratch) {
            None => self.poll_side(cx, first.other(), scratch),
            ended => ended,
        });
        if ended.is_none() && self.silence.is_none() && self.is_woken_when_forced() {
            return Poll::Pending;
        }
        Poll::Ready(ended)
    }

    /// Ready with the end of the connection, if what was moved has `ended` it or something else does.
    pub(super) fn poll_end(
        &mut self,
        cx: &mut Context<'_>,
        ended: Option<Box<Ended>>,
    ) -> Poll<Ended> {
        if let Some(ended) = ended {
            return Poll::Ready(*ended);
        }
        if !self.is_woken_when_forced() {
            self.watch(cx);
        }
        if self.is_forced() {
            return Poll::Ready(self.cut(Failure {
                step: ForwardStep::Wait,
                error: ForcedClose::new().into(),
            }));
        }
        if self.to_backend.is_done() && self.to_client.is_done() {
            return Poll::Ready(self.finish());
        }
        Poll::Ready(match ready!(self.poll_silence(cx)) {
            Some(elapsed) => self.cut(Failure {
                step: ForwardStep::Wait,
                error: elapsed.into(),
            }),
            None => self.end_by_drain(),
        })
    }

    /// Whether a forced close wakes the task, because both sides wait for input.
    ///
    /// A side that has ended, or whose bytes the other one does not accept, has no operation that would notice. Neither
    /// has a stream without a `Socket`.
    #[inline]
    fn is_woken_when_forced(&self) -> bool {
        let (client, backend) = self.sides.as_ref().expect(OPEN);
        self.to_backend.waits_for_input()
            && self.to_client.waits_for_input()
            && is_woken_when_forced(client.info())
            && is_woken_when_forced(backend.info())
    }

    /// Moves what `from` sends, and returns the end of the connection if there is one, in a box because there rarely is.
    fn poll_side(
        &mut self,
        cx: &mut Context<'_>,
        from: Side,
        scratch: &mut [u8],
    ) -> Option<Box<Ended>> {
        let failure = self.failure.as_deref();
        let (client, backend) = self.sides.as_mut().expect(OPEN);
        let (client, backend) = (client.get_mut(), backend.get_mut());
        let (to_backend, to_client) = (&mut self.to_backend, &mut self.to_client);
        let (polled, direction) = match from {
            Side::Client => {
                let other = to_client;
                let surroundings = Surroundings { other, failure };
                let polled = to_backend.poll(cx, client, backend, surroundings, scratch);
                (polled, to_backend)
            }
            Side::Backend => {
                let other = to_backend;
                let surroundings = Surroundings { other, failure };
                let polled = to_client.poll(cx, backend, client, surroundings, scratch);
                (polled, to_client)
            }
        };
        if polled.is_pending() && direction.is_flowing() {
            return None;
        }
        self.note(cx, from, polled).map(Box::new)
    }

    /// Whether a side has sent bytes that the system still holds. Its direction may have ended by the forced close.
    fn has_unread(&self) -> bool {
        let (client, backend) = self.sides.as_ref().expect(OPEN);
        client.get_ref().has_unread() || backend.get_ref().has_unread()
    }

    /// Records what a direction has begun or ended.
    #[inline(never)]
    fn note(
        &mut self,
        cx: &Context<'_>,
        from: Side,
        polled: Poll<Result<(), Failure>>,
    ) -> Option<Ended> {
        let (client, _) = self.sides.as_ref().expect(OPEN);
        let info = client.info();
        let (direction, first_byte) = match from {
            Side::Client => (&mut self.to_backend, Milestone::FirstByteOfClient),
            Side::Backend => (&mut self.to_client, Milestone::FirstByteOfBackend),
        };
        if !direction.has_begun && direction.has_read() {
            direction.has_begun = true;
            info.reach(first_byte);
        }
        if let Poll::Ready(Err(failure)) = polled {
            let ended = self.fail(failure);
            if ended.is_none() {
                // The input of the stopped direction is discarded from now on, and nothing waits for it yet.
                cx.waker().wake_by_ref();
            }
            return ended;
        }
        if let Some(by) = direction.ended_by()
            && info.ended_by().is_none()
        {
            info.set_ended_by(by);
            let other = match from {
                Side::Client => &mut self.to_client,
                Side::Backend => &mut self.to_backend,
            };
            other.is_quiet = true;
        }
        None
    }

    /// Decides what a failure ends; `None` if the other direction goes on.
    fn fail(&mut self, failure: Failure) -> Option<Ended> {
        if self.is_after_the_end(&failure) {
            return Some(self.finish_reset());
        }
        let (client, _) = self.sides.as_ref().expect(OPEN);
        let by = failure.ended_by();
        client.info().set_ended_by(by);
        match failure.step {
            // The peer no longer reads, but may have sent something before.
            ForwardStep::Write(peer) if by != EndedBy::Gate && self.failure.is_none() => {
                let (to_peer, from_peer) = match peer {
                    Side::Client => (&mut self.to_client, &self.to_backend),
                    Side::Backend => (&mut self.to_backend, &self.to_client),
                };
                to_peer.stop();
                if from_peer.is_done() {
                    // It has ended its stream in order, which a reset of the other side would contradict.
                    return Some(self.close(failure));
                }
                self.failure = Some(Box::new(failure));
                None
            }
            _ => Some(self.cut(failure)),
        }
    }

    /// Whether the client has reset its connection after it was sent all that the backend had, and its end.
    ///
    /// A client that has what it wants closes, and its system sends a reset if there is something unread, such as a
    /// `close_notify`.
    fn is_after_the_end(&self, failure: &Failure) -> bool {
        let is_reset = failure.error.kind() == io::ErrorKind::ConnectionReset;
        is_reset
            && matches!(failure.step, ForwardStep::Read(Side::Client))
            && self.to_client.is_done()
            && self.failure.is_none()
    }

    /// Ends both sides after [such a reset](Self::is_after_the_end), which the backend still learns of.
    fn finish_reset(&mut self) -> Ended {
        let forwarded = self.forwarded(EndedBy::Backend);
        let (_, backend) = self.take();
        pass_on(backend);
        Ended::Dropped(Ok(forwarded))
    }

    /// Ends both sides because of `failure`.
    fn cut(&mut self, failure: Failure) -> Ended {
        let failure = match self.failure.take() {
            // A truncation says more than a failed write to the same side.
            Some(first) if !failure.is_truncated() => *first,
            _ => failure,
        };
        let by = failure.ended_by();
        if let Some((client, backend)) = &self.sides {
            client.info().set_ended_by(by);
            share_forced_because(client.info(), backend.info());
        }
        let result = self.failed(failure);
        let in_transit = self.is_in_transit() || by == EndedBy::Gate && self.has_unread();
        let (client, backend) = self.take();
        match by {
            EndedBy::Client => pass_on(backend),
            EndedBy::Backend => pass_on(client),
            _ if in_transit => {
                client.abort();
                backend.abort();
            }
            _ => {}
        }
        Ended::Dropped(result)
    }

    /// Both directions are done.
    fn finish(&mut self) -> Ended {
        let Some(failure) = self.failure.take() else {
            let forwarded = self.forwarded(EndedBy::Gate);
            drop(self.take());
            return Ended::Dropped(Ok(forwarded));
        };
        if failure.is_closed() {
            return self.close(*failure);
        }
        let step = failure.step;
        let result = self.failed(*failure);
        let (client, backend) = self.take();
        match step {
            ForwardStep::Write(Side::Backend) => pass_on(client),
            _ => pass_on(backend),
        }
        Ended::Dropped(result)
    }

    /// Ends both sides after one has closed without reading everything. The other one gets what it sent before.
    fn close(&mut self, failure: Failure) -> Ended {
        let step = failure.step;
        let result = self.failed(failure);
        let left = LAST_INPUT.saturating_sub(self.to_client.discarded());
        let (client, backend) = self.take();
        let closing: Closing = match step {
            ForwardStep::Write(Side::Backend) => Box::pin(async { drop(client.close().await) }),
            _ => {
                let linger = Linger::new().with_bytes(left);
                Box::pin(async move { drop(backend.close_within(linger).await) })
            }
        };
        Ended::Closing(closing, result)
    }

    /// Ends both sides gracefully after a time of silence.
    fn end_by_drain(&mut self) -> Ended {
        let (client, _) = self.sides.as_ref().expect(OPEN);
        client.info().set_ended_by(EndedBy::Gate);
        let forwarded = self.forwarded(EndedBy::Gate);
        let (client, backend) = self.take();
        let closing = async {
            let (client, backend) = tokio::join!(client.close(), backend.close());
            drop((client, backend));
        };
        Ended::Closing(Box::pin(closing), Ok(forwarded))
    }

    /// Ready when silence ends the connection, with an error unless the drain does.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Option<Elapsed>> {
        let is_half_closed = self.to_backend.has_ended() || self.to_client.has_ended();
        let half_closed = self.half_closed.get().filter(|_| is_half_closed);
        let drain = self.drain_limit(cx);
        let limit = half_closed.into_iter().chain(drain).min();
        let progress = self.progress();
        if limit.is_none() && self.silence.is_none() {
            return Poll::Pending;
        }
        let silence = self.silence.get_or_insert_default();
        ready!(silence.poll(cx, progress, limit));
        Poll::Ready(match limit {
            Some(limit) if drain != Some(limit) => {
                Some(Elapsed::new(TimeoutPhase::HALF_CLOSED, limit))
            }
            _ => None,
        })
    }

    /// The silence that ends the connection while the server drains.
    fn drain_limit(&mut self, cx: &mut Context<'_>) -> Option<Duration> {
        let silence = self.silence.as_mut()?.drain_limit(cx)?;
        // Otherwise a stream could look complete. The limit of half-closed connections ends one after a failure, and others
        // a side that does not read.
        let is_whole = !self.is_in_transit() && self.failure.is_none();
        is_whole.then_some(silence)
    }

    fn failed(&self, failure: Failure) -> Result<Forwarded, ForwardError> {
        Err(ForwardError {
            forwarded: self.forwarded(failure.ended_by()),
            step: failure.step,
            source: failure.error,
        })
    }

    fn forwarded(&self, ended_by: EndedBy) -> Forwarded {
        let (client, _) = self.sides.as_ref().expect(OPEN);
        let info = client.info();
        Forwarded {
            to_backend: self.to_backend.moved(),
            to_client: self.to_client.moved(),
            ended_by: info.ended_by().unwrap_or(ended_by),
            first_byte_of_client: info.reached(Milestone::FirstByteOfClient),
            first_byte_of_backend: info.reached(Milestone::FirstByteOfBackend),
        }
    }
}

/// Lets the peer of `connection` know that the other side did not end its stream, but reset or truncated it.
fn pass_on<IO>(connection: Connection<IO>) {
    // Under TLS the missing `close_notify` says so, and a reset could destroy what was sent before.
    if connection.tls().is_none() {
        connection.abort();
    }
}

impl<IO, BackendIo> Drop for Forwarding<IO, BackendIo> {
    fn drop(&mut self) {
        let in_transit = self.is_in_transit() || self.is_reset();
        if let Some((client, backend)) = self.sides.take() {
            client.info().set_ended_by(EndedBy::Gate);
            if in_transit {
                client.abort();
                backend.abort();
            }
        }
    }
}

impl<IO, BackendIo> fmt::Debug for Forwarding<IO, BackendIo> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarding")
            .field("to_backend", &self.to_backend)
            .field("to_client", &self.to_client)
            .finish_non_exhaustive()
    }
}

const OPEN: &str = "both connections are open until the end";
