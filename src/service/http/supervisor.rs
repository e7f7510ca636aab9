//! Enforces timeouts and graceful shutdown for one HTTP connection.

use super::{
    Settings,
    activity::{Activity, WaitingFor},
    phase,
};
use portcullis_middleware::{
    BoxError,
    drain::DrainStage,
    error::{Elapsed, TimeoutPhase},
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

/// Judges after each turn of hyper whether the connection may go on.
///
/// One timer serves all bounds. It is set once and left alone while requests come and go; when it fires
/// early it is set to what remains. So a request costs a few comparisons here, and no timer.
pub(super) struct Supervisor {
    settings: Arc<Settings>,
    activity: Arc<Activity>,
    timer: Option<Pin<Box<Sleep>>>,
    /// The timer fires before a connection that is idle has to go: its time only moves on.
    timer_has_idle: bool,
    /// Resolves at the next stage of the drain.
    next_stage: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    stage: DrainStage,
    /// Who is woken by the two above.
    waker: Option<Waker>,
    /// When the first part of a head had come.
    head_since: Option<Instant>,
    /// What was sent when it was first seen that more waits for the client, and when that was.
    stalled: Option<(u64, Instant)>,
    /// When the server accepted no more, as far as this connection saw.
    closing_since: Option<Instant>,
    /// When a client that had said nothing was given up; void if it spoke just then.
    hung_up_since: Option<Instant>,
    /// When hyper was told to shut down.
    leaving_since: Option<Instant>,
}

/// What the supervisor wants.
#[derive(Debug)]
pub(super) enum Step {
    /// Finish what is in flight, and end.
    Shutdown,
    /// End as if the client had: it has said nothing, and hyper ends such a connection politely.
    HangUp,
    /// End now.
    End(Result<(), BoxError>),
}

impl Supervisor {
    pub(super) const fn new(settings: Arc<Settings>, activity: Arc<Activity>) -> Self {
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

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// To be called whenever hyper waits.
    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let same_waker = self.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker()));
        // So it is after most requests, and all that these cost here.
        if same_waker
            && self.stage == DrainStage::Serving
            && !self.activity.info.is_draining()
            && self.timer_is_enough_for(self.activity.waiting())
        {
            self.head_since = None;
            self.stalled = None;
            return Poll::Pending;
        }
        self.judge(same_waker, cx)
    }

    #[inline(never)]
    fn judge(&mut self, same_waker: bool, cx: &mut Context<'_>) -> Poll<Step> {
        if !same_waker {
            self.waker = Some(cx.waker().clone());
        }
        self.see_stage(same_waker, cx);
        // A client that said nothing yet may wait for our settings before it does: it gets to ask first.
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
                Then::End => return Poll::Ready(Step::End(Ok(()))),
                Then::Fail(elapsed) => return Poll::Ready(Step::End(Err(elapsed.into()))),
            }
        }
    }

    /// Sees how far the drain is; what is waited for ends earlier as it goes on.
    fn see_stage(&mut self, same_waker: bool, cx: &mut Context<'_>) {
        let Some(signal) = self.activity.info.drain_signal() else {
            return;
        };
        let stage = signal.stage();
        // Whoever waits while the server serves is woken by the announcement alone. Later the wake may be
        // that of a stage which was seen already, and the wait begins anew.
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
            // Where hyper used up the task's budget, it would not begin to wait.
            let wait = self
                .next_stage
                .get_or_insert_with(|| Box::pin(unconstrained(signal.clone().reached(next))));
            // Reached just now: this is polled again then, at once.
            if wait.as_mut().poll(cx).is_ready() {
                self.next_stage = None;
                cx.waker().wake_by_ref();
            }
        }
    }

    /// Until when the connection may wait for this, and what follows.
    fn next(&mut self, waiting: WaitingFor) -> (Option<Instant>, Then) {
        // The IO has bounds of its own for that.
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
            // Whether it ends is seen at the latest when the bound after it could be reached.
            WaitingFor::Exchange => {
                let bound = match self.stage {
                    DrainStage::Closing => Some(settings.idle_grace_period),
                    _ => settings.idle,
                };
                // Not in each turn, though it should be nothing.
                let bound = bound.map(|bound| bound.max(LOOK_AGAIN));
                (after(Instant::now(), bound), Then::LookAgain)
            }
            WaitingFor::FirstByte => {
                if let Some(hung_up) = self.hung_up_since {
                    return (Some(hung_up + LEAVE), Then::End);
                }
                let began = self.activity.began();
                let bound = after(began, settings.first_byte);
                // What a client from the queue has sent takes a turn of the runtime to be seen.
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

    /// When a connection that is idle since then has to go because its server does.
    fn idle_grace_period(&self, since: Instant) -> Option<Instant> {
        let from = self.closing_since?.max(since);
        after(from, Some(self.settings.idle_grace_period))
    }

    fn shut_down(&mut self) -> Step {
        self.leaving_since = Some(Instant::now());
        if self.stage >= DrainStage::Notified {
            self.activity.leave();
        }
        Step::Shutdown
    }

    fn hang_up(&mut self) -> Step {
        self.hung_up_since = Some(Instant::now());
        self.activity.hang_up();
        Step::HangUp
    }

    /// Whether the timer, as it is set, sees in time what could follow.
    fn timer_is_enough_for(&self, waiting: WaitingFor) -> bool {
        let enough = match waiting {
            // Whether it has ended is seen when the timer fires.
            WaitingFor::Exchange => true,
            WaitingFor::Request => self.timer_has_idle && self.leaving_since.is_none(),
            WaitingFor::FirstByte | WaitingFor::Head | WaitingFor::Send(_) => false,
        };
        enough && self.timer.as_ref().is_some_and(|timer| !timer.is_elapsed())
    }

    /// Resolves at `deadline`; the task is woken then, or before.
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
            // Over already, as a last call of no time is: no timer is set for that.
            _ if deadline <= Instant::now() => return Poll::Ready(()),
            Some(timer) => {
                timer.as_mut().reset(deadline);
                timer
            }
            None => self.timer.insert(Box::pin(sleep_until(deadline))),
        };
        // As for the next stage: who waits without budget is never woken.
        ready!(Pin::new(&mut unconstrained(timer.as_mut())).poll(cx));
        if deadline <= Instant::now() {
            return Poll::Ready(());
        }
        // It was set to an earlier time, and that has come just now.
        timer.as_mut().reset(deadline);
        Pin::new(&mut unconstrained(timer.as_mut())).poll(cx)
    }
}

/// What follows when a deadline is reached.
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

/// `since + bound`; `None` for never.
fn after(since: Instant, bound: Option<Duration>) -> Option<Instant> {
    since.checked_add(bound?)
}

/// How long it may last until the end of an exchange is seen, where nothing else shows it.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long hyper may take to end a connection without requests: to say so, and to hear the answer. In a drain
/// it is the silence of the client that counts.
const LEAVE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
