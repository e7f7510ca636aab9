//! A server of a pool, with its connections.

use super::{
    Balance, Server, ServerKey,
    checker::Checks,
    meters::Meters,
    pool::Shared,
    presented::Presented,
    standing::{Health, Millis, Standing},
    task::Task,
};
use portcullis_middleware::{
    Connection, ConnectionInfo,
    internal::{Slot, Slots},
};
use slab::Slab;
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// A server as it is configured now. A changed configuration makes a new one with the same state.
pub(super) struct Member {
    pub(super) key: ServerKey,
    pub(super) server: Arc<Server>,
    /// For the rendezvous hash.
    pub(super) hash: u64,
    pub(super) state: Arc<MemberState>,
}

/// The state of a server, which outlasts changes of its configuration.
pub(super) struct MemberState {
    pub(super) pool: Weak<Shared>,
    pub(super) meters: Meters,
    /// Reservations and connections.
    count: AtomicUsize,
    /// The same, with the connections that are established.
    live: Mutex<Slab<Option<ConnectionInfo>>>,
    pub(super) standing: Standing,
    pub(super) checks: Checks,
    /// Makes the checks.
    checker: Mutex<Option<Task>>,
    /// Whether the server was removed and keeps no connection any more.
    closing: AtomicBool,
    /// Credit of the weighted round robin, changed under its lock.
    pub(super) credit: AtomicI64,
    pub(super) connects: AtomicU64,
    pub(super) connect_failures: AtomicU64,
    pub(super) failures_in_a_row: AtomicU32,
    /// Ejections since the last success.
    pub(super) ejections: AtomicU32,
    /// Whether a connect or a check has succeeded at its address.
    reached: AtomicBool,
    pub(super) presented: Presented,
}

impl Member {
    pub(super) fn new(server: Arc<Server>, state: Arc<MemberState>) -> Self {
        let key = server.key();
        let hash = super::balance::hash(key.as_str().as_bytes());
        Self {
            key,
            server,
            hash,
            state,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        let max = self.server.max_connections();
        self.state.is_gone() || max.is_some_and(|max| self.state.count() >= max)
    }

    /// Reserves a connection if the server has fewer than it may have.
    pub(super) fn reserve(self: &Arc<Self>) -> Option<Reservation> {
        self.reserve_if(|_| true)
    }

    /// Reserves a connection if there are exactly `count`, so that a choice that has become outdated is made again.
    pub(super) fn reserve_at(self: &Arc<Self>, count: usize) -> Option<Reservation> {
        self.reserve_if(|current| current == count)
    }

    fn reserve_if(self: &Arc<Self>, is_right: impl Fn(usize) -> bool) -> Option<Reservation> {
        // Without a limit, any count but that of a server that is gone.
        let max = self.server.max_connections().unwrap_or(GONE);
        let add = |count: usize| (count < max && is_right(count)).then(|| count + 1);
        let (order, relaxed) = (Ordering::SeqCst, Ordering::Relaxed);
        let counter = &self.state.count;
        counter.fetch_update(order, relaxed, add).ok()?;
        self.state.meters.connections.add(1.0);
        let key = self.state.lock().insert(None);
        Some(Reservation {
            member: self.clone(),
            key,
            slot: Some(Slot::new(self.state.clone(), key)),
        })
    }
}

/// The count of a server that was removed and had no connection left.
const GONE: usize = usize::MAX;

impl MemberState {
    pub(super) fn new(pool: Weak<Shared>, meters: Meters) -> Arc<Self> {
        Arc::new(Self {
            pool,
            meters,
            count: AtomicUsize::new(0),
            live: Mutex::default(),
            standing: Standing::default(),
            checks: Checks::default(),
            checker: Mutex::default(),
            closing: AtomicBool::new(false),
            credit: AtomicI64::new(0),
            connects: AtomicU64::new(0),
            connect_failures: AtomicU64::new(0),
            failures_in_a_row: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            reached: AtomicBool::new(false),
            presented: Presented::default(),
        })
    }

    /// Connections, including those that are being made.
    pub(super) fn count(&self) -> usize {
        match self.count.load(Ordering::SeqCst) {
            GONE => 0,
            count => count,
        }
    }

    /// Lets nothing reserve a connection any more, if there is none.
    ///
    /// A choice among servers may have begun before one was removed. It must not count here once the server may have
    /// returned with another state.
    pub(super) fn go(&self) -> bool {
        let (order, relaxed) = (Ordering::SeqCst, Ordering::Relaxed);
        let gone = self.count.compare_exchange(0, GONE, order, relaxed);
        gone.is_ok()
    }

    pub(super) fn is_gone(&self) -> bool {
        self.count.load(Ordering::SeqCst) == GONE
    }

    /// Whether a connect or a check has succeeded at its address.
    pub(super) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    pub(super) fn set_reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    /// Whether the last connect failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failures_in_a_row.load(Ordering::Relaxed) > 0
    }

    /// Forgets failed connects and what followed from them.
    pub(super) fn forget_failures(&self, now: Millis) {
        self.failures_in_a_row.store(0, Ordering::Relaxed);
        self.end_ejections(now);
    }

    /// Uses the server again. The next ejection is as short as a first one.
    pub(super) fn end_ejections(&self, now: Millis) {
        self.ejections.store(0, Ordering::Relaxed);
        self.standing.end_ejection(now);
    }

    /// Starts again with another address.
    pub(super) fn start_again(&self, now: Millis) {
        self.forget_failures(now);
        self.checks.clear();
        self.presented.clear();
        self.reached.store(false, Ordering::Relaxed);
        self.standing.set_health(Health::Unknown);
    }

    /// Whether connections that are made from now on have to be closed.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Sets whether connections that are made from now on have to be closed.
    pub(super) fn set_closing(&self, closing: bool) {
        self.closing.store(closing, Ordering::SeqCst);
    }

    /// Begins to check the server, unless it is being checked.
    pub(super) fn check_by(&self, task: impl FnOnce() -> Task) {
        let mut checker = self.checker();
        if checker.as_ref().is_none_or(Task::is_finished) {
            *checker = Some(task());
        }
    }

    pub(super) fn stop_checks(&self) {
        *self.checker() = None;
    }

    fn checker(&self) -> MutexGuard<'_, Option<Task>> {
        self.checker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Force-closes all connections that are established.
    pub(super) fn close_all_because(&self, reason: &'static str) {
        let live: Vec<_> = self
            .lock()
            .iter()
            .filter_map(|(_, info)| info.clone())
            .collect();
        // Without the lock, because closing wakes tasks.
        for info in live {
            info.force_close_because(reason);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Option<ConnectionInfo>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots for MemberState {
    fn release(&self, key: usize) {
        let info = self.lock().remove(key);
        drop(info);
        let left = self.count.fetch_sub(1, Ordering::SeqCst) - 1;
        self.meters.connections.add(-1.0);
        if let Some(pool) = self.pool.upgrade() {
            pool.released(self, left);
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("key", &self.key)
            .field("count", &self.state.count())
            .finish_non_exhaustive()
    }
}

/// A connection that may be made to a server. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) member: Arc<Member>,
    key: usize,
    slot: Option<Slot>,
}

impl Reservation {
    /// Makes `connection` hold the reservation until it is dropped.
    pub(super) fn hold_by<IO>(mut self, connection: &mut Connection<IO>) {
        let info = connection.info().clone();
        if let Some(live) = self.member.state.lock().get_mut(self.key) {
            *live = Some(info);
        }
        if let Some(slot) = self.slot.take() {
            connection.hold_slot(slot);
        }
    }
}

/// The time at which a choice is made, and the state that it is based on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) millis: Millis,
    pub(super) slow_start: Duration,
    pub(super) balance: Balance,
}

impl Member {
    /// The current weight, in thousandths.
    pub(super) fn weight(&self, now: Now) -> u64 {
        let share = self.state.standing.share(now.millis, now.slow_start);
        u64::from(self.server.weight()) * share
    }
}
