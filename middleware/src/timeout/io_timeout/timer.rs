//! The timer of one direction. It records when its operation was polled last.

use super::turn::Turn;
use crate::internal::note_timer;
use pin_project::pin_project;
use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Wake, Waker},
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Wakes the task of one direction.
#[pin_project]
#[derive(Debug)]
pub(super) struct WatchTimer {
    #[pin]
    sleep: Sleep,
    waker: Waker,
    /// The poll of the connection's future in which the operation was polled last.
    turn: Option<Turn>,
    /// For operations outside of such a future.
    alarm: Option<Arc<Alarm>>,
}

impl WatchTimer {
    /// Sets the timer in `slot`, creating it if needed.
    pub(super) fn set<'a>(
        slot: &'a mut Option<Pin<Box<Self>>>,
        deadline: Instant,
        cx: &Context<'_>,
    ) -> &'a mut Pin<Box<Self>> {
        match slot {
            Some(timer) => {
                timer.as_mut().project().sleep.reset(deadline);
                timer
            }
            None => {
                note_timer();
                // The timer starts on its first poll.
                slot.insert(Box::pin(Self {
                    sleep: sleep_until(deadline),
                    waker: cx.waker().clone(),
                    turn: None,
                    alarm: None,
                }))
            }
        }
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

    /// Whether the handler was waiting when the timer fired, if known.
    pub(super) fn was_watched(&self, turn: Option<Turn>) -> Option<bool> {
        turn?.continues(self.turn?)
    }

    /// When the timer woke the task, or its deadline if unknown.
    pub(super) fn fired_at(&self) -> Instant {
        let alarm = self.alarm.as_ref();
        let fired = alarm.and_then(|alarm| alarm.fired.get().copied());
        fired.unwrap_or_else(|| self.deadline())
    }

    /// Makes the timer wake the current task.
    pub(super) fn register(self: Pin<&mut Self>, turn: Option<Turn>, cx: &mut Context<'_>) {
        let timer = self.project();
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
