//! A listener with the stack that serves it, and the acceptors created from both.

use super::{
    ServeError, Workers, acceptor::Acceptor, acceptors::Acceptors, config::ListenerConfig,
    listener_state::ListenerState, shared::SharedState, spawn::Spawn,
};
use crate::{listener::Listener, listener::accept_error::AcceptErrorPolicy, server::Stack};
use portcullis_middleware::connection::ListenerInfo;
use std::sync::Arc;
use tokio::runtime::Handle;

/// A listener with the stack that serves it, with their types erased.
pub(super) trait Frontend: Send {
    fn name(&self) -> &str;

    fn config(&self) -> ListenerConfig;

    /// Splits the listener into `listeners`, one for each worker.
    fn shard(&mut self, listeners: usize) -> Result<(), ServeError>;

    /// Starts an acceptor for each of them.
    fn start(
        self: Box<Self>,
        env: &Environment,
        shared: &Arc<SharedState>,
        state: &Arc<ListenerState>,
        acceptors: &mut Acceptors,
    );
}

/// What all listeners of a server get from it.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) policy: AcceptErrorPolicy,
    pub(super) workers: Workers,
    /// The caller's runtime.
    pub(super) caller: Handle,
    /// The runtimes of the worker threads.
    pub(super) runtimes: Arc<[Handle]>,
}

/// The only implementation of [`Frontend`].
pub(super) struct TypedFrontend<L, S> {
    pub(super) name: String,
    /// One, or one for each worker.
    pub(super) listeners: Vec<L>,
    pub(super) stack: S,
}

impl<L: Listener, S: Stack<L::Io>> Frontend for TypedFrontend<L, S> {
    fn name(&self) -> &str {
        &self.name
    }

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
        shared: &Arc<SharedState>,
        state: &Arc<ListenerState>,
        acceptors: &mut Acceptors,
    ) {
        #[cfg(unix)]
        let _empty_before = state
            .sockets
            .set(self.listeners.iter().filter_map(L::socket).collect());
        for (number, listener) in self.listeners.into_iter().enumerate() {
            let (spawn, runtime) = match env.workers {
                Workers::Caller => (Spawn::Here, &env.caller),
                Workers::LeastBusy(_) => (Spawn::LeastBusy(env.runtimes.clone()), &env.caller),
                Workers::PerCore | Workers::Sharded(_) => {
                    // Another process may have handed over more sockets than there are workers.
                    let worker = number % env.runtimes.len();
                    (Spawn::Worker(worker), &env.runtimes[worker])
                }
            };
            // One for each, so that workers do not contend for its reference count.
            let origin = ListenerInfo::new()
                .with_name(&self.name)
                .with_drain(state.lifecycle.drain_signal().clone())
                .with_server(Arc::downgrade(shared));
            let acceptor = Acceptor {
                listener,
                // A clone for each, so that all acceptors share its limits.
                stack: self.stack.clone(),
                origin: Arc::new(origin),
                policy: env.policy.clone(),
                state: state.clone(),
                shared: shared.clone(),
                spawn,
                failures: 0,
            };
            acceptors.spawn(&self.name, acceptor.run(), runtime);
        }
    }
}
