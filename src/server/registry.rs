//! The table of live connections and their tasks.
//!
//! An entry is added when a connection is accepted. It is removed when both the connection (which may outlive the
//! task in an upgrade or a hand-off) and the task have ended, because the drain waits for both. The table is
//! sharded so that workers do not contend for a lock. Each shard counts the connections of each listener, so that
//! a listener can be drained while the others go on.

use portcullis_middleware::{
    ConnectionInfo,
    connection::ConnectionId,
    error::Panicked,
    internal::{Slot, Slots, begin_watch, end_watch, expire},
};
use slab::Slab;
use std::{
    num::NonZero,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Waker,
    thread::available_parallelism,
};
use tokio::{sync::Notify, task::JoinHandle, time::Instant};

/// Live connections, by the worker that serves them.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// Empty until the server starts, when the number of workers is known.
    shards: OnceLock<Box<[Arc<Shard>]>>,
    next: Apart,
    ends: Arc<Ends>,
    /// Whether the clock [checks the deadlines](Self::expire). Changed before the locks are taken.
    is_watched: AtomicBool,
    /// The keys in use.
    listeners: Mutex<Slab<()>>,
}

/// A listener of the server, as the table knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerKey(u32);

/// Wakes the tasks that wait for connections to end, in any shard.
#[derive(Debug, Default)]
struct Ends {
    /// Wakes at each end.
    one: Notifier,
    /// Wakes when a listener has no more connections in a shard, so that a drain is not woken for each connection.
    shard: Notifier,
}

/// Counts the connections that any worker may serve.
///
/// On a cache line of its own, because each accept changes it, and its neighbours are read at each end.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart(AtomicUsize);

/// On a cache line of its own, so that workers do not share one.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    entries: Mutex<Entries>,
    len: AtomicUsize,
    ends: Arc<Ends>,
    /// Whether this is the only shard of a worker thread.
    has_own_thread: bool,
    /// Whether the worker thread does not answer.
    blocked: AtomicBool,
    /// The entry whose task is being polled, plus one; zero for none. Kept for worker threads only.
    polled: AtomicUsize,
}

#[derive(Debug, Default)]
struct Entries {
    table: Slab<TableEntry>,
    /// One for each listener, by its key.
    counts: Vec<Counts>,
}

/// The connections of one listener in one shard.
#[derive(Clone, Debug, Default)]
struct Counts {
    /// How many are in the table.
    live: usize,
    /// Those of them whose connection is alive.
    alive: usize,
    /// How many were removed.
    gone: u64,
}

#[derive(Debug)]
struct TableEntry {
    info: ConnectionInfo,
    listener: ListenerKey,
    connection_alive: bool,
    task: TaskState,
}

#[derive(Debug)]
enum TaskState {
    Unknown,
    Running(JoinHandle<()>),
    Ended,
}

/// Where a connection is in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableKey {
    shard: usize,
    key: usize,
}

impl Registry {
    /// Creates a shard per worker, or per available CPU for zero workers.
    pub(crate) fn start(&self, workers: usize) {
        let has_own_thread = workers > 0;
        let shards = match workers {
            0 => available_parallelism().map_or(1, NonZero::get),
            workers => workers,
        };
        self.shards
            .get_or_init(|| (0..shards).map(|_| self.shard(has_own_thread)).collect());
    }

    fn shard(&self, has_own_thread: bool) -> Arc<Shard> {
        Arc::new(Shard {
            has_own_thread,
            ends: self.ends.clone(),
            ..Shard::default()
        })
    }

    /// Adds a listener, after the [start](Self::start).
    pub(crate) fn add_listener(&self) -> ListenerKey {
        let key = self.lock_listeners().insert(());
        for shard in self.shards() {
            let counts = &mut shard.lock().counts;
            counts.resize(counts.len().max(key + 1), Counts::default());
            counts[key] = Counts::default();
        }
        ListenerKey(u32::try_from(key).expect("fewer than 2^32 listeners"))
    }

    /// Removes a listener without connections. Its key may be used again.
    pub(crate) fn remove_listener(&self, listener: ListenerKey) {
        self.lock_listeners().remove(listener.index());
    }

    fn lock_listeners(&self) -> MutexGuard<'_, Slab<()>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn shards(&self) -> &[Arc<Shard>] {
        self.shards.get().map_or(&[], |shards| shards)
    }

    /// A worker for a connection that any worker may serve.
    pub(crate) fn any_worker(&self) -> usize {
        self.next.0.fetch_add(1, Ordering::Relaxed) % self.shards().len()
    }

    /// The worker with the fewest connections, of those that answer if any do.
    pub(crate) fn least_busy_worker(&self) -> usize {
        let busy = |worker: &usize| {
            let shard = &self.shards()[*worker];
            let blocked = shard.blocked.load(Ordering::Relaxed);
            (blocked, shard.len.load(Ordering::Relaxed))
        };
        (0..self.shards().len()).min_by_key(busy).unwrap_or(0)
    }

    /// Adds a connection that `worker` serves. The connection holds the slot, and its task the guard.
    pub(crate) fn enter(
        &self,
        worker: usize,
        listener: ListenerKey,
        info: ConnectionInfo,
    ) -> (TableKey, Slot, TaskGuard) {
        let shard = &self.shards()[worker];
        let entry = TableEntry {
            info,
            listener,
            connection_alive: true,
            task: TaskState::Unknown,
        };
        let mut entries = shard.lock();
        if self.is_watched.load(Ordering::Relaxed) {
            begin_watch(&entry.info);
        }
        let counts = &mut entries.counts[listener.index()];
        counts.live += 1;
        counts.alive += 1;
        let key = entries.table.insert(entry);
        shard.len.store(entries.table.len(), Ordering::Relaxed);
        drop(entries);
        let place = TableKey { shard: worker, key };
        let connection = Slot::new(shard.clone(), key);
        let guard = TaskGuard {
            shard: shard.clone(),
            key: u32::try_from(key).expect("fewer than 2^32 connections"),
            notes_polls: shard.has_own_thread,
            is_recorded: false,
        };
        (place, connection, guard)
    }

    /// Lets the clock check the deadlines of connections that are added from now on.
    ///
    /// It must call [`expire`](Self::expire) until it calls [`end_watch`](Self::end_watch).
    pub(crate) fn begin_watch(&self) {
        self.is_watched.store(true, Ordering::Relaxed);
    }

    /// Wakes the operations whose deadline has passed.
    pub(crate) fn expire(&self, now: Instant) {
        self.wake(|info, wakers| expire(info, now, wakers));
    }

    /// Leaves the deadlines to the timers of the runtimes.
    pub(crate) fn end_watch(&self) {
        self.is_watched.store(false, Ordering::Relaxed);
        self.wake(end_watch);
    }

    /// Wakes the tasks whose wakers `pick` adds for each connection.
    ///
    /// It wakes without the lock, because a waker runs foreign code.
    fn wake(&self, pick: impl Fn(&ConnectionInfo, &mut Vec<Waker>)) {
        let mut wakers = Vec::new();
        for shard in self.shards() {
            let mut part = Some(0);
            while let Some(begin) = part {
                part = shard.visit(begin, |entry| pick(&entry.info, &mut wakers));
                wake_all(wakers.drain(..));
            }
        }
    }

    /// Stores the task that serves connection `id`, unless it ended already.
    pub(crate) fn set_task(&self, place: TableKey, id: ConnectionId, handle: JoinHandle<()>) {
        let mut entries = self.shards()[place.shard].lock();
        if let Some(entry) = entries.table.get_mut(place.key)
            && entry.info.id() == id
            && matches!(entry.task, TaskState::Unknown)
        {
            entry.task = TaskState::Running(handle);
        }
    }

    /// The number of connections whose stream or task has not ended.
    pub(crate) fn len(&self) -> usize {
        let len = |shard: &Arc<Shard>| shard.lock().table.len();
        self.shards().iter().map(len).sum()
    }

    /// The number of connections of `listener` whose stream or task has not ended.
    pub(crate) fn len_of(&self, listener: ListenerKey) -> usize {
        let live = |shard: &Arc<Shard>| shard.lock().counts[listener.index()].live;
        self.shards().iter().map(live).sum()
    }

    /// Whether no connection seems to be there; costs no lock.
    pub(crate) fn looks_empty(&self) -> bool {
        let is_empty = |shard: &Arc<Shard>| shard.len.load(Ordering::Relaxed) == 0;
        self.shards().iter().all(is_empty)
    }

    /// Notes whether `worker` answers.
    pub(crate) fn set_blocked(&self, worker: usize, blocked: bool) {
        self.shards()[worker]
            .blocked
            .store(blocked, Ordering::Relaxed);
    }

    /// The connection whose task `worker` is polling.
    pub(crate) fn polled(&self, worker: usize) -> Option<ConnectionInfo> {
        let shard = &self.shards()[worker];
        let key = shard.polled.load(Ordering::Relaxed).checked_sub(1)?;
        let entries = shard.lock();
        entries.table.get(key).map(|entry| entry.info.clone())
    }

    /// How many connections of `listener` have ended so far, including their task.
    pub(crate) fn gone(&self, listener: ListenerKey) -> u64 {
        let gone = |shard: &Arc<Shard>| shard.lock().counts[listener.index()].gone;
        self.shards().iter().map(gone).sum()
    }

    /// The connections that are alive.
    pub(crate) fn connections(&self) -> Vec<ConnectionInfo> {
        self.collect(|entry| entry.connection_alive)
    }

    /// The connections of `listener` that are alive.
    pub(crate) fn connections_of(&self, listener: ListenerKey) -> Vec<ConnectionInfo> {
        self.collect(|entry| entry.listener == listener && entry.connection_alive)
    }

    /// The connections of `listener` whose stream or task has not ended.
    pub(crate) fn all_of(&self, listener: ListenerKey) -> Vec<ConnectionInfo> {
        self.collect(|entry| entry.listener == listener)
    }

    /// How many connections are alive.
    pub(crate) fn active(&self) -> usize {
        let alive =
            |shard: &Arc<Shard>| shard.lock().counts.iter().map(|it| it.alive).sum::<usize>();
        self.shards().iter().map(alive).sum()
    }

    /// How many connections of `listener` are alive.
    pub(crate) fn active_of(&self, listener: ListenerKey) -> usize {
        let alive = |shard: &Arc<Shard>| shard.lock().counts[listener.index()].alive;
        self.shards().iter().map(alive).sum()
    }

    /// The live connection with number `id`.
    pub(crate) fn find(&self, id: ConnectionId) -> Option<ConnectionInfo> {
        self.collect(|entry| entry.connection_alive && entry.info.id() == id)
            .pop()
    }

    /// Aborts all tasks of `listener`.
    pub(crate) fn abort_tasks(&self, listener: ListenerKey) {
        for shard in self.shards() {
            for (_, entry) in shard.lock().table.iter() {
                if entry.listener == listener
                    && let TaskState::Running(handle) = &entry.task
                {
                    handle.abort();
                }
            }
        }
    }

    /// Resolves when a connection ends after this call.
    pub(crate) async fn released(&self) {
        let _listener = self.ends.one.subscribe();
        self.ends.one.notify.notified().await;
    }

    /// Resolves when the table is empty.
    pub(crate) async fn emptied(&self) {
        self.wait_until(|| self.len() == 0).await;
    }

    /// Resolves when no connection of `listener` is in the table.
    pub(crate) async fn emptied_of(&self, listener: ListenerKey) {
        self.wait_until(|| self.len_of(listener) == 0).await;
    }

    async fn wait_until(&self, is_empty: impl Fn() -> bool) {
        let _listener = self.ends.shard.subscribe();
        loop {
            // Before the check, so that no end in between is missed.
            let emptied = self.ends.shard.notify.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            // Each listener that has connections in a shard now wakes this when it has none there.
            if is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn collect(&self, pick: impl Fn(&TableEntry) -> bool) -> Vec<ConnectionInfo> {
        let mut picked = Vec::new();
        for shard in self.shards() {
            let mut part = Some(0);
            while let Some(begin) = part {
                part = shard.visit(begin, |entry| {
                    if pick(entry) {
                        picked.push(entry.info.clone());
                    }
                });
            }
        }
        picked
    }
}

impl ListenerKey {
    const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Visits a part of the table from the key `begin`, so that a large one does not hold up the worker.
    ///
    /// Returns where the next part begins; `None` after the last one. An entry that stays is visited once.
    fn visit(&self, begin: usize, mut each: impl FnMut(&TableEntry)) -> Option<usize> {
        let end = begin + CHUNK;
        let entries = self.lock();
        let keys = begin..end;
        keys.filter_map(|key| entries.table.get(key))
            .for_each(&mut each);
        (end < entries.table.capacity()).then_some(end)
    }

    fn leave(&self, key: usize, change: impl FnOnce(&mut TableEntry)) {
        let mut guard = self.lock();
        let entries = &mut *guard;
        let entry = &mut entries.table[key];
        let was_alive = entry.connection_alive;
        change(entry);
        if was_alive && !entry.connection_alive {
            entries.counts[entry.listener.index()].alive -= 1;
        }
        let over = !entry.connection_alive && matches!(entry.task, TaskState::Ended);
        let mut emptied = false;
        let entry = over.then(|| {
            let entry = entries.table.remove(key);
            let counts = &mut entries.counts[entry.listener.index()];
            counts.live -= 1;
            counts.gone += 1;
            emptied = counts.live == 0;
            self.len.store(entries.table.len(), Ordering::Relaxed);
            entry
        });
        drop(guard);
        if let Some(entry) = entry {
            // A stream that was separated from its connection may live on.
            let mut wakers = Vec::new();
            end_watch(&entry.info, &mut wakers);
            wake_all(wakers);
        }
        self.ends.one.notify();
        if emptied {
            self.ends.shard.notify();
        }
    }
}

impl Slots for Shard {
    /// Ends the connection's part of its entry when the connection is dropped.
    fn release(&self, key: usize) {
        self.leave(key, |entry| entry.connection_alive = false);
    }
}

/// Ends the task's part of its entry when it is dropped. It is two words in size.
#[derive(Debug)]
pub(crate) struct TaskGuard {
    shard: Arc<Shard>,
    key: u32,
    /// Whether a worker thread of its own polls the task. A copy, because the table's memory changes with each accept.
    notes_polls: bool,
    /// Whether the end of the connection was recorded.
    pub(crate) is_recorded: bool,
}

impl TaskGuard {
    /// Notes that the task is being polled, so that the log can name it if it blocks its worker thread.
    #[inline]
    pub(crate) fn set_polled(&self, polled: bool) {
        if self.notes_polls {
            let entry = if polled { self.key as usize + 1 } else { 0 };
            self.shard.polled.store(entry, Ordering::Relaxed);
        }
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        // Also drops the handle, which would keep the memory of the ended task.
        self.shard
            .leave(self.key as usize, |entry| entry.task = TaskState::Ended);
    }
}

/// Wakes tasks. A waker runs foreign code, and one that panics must not lose the others.
fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        let _reported = Panicked::catch(|| waker.wake());
    }
}

/// Wakes waiting tasks. Costs one load when no task waits.
#[derive(Debug, Default)]
struct Notifier {
    subscriptions: AtomicUsize,
    notify: Notify,
}

impl Notifier {
    /// Makes `notify` wake tasks until the returned value is dropped.
    fn subscribe(&self) -> Subscription<'_> {
        self.subscriptions.fetch_add(1, Ordering::SeqCst);
        Subscription(&self.subscriptions)
    }

    fn notify(&self) {
        if self.subscriptions.load(Ordering::SeqCst) > 0 {
            self.notify.notify_waiters();
        }
    }
}

struct Subscription<'a>(&'a AtomicUsize);

impl Drop for Subscription<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Entries that are visited under one lock, for some 20 µs.
const CHUNK: usize = 256;

#[cfg(test)]
mod tests;
