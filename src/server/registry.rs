//! The table of live connections and their tasks.
//!
//! An entry is added when a connection is accepted. It is removed when both the connection (which may outlive the
//! task in an upgrade or a hand-off) and the task have ended, because the drain waits for both. The table is
//! sharded so that workers do not contend for a lock.

use portcullis_middleware::{
    ConnectionInfo,
    connection::ConnectionId,
    internal::{Slot, Slots, begin_watch, end_watch, expire},
};
use slab::Slab;
use std::{
    num::NonZero,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
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
}

/// Wakes the tasks that wait for connections to end, in any shard.
#[derive(Debug, Default)]
struct Ends {
    /// Wakes at each end.
    one: Notifier,
    /// Wakes when a shard becomes empty, so that a drain is not woken for each connection.
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
    entries: Mutex<Slab<TableEntry>>,
    len: AtomicUsize,
    /// How many entries were removed. Changed under the lock.
    gone: AtomicU64,
    ends: Arc<Ends>,
    /// Whether this is the only shard of a worker thread.
    has_own_thread: bool,
    /// Whether the worker thread does not answer.
    blocked: AtomicBool,
    /// The entry whose task is being polled, plus one; zero for none. Kept for worker threads only.
    polled: AtomicUsize,
}

#[derive(Debug)]
struct TableEntry {
    info: ConnectionInfo,
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
    pub(crate) fn enter(&self, worker: usize, info: ConnectionInfo) -> (TableKey, Slot, TaskGuard) {
        let shard = &self.shards()[worker];
        let entry = TableEntry {
            info,
            connection_alive: true,
            task: TaskState::Unknown,
        };
        let mut entries = shard.lock();
        if self.is_watched.load(Ordering::Relaxed) {
            begin_watch(&entry.info);
        }
        let key = entries.insert(entry);
        shard.len.store(entries.len(), Ordering::Relaxed);
        drop(entries);
        let place = TableKey { shard: worker, key };
        let connection = Slot::new(shard.clone(), key);
        let shard = shard.clone();
        (place, connection, TaskGuard { shard, key })
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
    /// It locks a part of a shard at a time, so that a large table does not hold up the workers, and wakes without
    /// the lock, because a waker runs foreign code.
    fn wake(&self, pick: impl Fn(&ConnectionInfo, &mut Vec<Waker>)) {
        let mut wakers = Vec::new();
        for shard in self.shards() {
            let mut keys = 0..CHUNK;
            loop {
                let entries = shard.lock();
                for entry in keys.clone().filter_map(|key| entries.get(key)) {
                    pick(&entry.info, &mut wakers);
                }
                let is_last = keys.end >= entries.capacity();
                drop(entries);
                wakers.drain(..).for_each(Waker::wake);
                if is_last {
                    break;
                }
                keys = keys.end..keys.end + CHUNK;
            }
        }
    }

    /// Stores the task that serves connection `id`, unless it ended already.
    pub(crate) fn set_task(&self, place: TableKey, id: ConnectionId, handle: JoinHandle<()>) {
        let mut entries = self.shards()[place.shard].lock();
        if let Some(entry) = entries.get_mut(place.key)
            && entry.info.id() == id
            && matches!(entry.task, TaskState::Unknown)
        {
            entry.task = TaskState::Running(handle);
        }
    }

    /// The number of connections whose stream or task has not ended.
    pub(crate) fn len(&self) -> usize {
        self.shards().iter().map(|shard| shard.lock().len()).sum()
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
        shard.lock().get(key).map(|entry| entry.info.clone())
    }

    /// How many connections have ended so far, including their task.
    pub(crate) fn gone(&self) -> u64 {
        let gone = |shard: &Arc<Shard>| shard.gone.load(Ordering::Relaxed);
        self.shards().iter().map(gone).sum()
    }

    /// The connections that are alive.
    pub(crate) fn connections(&self) -> Vec<ConnectionInfo> {
        self.collect(|entry| entry.connection_alive.then(|| entry.info.clone()))
    }

    /// The connections whose stream or task has not ended.
    pub(crate) fn all(&self) -> Vec<ConnectionInfo> {
        self.collect(|entry| Some(entry.info.clone()))
    }

    /// How many connections are alive.
    pub(crate) fn active(&self) -> usize {
        let alive = |shard: &Arc<Shard>| {
            shard
                .lock()
                .iter()
                .filter(|(_, entry)| entry.connection_alive)
                .count()
        };
        self.shards().iter().map(alive).sum()
    }

    /// The live connection with number `id`.
    pub(crate) fn find(&self, id: ConnectionId) -> Option<ConnectionInfo> {
        let found = |entry: &TableEntry| entry.connection_alive && entry.info.id() == id;
        self.shards().iter().find_map(|shard| {
            let entries = shard.lock();
            entries
                .iter()
                .find(|(_, entry)| found(entry))
                .map(|(_, entry)| entry.info.clone())
        })
    }

    /// Aborts all tasks.
    pub(crate) fn abort_tasks(&self) {
        for shard in self.shards() {
            for (_, entry) in shard.lock().iter() {
                if let TaskState::Running(handle) = &entry.task {
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
        let _listener = self.ends.shard.subscribe();
        loop {
            // Before the check, so that no end in between is missed.
            let emptied = self.ends.shard.notify.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            // Each shard that is not empty now wakes this when it becomes empty.
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn collect<T>(&self, mut pick: impl FnMut(&TableEntry) -> Option<T>) -> Vec<T> {
        let mut picked = Vec::new();
        for shard in self.shards() {
            picked.extend(shard.lock().iter().filter_map(|(_, entry)| pick(entry)));
        }
        picked
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Slab<TableEntry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, key: usize, change: impl FnOnce(&mut TableEntry)) {
        let mut entries = self.lock();
        let entry = &mut entries[key];
        change(entry);
        let over = !entry.connection_alive && matches!(entry.task, TaskState::Ended);
        let entry = over.then(|| entries.remove(key));
        let emptied = entries.is_empty();
        if over {
            self.len.store(entries.len(), Ordering::Relaxed);
            let gone = self.gone.load(Ordering::Relaxed) + 1;
            self.gone.store(gone, Ordering::Relaxed);
        }
        drop(entries);
        if let Some(entry) = entry {
            // A stream that was separated from its connection may live on.
            let mut wakers = Vec::new();
            end_watch(&entry.info, &mut wakers);
            wakers.into_iter().for_each(Waker::wake);
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

/// Ends the task's part of its entry when it is dropped.
#[derive(Debug)]
pub(crate) struct TaskGuard {
    shard: Arc<Shard>,
    key: usize,
}

impl TaskGuard {
    /// Whether a worker thread of its own polls the task, which then calls [`set_polled`](Self::set_polled).
    pub(crate) fn notes_polls(&self) -> bool {
        self.shard.has_own_thread
    }

    /// Notes that the task is being polled, so that the log can name it if it blocks its worker thread.
    #[inline]
    pub(crate) fn set_polled(&self, polled: bool) {
        let entry = if polled { self.key + 1 } else { 0 };
        self.shard.polled.store(entry, Ordering::Relaxed);
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        // Also drops the handle, which would keep the memory of the ended task.
        self.shard
            .leave(self.key, |entry| entry.task = TaskState::Ended);
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
mod tests {
    use super::*;
    use portcullis_middleware::{Connection, IoTimeoutLayer, testing::info};
    use std::{io, time::Duration};
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio_test::{assert_pending, assert_ready, task};
    use tower::{Service, ServiceBuilder};

    fn registry(workers: usize) -> Arc<Registry> {
        let registry = Arc::new(Registry::default());
        registry.start(workers);
        registry
    }

    #[test]
    fn an_entry_is_gone_when_both_connection_and_task_have_ended() {
        let registry = registry(2);
        let (_, connection, task) = registry.enter(1, info());
        assert_eq!((registry.len(), registry.active()), (1, 1));
        drop(task);
        assert_eq!((registry.len(), registry.active()), (1, 1));
        assert_eq!(registry.gone(), 0);
        drop(connection);
        assert_eq!((registry.len(), registry.active()), (0, 0));
        assert_eq!(registry.gone(), 1);
    }

    #[test]
    fn a_task_that_outlives_its_connection_is_waited_for_but_not_listed() {
        let registry = registry(1);
        let (_, connection, task) = registry.enter(0, info());
        drop(connection);
        assert!(registry.connections().is_empty());
        assert_eq!(registry.all().len(), 1);
        let mut emptied = task::spawn(registry.emptied());
        assert_pending!(emptied.poll());
        drop(task);
        assert!(emptied.is_woken());
        assert_ready!(emptied.poll());
    }

    #[test]
    fn who_waits_for_the_last_is_woken_by_the_last_of_a_worker_and_by_none_before() {
        let registry = registry(2);
        let [first, second, third] = [0, 0, 1].map(|worker| registry.enter(worker, info()));
        let mut emptied = task::spawn(registry.emptied());
        assert_pending!(emptied.poll());
        drop(first);
        assert!(!emptied.is_woken());
        drop(second);
        assert!(emptied.is_woken());
        assert_pending!(emptied.poll());
        drop(third);
        assert!(emptied.is_woken());
        assert_ready!(emptied.poll());
    }

    #[test]
    fn the_least_busy_worker_is_the_one_with_the_fewest_connections() {
        let registry = registry(3);
        let _first = registry.enter(0, info());
        let second = registry.enter(1, info());
        assert_eq!(registry.least_busy_worker(), 2);
        let _third = registry.enter(2, info());
        drop((second.1, second.2));
        assert_eq!(registry.least_busy_worker(), 1);
    }

    #[test]
    fn a_connection_is_found_by_its_number_while_it_lives() {
        let registry = registry(2);
        let (_, connection, _task) = registry.enter(0, info());
        let id = registry.connections()[0].id();
        assert!(registry.find(id).is_some());
        drop(connection);
        assert!(registry.find(id).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_wakes_what_waits_in_each_entry_of_each_shard() {
        let registry = registry(2);
        registry.begin_watch();
        let mut waiting: Vec<_> = (0..2 * CHUNK + 10)
            .map(|entry| silent(&registry, entry % 2))
            .collect();
        for waiting in &mut waiting {
            assert_pending!(waiting.call.poll());
        }
        registry.expire(Instant::now() + LIMIT / 4 - MOMENT);
        assert!(waiting.iter().all(|waiting| !waiting.call.is_woken()));
        registry.expire(Instant::now() + LIMIT / 4 + MOMENT);
        assert!(waiting.iter().all(|waiting| waiting.call.is_woken()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_clock_no_longer_checks_times_out_by_the_runtime() {
        let registry = registry(1);
        registry.begin_watch();
        let mut early = silent(&registry, 0);
        assert_pending!(early.call.poll());
        let mut removed = silent(&registry, 0);
        assert_pending!(removed.call.poll());
        // Its stream lives on in the call.
        drop(removed.entry);
        assert!(removed.call.is_woken());
        assert!(!early.call.is_woken());
        registry.end_watch();
        assert!(early.call.is_woken());
        let mut late = silent(&registry, 0);
        assert_pending!(late.call.poll());
        let begun = Instant::now();
        for call in [early.call, removed.call, late.call] {
            assert!(call.await.is_err());
        }
        assert_eq!(begun.elapsed(), LIMIT);
    }

    const LIMIT: Duration = Duration::from_secs(8);
    const MOMENT: Duration = Duration::from_millis(1);

    /// A client that sends nothing.
    struct Silent<F> {
        call: task::Spawn<F>,
        entry: (TableKey, Slot, TaskGuard),
        _client: DuplexStream,
    }

    /// Waits for a silent client, with a timeout.
    fn silent(
        registry: &Registry,
        worker: usize,
    ) -> Silent<impl Future<Output = io::Result<()>> + use<>> {
        let (ours, client) = duplex(1);
        let connection = Connection::accept(ours);
        let entry = registry.enter(worker, connection.info().clone());
        let mut stack = ServiceBuilder::new()
            .layer(IoTimeoutLayer::new().with_read_timeout(LIMIT))
            .service_fn(|mut connection: Connection<_>| async move {
                connection.read_u8().await.map(drop)
            });
        Silent {
            call: task::spawn(stack.call(connection)),
            entry,
            _client: client,
        }
    }

    #[tokio::test]
    async fn a_reused_entry_does_not_take_the_handle_of_its_predecessor() {
        let registry = registry(1);
        let first = info();
        let (place, connection, task) = registry.enter(0, first.clone());
        drop((connection, task));
        let (_, _connection, _task) = registry.enter(0, info());
        let late = tokio::spawn(std::future::pending());
        let abort = late.abort_handle();
        registry.set_task(place, first.id(), late);
        registry.abort_tasks();
        tokio::task::yield_now().await;
        assert!(!abort.is_finished());
        abort.abort();
    }

    #[test]
    fn the_end_of_a_connection_wakes_who_waits_for_room() {
        let registry = registry(1);
        let (_, connection, _task) = registry.enter(0, info());
        let mut released = task::spawn(registry.released());
        assert_pending!(released.poll());
        drop(connection);
        assert_ready!(released.poll());
    }
}
