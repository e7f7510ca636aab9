//! A listener with the stack that serves it, and the acceptors created from both.

use super::{
    ServeError, Workers, acceptor::Acceptor, acceptors::Acceptors, config::ListenerConfig,
    lifecycle::Lifecycle, shared::SharedState, spawn::Spawn, workers::WorkerThread,
};
use crate::{listener::Listener, listener::accept_error::AcceptErrorPolicy, server::Stack};
use portcullis_middleware::connection::ListenerInfo;
use std::{io, sync::Arc};

/// A listener with the stack that serves it, with their types erased.
pub(super) trait Frontend: Send {
    fn config(&self) -> ListenerConfig;

    /// Splits the listener into `listeners`, one for each worker.
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

/// What all acceptors of a server get from it.
pub(super) struct Environment {
    pub(super) policy: AcceptErrorPolicy,
    /// The one that the acceptors follow: that of the server.
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) shared: Arc<SharedState>,
}

/// The only implementation of [`Frontend`].
pub(super) struct TypedFrontend<L, S> {
    pub(super) name: String,
    /// One, or one for each worker.
    pub(super) listeners: Vec<L>,
    pub(super) stack: S,
}

impl Environment {
    /// Creates an acceptor with a clone of the stack, so that all acceptors share its limits.
    fn acceptor<L: Listener, S: Stack<L::Io>>(
        &self,
        name: &str,
        listener: L,
        stack: &S,
        spawn: Spawn,
    ) -> impl Future<Output = io::Result<()>> + Send + use<L, S> {
        let origin = ListenerInfo::new()
            .with_name(name)
            .with_drain(self.lifecycle.drain_signal().clone())
            .with_server(Arc::downgrade(&self.shared));
        let acceptor = Acceptor {
            listener,
            stack: stack.clone(),
            origin: Arc::new(origin),
            policy: self.policy.clone(),
            lifecycle: self.lifecycle.clone(),
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
