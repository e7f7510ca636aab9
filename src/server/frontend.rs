//! A listener with the stack that serves it, and how acceptors are made of the two.

use super::{
    ServeError, Workers, acceptor::Acceptor, acceptors::Acceptors, config::ListenerConfig,
    shared::Shared, spawn::Spawn, workers::WorkerThread,
};
use crate::{listener::Listener, listener::accept_error::AcceptErrorPolicy, server::Stack};
use portcullis_middleware::connection::ListenerInfo;
use std::{io, sync::Arc};

/// A listener with the stack that serves it, their types erased.
pub(super) trait Frontend: Send {
    fn config(&self) -> ListenerConfig;

    /// Makes `listeners` of the one, for workers that each have their own.
    fn shard(&mut self, listeners: usize) -> Result<(), ServeError>;

    /// Starts an acceptor for each listener.
    fn start(
        self: Box<Self>,
        env: &Environment,
        workers: Workers,
        threads: &[WorkerThread],
        acceptors: &mut Acceptors,
    );
}

/// What the acceptors of a server have in common.
pub(super) struct Environment {
    pub(super) policy: AcceptErrorPolicy,
    pub(super) shared: Arc<Shared>,
}

pub(super) struct TypedFrontend<L, S> {
    pub(super) name: String,
    /// One, or one for each worker.
    pub(super) listeners: Vec<L>,
    pub(super) stack: S,
}

impl Environment {
    /// One acceptor. The stack's service is cloned, never built again: its limits stay one.
    fn acceptor<L: Listener, S: Stack<L::Io>>(
        &self,
        name: &str,
        listener: L,
        stack: &S,
        spawn: Spawn,
    ) -> impl Future<Output = io::Result<()>> + Send + use<L, S> {
        let origin = ListenerInfo::new()
            .with_name(name)
            .with_drain(self.shared.drain.clone())
            .with_server(Arc::downgrade(&self.shared));
        let acceptor = Acceptor {
            listener,
            stack: stack.clone(),
            origin: Arc::new(origin),
            policy: self.policy.clone(),
            shared: self.shared.clone(),
            spawn,
            failures: 0,
        };
        acceptor.run()
    }
}

impl<L: Listener, S: Stack<L::Io>> Frontend for TypedFrontend<L, S> {
    fn config(&self) -> ListenerConfig {
        ListenerConfig {
            name: self.name.clone(),
            address: self.listeners[0].local_address(),
        }
    }

    fn shard(&mut self, listeners: usize) -> Result<(), ServeError> {
        while self.listeners.len() < listeners {
            let shard = self.listeners[0].shard();
            self.listeners
                .push(shard.map_err(|source| ServeError::shard(&self.name, source))?);
        }
        Ok(())
    }

    fn start(
        self: Box<Self>,
        env: &Environment,
        workers: Workers,
        threads: &[WorkerThread],
        acceptors: &mut Acceptors,
    ) {
        let runtimes = threads.iter().map(WorkerThread::runtime);
        for (worker, listener) in self.listeners.into_iter().enumerate() {
            let (spawn, runtime) = match workers {
                Workers::Caller => (Spawn::Here, None),
                Workers::LeastBusy(_) => {
                    let runtimes = runtimes.clone().cloned().collect();
                    (Spawn::LeastBusy(runtimes), None)
                }
                Workers::PerCore | Workers::Sharded(_) => {
                    (Spawn::Worker(worker), Some(threads[worker].runtime()))
                }
            };
            let acceptor = env.acceptor(&self.name, listener, &self.stack, spawn);
            acceptors.spawn(&self.name, acceptor, runtime);
        }
    }
}
