//! Spawns the task of a connection, on the runtime that accepted it or on the least busy worker.

use super::{
    listener_state::ListenerState,
    shared::SharedState,
    task::{Begin, ConnectionTask},
};
use crate::server::Stack;
use portcullis_middleware::{ConnectionInfo, connection::Transport};
use std::sync::Arc;
use tokio::runtime::Handle;

/// The runtimes that serve the connections of an acceptor.
#[derive(Clone, Debug)]
pub(crate) enum Spawn {
    /// The runtime that accepts them, with many threads.
    Here,
    /// The runtime that accepts them, which is this worker.
    Worker(usize),
    /// The least busy of these.
    LeastBusy(Arc<[Handle]>),
}

impl Spawn {
    /// Spawns a task in which `stack`, which is ready, serves `io`.
    pub(crate) fn spawn<S, Io>(
        &self,
        state: &Arc<ListenerState>,
        shared: &SharedState,
        stack: S,
        io: Io,
        info: ConnectionInfo,
    ) where
        S: Stack<Io>,
        Io: Transport,
    {
        let registry = &shared.registry;
        let (worker, elsewhere) = match self {
            Self::Here => (registry.any_worker(), None),
            Self::Worker(worker) => (*worker, None),
            Self::LeastBusy(workers) => {
                let worker = registry.least_busy_worker();
                (worker, Some(&workers[worker]))
            }
        };
        let id = info.id();
        let (place, slot, task_guard) = registry.enter(worker, state.key, info.clone());
        shared.clock.connection_opened();
        let begin = Begin {
            stack,
            io,
            slot,
            moved: elsewhere.is_some(),
        };
        // Not in a box, which would take an allocation and 80 bytes more.
        let task = ConnectionTask::new(begin, info, state.clone(), task_guard);
        let handle = match elsewhere {
            None => tokio::spawn(task),
            Some(worker) => worker.spawn(task),
        };
        registry.set_task(place, id, handle);
    }
}
