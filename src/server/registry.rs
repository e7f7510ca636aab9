//! The table of live connections and their tasks.
//!
//! A slot is taken when a connection is accepted and free again when both its connection (which may
//! live on in an upgrade or a hand-off) and its task have ended: the drain waits for both. The table
//! is divided so that workers do not wait for each other.

use portcullis_middleware::{ConnectionInfo, connection::ConnectionId};
use slab::Slab;
use std::{
    num::NonZero,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::available_parallelism,
};
use tokio::{sync::Notify, task::JoinHandle};

/// Live connections, by the worker that serves them.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// Empty until the server starts: only then the number of workers is known.
    shards: OnceLock<Box<[Shard]>>,
    next: Apart,
    /// Rings at each end.
    released: Bell,
    /// Rings when a shard becomes empty, so that a drain is not woken for each connection.
    emptied: Bell,
}

/// Counts the connections that may go to any worker, on a cache line of its own: each accept changes
/// it, and what stands beside it is read at each end.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart(AtomicUsize);

/// On a cache line of its own, so that workers do not disturb each other.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    slots: Mutex<Slab<Slot>>,
    len: AtomicUsize,
    /// How many slots became free again; changed under the lock.
    gone: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    info: ConnectionInfo,
    connection_alive: bool,
    task: Task,
}

#[derive(Debug)]
enum Task {
    Unknown,
    Running(JoinHandle<()>),
    Ended,
}

/// Where a connection stands in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    shard: usize,
    key: usize,
}

impl Registry {
    /// Makes room for `workers`; without any of their own, for as many threads as may run at once.
    pub(crate) fn start(&self, workers: usize) {
        let shards = match workers {
            0 => available_parallelism().map_or(1, NonZero::get),
            workers => workers,
        };
        self.shards
            .get_or_init(|| (0..shards).map(|_| Shard::default()).collect());
    }

    fn shards(&self) -> &[Shard] {
        self.shards.get().map_or(&[], |shards| shards)
    }

    /// A worker for a connection that may go to any.
    pub(crate) fn any_worker(&self) -> usize {
        self.next.0.fetch_add(1, Ordering::Relaxed) % self.shards().len()
    }

    /// The worker with the fewest connections.
    pub(crate) fn least_busy_worker(&self) -> usize {
        let busy = |worker: &usize| self.shards()[*worker].len.load(Ordering::Relaxed);
        (0..self.shards().len()).min_by_key(busy).unwrap_or(0)
    }

    /// Enters a connection that `worker` serves. Its guard rides in the connection, its task guard
    /// in the task.
    pub(crate) fn enter(
        self: &Arc<Self>,
        worker: usize,
        info: ConnectionInfo,
    ) -> (Place, ConnectionGuard, TaskGuard) {
        let shard = &self.shards()[worker];
        let slot = Slot {
            info,
            connection_alive: true,
            task: Task::Unknown,
        };
        let mut slots = shard.lock();
        let key = slots.insert(slot);
        shard.len.store(slots.len(), Ordering::Relaxed);
        drop(slots);
        let place = Place { shard: worker, key };
        let registry = self.clone();
        let connection = ConnectionGuard { registry, place };
        let registry = self.clone();
        (place, connection, TaskGuard { registry, place })
    }

    /// Notes the task that serves connection `id`, unless it ended already.
    pub(crate) fn set_task(&self, place: Place, id: ConnectionId, handle: JoinHandle<()>) {
        let mut slots = self.shards()[place.shard].lock();
        if let Some(slot) = slots.get_mut(place.key)
            && slot.info.id() == id
            && matches!(slot.task, Task::Unknown)
        {
            slot.task = Task::Running(handle);
        }
    }

    /// Connections and tasks that have not ended.
    pub(crate) fn len(&self) -> usize {
        self.shards().iter().map(|shard| shard.lock().len()).sum()
    }

    /// How many have ended so far, connection and task.
    pub(crate) fn gone(&self) -> u64 {
        let gone = |shard: &Shard| shard.gone.load(Ordering::Relaxed);
        self.shards().iter().map(gone).sum()
    }

    /// The connections that are alive.
    pub(crate) fn connections(&self) -> Vec<ConnectionInfo> {
        self.collect(|slot| slot.connection_alive.then(|| slot.info.clone()))
    }

    /// All that has not ended, tasks without a connection included.
    pub(crate) fn all(&self) -> Vec<ConnectionInfo> {
        self.collect(|slot| Some(slot.info.clone()))
    }

    /// How many connections are alive.
    pub(crate) fn active(&self) -> usize {
        let alive = |shard: &Shard| {
            shard
                .lock()
                .iter()
                .filter(|(_, s)| s.connection_alive)
                .count()
        };
        self.shards().iter().map(alive).sum()
    }

    /// The live connection with number `id`.
    pub(crate) fn find(&self, id: ConnectionId) -> Option<ConnectionInfo> {
        let found = |slot: &Slot| slot.connection_alive && slot.info.id() == id;
        self.shards().iter().find_map(|shard| {
            let slots = shard.lock();
            slots
                .iter()
                .find(|(_, slot)| found(slot))
                .map(|(_, slot)| slot.info.clone())
        })
    }

    /// Ends all tasks at their next point of waiting.
    pub(crate) fn abort_tasks(&self) {
        for shard in self.shards() {
            for (_, slot) in shard.lock().iter() {
                if let Task::Running(handle) = &slot.task {
                    handle.abort();
                }
            }
        }
    }

    /// Resolves when a connection ends after this call.
    pub(crate) async fn released(&self) {
        let _listener = self.released.listen();
        self.released.rung.notified().await;
    }

    /// Resolves when nothing is left.
    pub(crate) async fn emptied(&self) {
        let _listener = self.emptied.listen();
        loop {
            // Before the look, so that an end in between is not missed.
            let emptied = self.emptied.rung.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            // Whichever shard is seen to hold something will ring when it does no more.
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn collect<T>(&self, mut pick: impl FnMut(&Slot) -> Option<T>) -> Vec<T> {
        let mut picked = Vec::new();
        for shard in self.shards() {
            picked.extend(shard.lock().iter().filter_map(|(_, slot)| pick(slot)));
        }
        picked
    }

    fn leave(&self, place: Place, change: impl FnOnce(&mut Slot)) {
        let shard = &self.shards()[place.shard];
        let mut slots = shard.lock();
        let slot = &mut slots[place.key];
        change(slot);
        let over = !slot.connection_alive && matches!(slot.task, Task::Ended);
        let slot = over.then(|| slots.remove(place.key));
        let emptied = slots.is_empty();
        if over {
            shard.len.store(slots.len(), Ordering::Relaxed);
            let gone = shard.gone.load(Ordering::Relaxed) + 1;
            shard.gone.store(gone, Ordering::Relaxed);
        }
        drop(slots);
        drop(slot);
        self.released.ring();
        if emptied {
            self.emptied.ring();
        }
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Slab<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the connection's part of its slot when the connection ends, wherever it is by then.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    registry: Arc<Registry>,
    place: Place,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.registry
            .leave(self.place, |slot| slot.connection_alive = false);
    }
}

/// Ends the task's part of its slot.
#[derive(Debug)]
pub(crate) struct TaskGuard {
    registry: Arc<Registry>,
    place: Place,
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        // The handle goes too: it would keep the memory of the ended task.
        self.registry
            .leave(self.place, |slot| slot.task = Task::Ended);
    }
}

/// Tells those who wait for something; costs one load where nobody does.
#[derive(Debug, Default)]
struct Bell {
    listeners: AtomicUsize,
    rung: Notify,
}

impl Bell {
    /// Has the bell ring from here on, until what is returned is dropped.
    fn listen(&self) -> Listener<'_> {
        self.listeners.fetch_add(1, Ordering::SeqCst);
        Listener(&self.listeners)
    }

    fn ring(&self) {
        if self.listeners.load(Ordering::SeqCst) > 0 {
            self.rung.notify_waiters();
        }
    }
}

struct Listener<'a>(&'a AtomicUsize);

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_middleware::connection::Address;
    use tokio_test::{assert_pending, assert_ready, task};

    fn info() -> ConnectionInfo {
        ConnectionInfo::new(Address::Unknown, Address::Unknown)
    }

    fn registry(workers: usize) -> Arc<Registry> {
        let registry = Arc::new(Registry::default());
        registry.start(workers);
        registry
    }

    #[test]
    fn a_slot_is_free_when_both_connection_and_task_have_ended() {
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

    #[tokio::test]
    async fn a_reused_slot_does_not_take_the_handle_of_its_predecessor() {
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
