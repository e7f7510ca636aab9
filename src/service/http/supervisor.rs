//! Enforces timeouts and graceful shutdown for one HTTP connection.

use super::{
    HttpSettings,
    activity::{Activity, WaitingFor},
    phase,
};
use portcullis_middleware::{
    BoxError,
    drain::DrainStage,
    error::{Elapsed, TimeoutPhase},
    internal::note_timer,
};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

/// Checks after each turn of hyper whether the connection may continue.
///
/// One timer serves all timeouts. It stays set while requests come and go, and is set to the remaining time
/// if it fires early. A request therefore costs a few comparisons here and leaves the timer alone.
pub(super) struct Supervisor {
    settings: Arc<HttpSettings>,
    activity: Arc<Activity>,
    timer: Option<Pin<Box<Sleep>>>,
    /// The timer fires before an idle connection expires, whose deadline only moves later.
    timer_has_idle: bool,
    /// Resolves at the next stage of the drain.
    next_stage: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    stage: DrainStage,
    /// The task that the two fields above wake.
    waker: Option<Waker>,
    /// When the first part of a head arrived.
    head_since: Option<Instant>,
    /// The count of sent data when the wait for the client was first observed, and the time.
    stalled: Option<(u64, Instant)>,
    /// When this connection observed that the server had stopped accepting.
    closing_since: Option<Instant>,
    /// When the input of a silent client was ended; void if its first byte arrived just then.
    hung_up_since: Option<Instant>,
    /// When hyper was asked to shut down.
    leaving_since: Option<Instant>,
}

/// What the supervisor requests.
#[derive(Debug)]
pub(super) enum SupervisorAction {
    /// Finish what is in flight, and end.
    Shutdown,
    /// End as if the client had closed. It has not sent a byte, and hyper then closes gracefully.
    HangUp,
    /// End now.
    End(Result<(), BoxError>),
}

impl Supervisor {
    pub(super) const fn new(settings: Arc<HttpSettings>, activity: Arc<Activity>) -> Self {
        Self {
            settings,
            activity,
            timer: None,
            timer_has_idle: false,
            next_stage: None,
            stage: DrainStage::Serving,
            waker: None,
            head_since: None,
            stalled: None,
            closing_since: None,
            hung_up_since: None,
            leaving_since: None,
        }
    }

    pub(super) fn settings(&self) -> &HttpSettings {
        &self.settings
    }

    /// Called whenever hyper is pending.
    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SupervisorAction> {
        let same_waker = self.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker()));
        // The usual case after a request.
        if same_waker
            && self.stage == DrainStage::Serving
            && !self.activity.info.is_draining()
            && self.timer_suffices_for(self.activity.waiting())
        {
            self.head_since = None;
            self.stalled = None;
            return Poll::Pending;
        }
        self.check(same_waker, cx)
    }

    #[inline(never)]
    fn check(&mut self, same_waker: bool, cx: &mut Context<'_>) -> Poll<SupervisorAction> {
        if !same_waker {
            self.waker = Some(cx.waker().clone());
        }
        self.observe_stage(same_waker, cx);
        // Some HTTP/2 clients wait for our SETTINGS before their first request; let them send it before
        // GOAWAY.
        if self.stage >= DrainStage::Notified
            && self.leaving_since.is_none()
            && self.activity.is_http2()
            && self.activity.has_begun()
        {
            return Poll::Ready(self.shut_down());
        }
        loop {
            let waiting = self.activity.waiting();
            if waiting != WaitingFor::Head {
                self.head_since = None;
            }
            if !matches!(waiting, WaitingFor::Send(_)) {
                self.stalled = None;
            }
            let (deadline, then) = self.next(waiting);
            let Some(deadline) = deadline else {
                return Poll::Pending;
            };
            self.timer_has_idle = waiting == WaitingFor::Request;
            ready!(self.poll_timer(deadline, same_waker, cx));
            match then {
                Then::LookAgain => {}
                Then::ShutDown => return Poll::Ready(self.shut_down()),
                Then::HangUp => return Poll::Ready(self.hang_up()),
                Then::End => return Poll::Ready(SupervisorAction::End(Ok(()))),
                Then::Fail(elapsed) => {
                    return Poll::Ready(SupervisorAction::End(Err(elapsed.into())));
                }
            }
        }
    }

    /// Observes the drain's stage, which shortens some timeouts.
    fn observe_stage(&mut self, same_waker: bool, cx: &mut Context<'_>) {
        let Some(signal) = self.activity.info.drain_signal() else {
            return;
        };
        let stage = signal.stage();
        // While the server serves, a waiting connection is woken by the shutdown notice alone. Later the wake
        // may belong to a stage that was already observed, and the wait starts again.
        if stage == self.stage && stage == DrainStage::Serving && same_waker {
            return;
        }
        if stage > self.stage {
            self.stage = stage;
            self.next_stage = None;
            if stage >= DrainStage::Closing {
                self.closing_since = Some(Instant::now());
            }
        }
        if stage < DrainStage::Closing {
            let next = match stage {
                DrainStage::Serving => DrainStage::Notified,
                _ => DrainStage::Closing,
            };
            // Unconstrained, because hyper may have used up the task's budget.
            let wait = self
                .next_stage
                .get_or_insert_with(|| Box::pin(unconstrained(signal.clone().reached(next))));
            // The stage was reached just now, so poll again immediately.
            if wait.as_mut().poll(cx).is_ready() {
                self.next_stage = None;
                cx.waker().wake_by_ref();
            }
        }
    }

    /// Returns the deadline of the current wait, and the action at that time.
    fn next(&mut self, waiting: WaitingFor) -> (Option<Instant>, Then) {
        // The I/O object has its own limits for lingering.
        if self.activity.is_lingering() {
            return (None, Then::End);
        }
        let settings = &self.settings;
        match waiting {
            WaitingFor::Send(sent) => {
                let since = match self.stalled {
                    Some((before, since)) if before == sent => since,
                    _ => Instant::now(),
                };
                self.stalled = Some((sent, since));
                let then = fail(TimeoutPhase::WRITE, settings.send);
                (after(since, settings.send), then)
            }
            // Its end is observed at the latest when the following timeout could expire.
            WaitingFor::Exchange => {
                let bound = match self.stage {
                    DrainStage::Closing => Some(settings.idle_grace_period),
                    _ => settings.idle,
                };
                // Avoids a check in every turn if the timeout is zero.
                let bound = bound.map(|bound| bound.max(LOOK_AGAIN));
                (after(Instant::now(), bound), Then::LookAgain)
            }
            WaitingFor::FirstByte => {
                if let Some(hung_up) = self.hung_up_since {
                    return (Some(hung_up + LEAVE), Then::End);
                }
                let began = self.activity.began();
                let bound = after(began, settings.first_byte);
                // Input that the kernel already holds takes a turn of the runtime to arrive.
                let idle_grace_period = self
                    .idle_grace_period(began)
                    .map(|it| it.max(began + LOOK_AGAIN));
                match idle_grace_period {
                    Some(idle_grace_period)
                        if bound.is_none_or(|bound| idle_grace_period < bound) =>
                    {
                        (Some(idle_grace_period), Then::HangUp)
                    }
                    _ => (bound, fail(phase::FIRST_BYTE, settings.first_byte)),
                }
            }
            WaitingFor::Head => {
                let since = *self.head_since.get_or_insert_with(Instant::now);
                let then = fail(phase::REQUEST_HEAD, settings.head);
                (after(since, settings.head), then)
            }
            WaitingFor::Request => {
                let since = self.activity.idle_since();
                if let Some(leaving) = self.leaving_since {
                    return (Some(leaving.max(since) + LEAVE), Then::End);
                }
                let bound = after(since, settings.idle);
                let idle_grace_period = self.idle_grace_period(since);
                (
                    bound.into_iter().chain(idle_grace_period).min(),
                    Then::ShutDown,
                )
            }
        }
    }

    /// When a connection that is idle since `since` closes because of the shutdown.
    fn idle_grace_period(&self, since: Instant) -> Option<Instant> {
        let from = self.closing_since?.max(since);
        after(from, Some(self.settings.idle_grace_period))
    }

    fn shut_down(&mut self) -> SupervisorAction {
        self.leaving_since = Some(Instant::now());
        if self.stage >= DrainStage::Notified {
            self.activity.leave();
        }
        SupervisorAction::Shutdown
    }

    fn hang_up(&mut self) -> SupervisorAction {
        self.hung_up_since = Some(Instant::now());
        self.activity.hang_up();
        SupervisorAction::HangUp
    }

    /// Whether the timer, as it is set, fires in time.
    fn timer_suffices_for(&self, waiting: WaitingFor) -> bool {
        let suffices = match waiting {
            // Its end is observed when the timer fires.
            WaitingFor::Exchange => true,
            WaitingFor::Request => self.timer_has_idle && self.leaving_since.is_none(),
            WaitingFor::FirstByte | WaitingFor::Head | WaitingFor::Send(_) => false,
        };
        suffices && self.timer.as_ref().is_some_and(|timer| !timer.is_elapsed())
    }

    /// Resolves at `deadline`; the task is woken then or earlier.
    fn poll_timer(
        &mut self,
        deadline: Instant,
        same_waker: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let timer = match &mut self.timer {
            Some(timer) if !timer.is_elapsed() && timer.deadline() <= deadline => {
                if same_waker {
                    return Poll::Pending;
                }
                timer
            }
            // Already over, as with a grace period of zero, so the timer is left alone.
            _ if deadline <= Instant::now() => return Poll::Ready(()),
            Some(timer) => {
                timer.as_mut().reset(deadline);
                timer
            }
            None => {
                note_timer();
                self.timer.insert(Box::pin(sleep_until(deadline)))
            }
        };
        // Unconstrained, as for the next stage, because a timer polled without budget is not registered.
        ready!(Pin::new(&mut unconstrained(timer.as_mut())).poll(cx));
        if deadline <= Instant::now() {
            return Poll::Ready(());
        }
        // The timer was set to an earlier time, which has just passed.
        timer.as_mut().reset(deadline);
        Pin::new(&mut unconstrained(timer.as_mut())).poll(cx)
    }
}

/// The action at a deadline.
enum Then {
    LookAgain,
    ShutDown,
    HangUp,
    End,
    Fail(Elapsed),
}

fn fail(phase: TimeoutPhase, bound: Option<Duration>) -> Then {
    Then::Fail(Elapsed::new(phase, bound.unwrap_or(Duration::MAX)))
}

/// `since + bound`, or `None` without a bound.
fn after(since: Instant, bound: Option<Duration>) -> Option<Instant> {
    since.checked_add(bound?)
}

/// How long the end of a request may go unobserved.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long hyper may take to close a connection without requests, including the client's reply. During a
/// drain the time counts from the client's last frame.
const LEAVE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
