//! Deadlines of pending operations and calls, which the clock of a server checks.
//!
//! A timer of the runtime costs an allocation per connection, and the runtime looks at its timers whenever it
//! waits for events. A server has a thread and a table of its connections anyway, so the thread compares the
//! deadlines that it finds in the table with the time, and wakes the tasks whose deadline has passed.
//!
//! A deadline is only taken while the connection is in such a table, and while its [`Socket`](super::Socket) waits
//! with the same waker, because the clock wakes through that one. Otherwise the operation needs a timer. The call of
//! a service stores its own waker, and needs a timer if another call of the connection has done so.

use super::{ConnectionInfo, control::IoDirection};
use std::{
    sync::atomic::{AtomicU32, Ordering},
    task::Waker,
    time::Duration,
};
use tokio::time::Instant;

/// The deadline of one direction, in milliseconds since the accept.
///
/// They end after 49 days. Operations of a connection that is older arm a timer.
#[derive(Debug)]
pub(super) struct IoDeadline(AtomicU32);

/// A deadline that a clock checks; see [`ConnectionInfo::set_deadline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeadlineKey(u32);

impl IoDeadline {
    pub(super) const fn new() -> Self {
        Self(AtomicU32::new(UNWATCHED))
    }

    fn begin(&self) {
        self.0.store(NONE, Ordering::Relaxed);
    }

    /// Sets the deadline to `key`. False without a clock, or if another stream has set a deadline.
    fn set(&self, key: DeadlineKey, previous: Option<DeadlineKey>) -> bool {
        let replace = |current| {
            let is_free = current == NONE || previous.is_some_and(|key| key.0 == current);
            is_free.then_some(key.0)
        };
        // Release, so that a clock that sees the deadline also sees the waker.
        let set = self
            .0
            .fetch_update(Ordering::Release, Ordering::Relaxed, replace);
        set.is_ok()
    }

    /// Takes a deadline that is not after `now`.
    fn expire(&self, now: u32) -> bool {
        let due = self.0.load(Ordering::Relaxed);
        // `NONE` is the smallest value, and `UNWATCHED` the largest.
        due != NONE && due <= now && self.replace(due, NONE)
    }

    /// Ends the watch; true if a deadline was set.
    fn end(&self) -> bool {
        !matches!(self.0.swap(UNWATCHED, Ordering::AcqRel), NONE | UNWATCHED)
    }

    fn replace(&self, current: u32, new: u32) -> bool {
        let (acquire, relaxed) = (Ordering::AcqRel, Ordering::Relaxed);
        self.0
            .compare_exchange(current, new, acquire, relaxed)
            .is_ok()
    }
}

impl ConnectionInfo {
    /// Makes the clock wake `waker`, with which `direction` is pending, at `deadline`.
    ///
    /// It replaces the `previous` deadline. `None` if no clock can do that.
    pub(crate) fn set_deadline(
        &self,
        direction: IoDirection,
        deadline: Instant,
        previous: Option<DeadlineKey>,
        waker: &Waker,
    ) -> Option<DeadlineKey> {
        let slot = self.deadline(direction);
        if slot.0.load(Ordering::Relaxed) == UNWATCHED {
            return None;
        }
        let key = self.deadline_key(deadline)?;
        (self.control().is_woken_by(direction, waker) && slot.set(key, previous)).then_some(key)
    }

    /// Makes the clock wake `waker`, with which the call of a service is pending, at `deadline`.
    ///
    /// It replaces the `previous` deadline. `None` if no clock can do that, or if another call has a deadline.
    pub(crate) fn set_call_deadline(
        &self,
        deadline: Instant,
        previous: Option<DeadlineKey>,
        waker: &Waker,
    ) -> Option<DeadlineKey> {
        let slot = self.deadline(IoDirection::Call);
        if slot.0.load(Ordering::Relaxed) == UNWATCHED {
            return None;
        }
        let key = self.deadline_key(deadline)?;
        // The deadline decides which call may store its waker, and follows it.
        if !slot.set(DeadlineKey(SETTING), previous) {
            return None;
        }
        self.control().wait(IoDirection::Call, waker);
        slot.replace(SETTING, key.0).then_some(key)
    }

    /// Takes back what [`set_call_deadline`](Self::set_call_deadline) has set.
    pub(crate) fn clear_call_deadline(&self, key: DeadlineKey) {
        let slot = self.deadline(IoDirection::Call);
        if slot.replace(key.0, SETTING) || slot.replace(NONE, SETTING) {
            self.control().forget_waker(IoDirection::Call);
            slot.replace(SETTING, NONE);
        } else if slot.0.load(Ordering::Relaxed) == UNWATCHED {
            self.control().forget_waker(IoDirection::Call);
        }
    }

    /// A deadline in milliseconds since the accept.
    fn deadline_key(&self, deadline: Instant) -> Option<DeadlineKey> {
        // `None` if the connection was accepted by another runtime, whose clock is ahead.
        let since_accept = deadline.checked_duration_since(self.accepted_at())?;
        // Rounded up, so that the deadline has passed when it is reached, and that one which is set again stays where
        // it is.
        let rest = since_accept.subsec_nanos().div_ceil(NANOS_PER_MILLI);
        let millis = since_accept.as_secs().checked_mul(1000)?;
        let millis = u32::try_from(millis.checked_add(rest.into())?).ok()?;
        // Zero means none, and the largest numbers have a meaning, too.
        (millis < SETTING).then_some(DeadlineKey(millis.max(1)))
    }

    /// Whether the deadline is still ahead, as far as the clock knows.
    #[inline]
    pub(crate) fn has_deadline(&self, direction: IoDirection, key: DeadlineKey) -> bool {
        self.deadline(direction).0.load(Ordering::Relaxed) == key.0
    }

    /// When the deadline is.
    pub(crate) fn deadline_at(&self, key: DeadlineKey) -> Instant {
        self.accepted_at() + Duration::from_millis(key.0.into())
    }
}

/// A time at which the clock of a connection's server wakes the task that reads the connection.
#[derive(Clone, Copy, Debug)]
pub struct WakeUp(DeadlineKey);

impl WakeUp {
    /// Makes the clock wake the task of `waker`, with which the connection waits for input, at `deadline`.
    ///
    /// `None` if no clock can do that, or if the connection has another wake-up.
    pub fn set(info: &ConnectionInfo, deadline: Instant, waker: &Waker) -> Option<Self> {
        let slot = info.wake_up();
        if slot.0.load(Ordering::Relaxed) == UNWATCHED {
            return None;
        }
        let key = info.deadline_key(deadline)?;
        let is_woken = info.control().is_woken_by(IoDirection::Read, waker);
        (is_woken && slot.set(key, None)).then_some(Self(key))
    }

    /// Whether the time has come, or the clock has stopped.
    #[inline]
    pub fn has_come(self, info: &ConnectionInfo) -> bool {
        info.wake_up().0.load(Ordering::Relaxed) != self.0.0
    }
}

/// Lets a clock check the deadlines of a connection.
///
/// From now on, the caller must call [`expire`] from time to time, until it calls [`end_watch`].
pub fn begin_watch(info: &ConnectionInfo) {
    for direction in IoDirection::WITH_CALL {
        info.deadline(direction).begin();
    }
    info.wake_up().begin();
}

/// Takes the deadlines that have passed, and adds the wakers of their operations to `wakers`.
pub fn expire(info: &ConnectionInfo, now: Instant, wakers: &mut Vec<Waker>) {
    let age = now.saturating_duration_since(info.accepted_at());
    let now = u32::try_from(age.as_millis())
        .unwrap_or(SETTING - 1)
        .min(SETTING - 1);
    for direction in IoDirection::WITH_CALL {
        if info.deadline(direction).expire(now) {
            wakers.extend(info.control().stored_waker(direction));
        }
    }
    if info.wake_up().expire(now) {
        wakers.extend(info.control().stored_waker(IoDirection::Read));
    }
}

/// Ends the watch, and adds the wakers of operations with a deadline to `wakers`. They then arm a timer of their
/// runtime.
pub fn end_watch(info: &ConnectionInfo, wakers: &mut Vec<Waker>) {
    for direction in IoDirection::WITH_CALL {
        if info.deadline(direction).end() {
            wakers.extend(info.control().stored_waker(direction));
        }
    }
    if info.wake_up().end() {
        wakers.extend(info.control().stored_waker(IoDirection::Read));
    }
}

const NANOS_PER_MILLI: u32 = 1_000_000;

/// No operation has a deadline.
const NONE: u32 = 0;

/// A call is about to set its deadline. It is after all others.
const SETTING: u32 = u32::MAX - 1;

/// No clock checks the deadlines.
const UNWATCHED: u32 = u32::MAX;
