//! Wakes a call at its next check, by the clock of its server or by a timer of the runtime.

use crate::{
    ConnectionInfo,
    connection::{control::IoDirection, deadline::DeadlineKey},
    internal::note_timer,
};
use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};
use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

/// The timer of one call. The connection is the same in each method.
#[derive(Debug, Default)]
pub(super) enum CheckTimer {
    /// Not armed yet, or taken back.
    #[default]
    Unset,
    Clock {
        key: DeadlineKey,
        /// That of the last poll, which the clock wakes.
        waker: Waker,
    },
    Runtime(Pin<Box<Sleep>>),
}

impl CheckTimer {
    /// Whether it is armed for the current task. This is all that most polls need.
    #[inline]
    pub(super) fn is_armed(&self, info: &ConnectionInfo, cx: &Context<'_>) -> bool {
        match self {
            Self::Clock { key, waker } => {
                info.has_deadline(IoDirection::Call, *key) && waker.will_wake(cx.waker())
            }
            Self::Unset | Self::Runtime(_) => false,
        }
    }

    /// Resolves at `deadline`, which may differ from that of the last poll.
    ///
    /// The clock of a server is up to 50 ms late, so it is used only if `by_clock` is set.
    pub(super) fn poll(
        &mut self,
        info: &ConnectionInfo,
        deadline: Instant,
        by_clock: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if by_clock && !matches!(self, Self::Runtime(_)) {
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            let previous = match self {
                Self::Clock { key, .. } => Some(*key),
                _ => None,
            };
            if let Some(key) = info.set_call_deadline(deadline, previous, cx.waker()) {
                let waker = cx.waker().clone();
                *self = Self::Clock { key, waker };
                return Poll::Pending;
            }
            self.clear(info);
        }
        let Self::Runtime(sleep) = self else {
            note_timer();
            *self = Self::Runtime(Box::pin(sleep_until(deadline)));
            return self.poll(info, deadline, false, cx);
        };
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        // Without tokio's budget, which a busy connection uses up in each poll.
        pin!(unconstrained(sleep.as_mut())).poll(cx)
    }

    /// Takes the deadline back.
    pub(super) fn clear(&mut self, info: &ConnectionInfo) {
        if let Self::Clock { key, .. } = self {
            info.clear_call_deadline(*key);
        }
        *self = Self::Unset;
    }
}
