//! The timer of one direction. It remembers when its operation was watched last.

use super::turn::Turn;
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
pub(super) struct Timer {
    #[pin]
    sleep: Sleep,
    waker: Waker,
    /// In which poll of the connection's future the operation was polled last.
    turn: Option<Turn>,
    /// For an operation outside of such a future.
    alarm: Option<Arc<Alarm>>,
}

impl Timer {
    /// Sets the timer in `slot`, a new one if there is none.
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
            // It begins when it is first polled.
            None => slot.insert(Box::pin(Self {
                sleep: sleep_until(deadline),
                waker: cx.waker().clone(),
                turn: None,
                alarm: None,
            })),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.sleep.deadline()
    }

    pub(super) fn is_armed(&self) -> bool {
        !self.sleep.is_elapsed()
    }

    /// Notes that the operation was polled in `turn`; false where that takes a look at the clock.
    #[inline]
    pub(super) fn touch(self: Pin<&mut Self>, turn: Option<Turn>, cx: &Context<'_>) -> bool {
        let again = turn.is_some() && self.turn == turn;
        if again || !self.is_armed() || !self.waker.will_wake(cx.waker()) {
            return false;
        }
        *self.project().turn = turn;
        true
    }

    /// Notes that the operation was polled in `turn`.
    pub(super) fn note(self: Pin<&mut Self>, turn: Option<Turn>) {
        *self.project().turn = turn;
    }

    /// Whether the operation was watched when the timer fired; `None` where that cannot be seen.
    pub(super) fn was_watched(&self, turn: Option<Turn>) -> Option<bool> {
        turn?.continues(self.turn?)
    }

    /// When the timer woke the task, as far as is known.
    pub(super) fn fired_at(&self) -> Instant {
        let alarm = self.alarm.as_ref();
        let rang = alarm.and_then(|alarm| alarm.rang.get().copied());
        rang.unwrap_or_else(|| self.deadline())
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
            // It fired in between; the next poll sees it.
            cx.waker().wake_by_ref();
        }
    }
}

/// Notes when it wakes the task, which tells a late task from one that was busy elsewhere.
#[derive(Debug)]
struct Alarm {
    task: Waker,
    rang: OnceLock<Instant>,
}

impl Alarm {
    fn new(task: &Waker) -> Arc<Self> {
        let (task, rang) = (task.clone(), OnceLock::new());
        Arc::new(Self { task, rang })
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let _rang_before = self.rang.set(Instant::now());
        self.task.wake_by_ref();
    }
}
