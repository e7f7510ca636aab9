//! A timer of the runtime.

use crate::{internal::note_timer, timeout::io_timeout::turn::Turn};
use pin_project::pin_project;
use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Wake, Waker},
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Wakes the task of one direction, also outside of a server.
#[pin_project]
#[derive(Debug)]
pub(in super::super) struct RuntimeTimer {
    #[pin]
    sleep: Sleep,
    waker: Waker,
    /// The poll of the connection's future in which the operation was polled last.
    turn: Option<Turn>,
    /// For operations outside of such a future.
    alarm: Option<Arc<Alarm>>,
}

impl RuntimeTimer {
    /// A timer that [`set`](Self::set) starts.
    pub(super) fn new(deadline: Instant, cx: &Context<'_>) -> Pin<Box<Self>> {
        note_timer();
        Box::pin(Self {
            sleep: sleep_until(deadline),
            waker: cx.waker().clone(),
            turn: None,
            alarm: None,
        })
    }

    pub(super) fn deadline(&self) -> Instant {
        self.sleep.deadline()
    }

    pub(super) fn is_armed(&self) -> bool {
        !self.sleep.is_elapsed()
    }

    /// Records a poll in `turn`; returns false if the caller must read the clock.
    #[inline]
    pub(super) fn touch(self: Pin<&mut Self>, turn: Option<Turn>, cx: &Context<'_>) -> bool {
        let again = turn.is_some() && self.turn == turn;
        if again || !self.is_armed() || !self.waker.will_wake(cx.waker()) {
            return false;
        }
        *self.project().turn = turn;
        true
    }

    /// Records that the operation was polled in `turn`.
    pub(super) fn set_turn(self: Pin<&mut Self>, turn: Option<Turn>) {
        *self.project().turn = turn;
    }

    pub(super) const fn turn(&self) -> Option<Turn> {
        self.turn
    }

    /// When the timer woke the task, if it recorded that.
    pub(super) fn fired_at(&self) -> Option<Instant> {
        self.alarm.as_ref()?.fired.get().copied()
    }

    /// Makes the timer wake the current task at `deadline`.
    pub(super) fn set(
        self: Pin<&mut Self>,
        deadline: Instant,
        turn: Option<Turn>,
        cx: &mut Context<'_>,
    ) {
        let mut timer = self.project();
        if timer.sleep.is_elapsed() || timer.sleep.deadline() != deadline {
            timer.sleep.as_mut().reset(deadline);
        }
        timer.waker.clone_from(cx.waker());
        *timer.turn = turn;
        *timer.alarm = turn.is_none().then(|| Alarm::new(cx.waker()));
        let polled = match timer.alarm.clone().map(Waker::from) {
            Some(alarm) => timer.sleep.poll(&mut Context::from_waker(&alarm)),
            None => timer.sleep.poll(cx),
        };
        if polled.is_ready() {
            // The timer fired in the meantime; the next poll handles it.
            cx.waker().wake_by_ref();
        }
    }
}

/// Records when it wakes the task, to distinguish a late task from a busy one.
#[derive(Debug)]
struct Alarm {
    task: Waker,
    fired: OnceLock<Instant>,
}

impl Alarm {
    fn new(task: &Waker) -> Arc<Self> {
        let (task, fired) = (task.clone(), OnceLock::new());
        Arc::new(Self { task, fired })
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let _already_fired = self.fired.set(Instant::now());
        self.task.wake_by_ref();
    }
}
