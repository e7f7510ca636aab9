//! The listeners of a server, which come and go while it runs.

use super::{
    ServeError, State,
    frontend::{Environment, Frontend},
    listener_drain::ListenerDrainer,
    listener_state::ListenerState,
    shared::SharedState,
    status::Counters,
};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::{mpsc, watch};

/// The listeners of one server.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    list: Mutex<Listing>,
    /// Those that have acceptors.
    open: watch::Sender<OpenListeners>,
}

#[derive(Clone, Copy, Debug, Default)]
struct OpenListeners {
    count: usize,
    /// Whether the last one that closed did so because of an error.
    last_has_broken: bool,
}

#[derive(Debug, Default)]
struct Listing {
    /// In the order in which they were added.
    listeners: Vec<Arc<ListenerState>>,
    /// The counts of those that were removed from the list.
    removed: Counters,
    /// `None` before the start and after the stop of the server.
    running: Option<Running>,
}

/// What it takes to start a listener.
#[derive(Clone, Debug)]
struct Running {
    env: Arc<Environment>,
    /// To the server, which drains them.
    added: mpsc::UnboundedSender<ListenerDrainer>,
}

impl Listeners {
    /// Lets listeners be added from now on. The server takes them from `added`.
    pub(super) fn start(&self, env: Environment, added: mpsc::UnboundedSender<ListenerDrainer>) {
        let env = Arc::new(env);
        self.lock().running = Some(Running { env, added });
    }

    /// Lets no further listeners be added. Returns those that have not stopped.
    ///
    /// It also lets go of the runtimes, whose file descriptors a handle must not keep open.
    pub(super) fn stop(&self) -> Vec<Arc<ListenerState>> {
        let running = self.lock().running.take();
        drop(running);
        self.all()
    }

    /// Starts a listener, on as many sockets as the server's workers need.
    pub(super) fn add(
        &self,
        shared: &Arc<SharedState>,
        mut frontend: Box<dyn Frontend>,
    ) -> Result<Arc<ListenerState>, ServeError> {
        let Some(Running { env, added }) = self.lock().running.clone() else {
            return Err(ServeError::not_running());
        };
        frontend.shard(env.workers.listeners())?;
        let listener = self.enter(shared, frontend.name())?;
        // Holds the listener from here on, and ends it if the stack panics.
        let mut drainer = ListenerDrainer::new(shared.clone(), listener.clone());
        frontend.start(&env, shared, &listener, drainer.acceptors());
        listener.lifecycle.started();
        match added.send(drainer) {
            Ok(()) => Ok(listener),
            // The server has ended meanwhile.
            Err(_) => Err(ServeError::not_running()),
        }
    }

    /// Adds a listener to the list, unless an open one has its name.
    fn enter(
        &self,
        shared: &Arc<SharedState>,
        name: &str,
    ) -> Result<Arc<ListenerState>, ServeError> {
        self.remove_ended();
        let mut list = self.lock();
        if list.running.is_none() {
            return Err(ServeError::not_running());
        }
        let has_name = |listener: &Arc<ListenerState>| listener.name == name;
        if list.open().any(has_name) {
            return Err(ServeError::name_taken(name));
        }
        let listener = ListenerState::new(name.to_owned(), shared.registry.clone());
        let listener = Arc::new(listener);
        if shared.lifecycle.is_paused() {
            listener.lifecycle.set_server_paused(true);
        }
        list.listeners.push(listener.clone());
        self.open.send_modify(|open| open.count += 1);
        Ok(listener)
    }

    /// A listener has no more acceptors, because of an error or by request.
    pub(super) fn closed_one(&self, has_broken: bool) {
        self.open.send_modify(|open| {
            open.count -= 1;
            open.last_has_broken = has_broken;
        });
    }

    /// Resolves when no listener has acceptors, with whether the last one closed because of an error.
    pub(super) async fn all_closed(&self) -> bool {
        let mut open = self.open.subscribe();
        let closed = open.wait_for(|open| open.count == 0).await;
        // Cannot fail, because `self` owns the sender.
        closed.is_ok_and(|closed| closed.last_has_broken)
    }

    /// Pauses all listeners with their server, or ends that pause. False if the server is in this state already.
    pub(super) fn set_server_paused(&self, shared: &SharedState, paused: bool) -> bool {
        // Under the lock, so that a listener that is added meanwhile is in the same state.
        let list = self.lock();
        let changed = match paused {
            true => shared.lifecycle.pause(),
            false => shared.lifecycle.resume(),
        };
        if changed {
            for listener in &list.listeners {
                listener.lifecycle.set_server_paused(paused);
            }
        }
        changed
    }

    /// The listeners that have not stopped.
    pub(super) fn all(&self) -> Vec<Arc<ListenerState>> {
        let list = self.lock();
        let not_stopped =
            |listener: &&Arc<ListenerState>| listener.lifecycle.state() != State::Stopped;
        list.listeners.iter().filter(not_stopped).cloned().collect()
    }

    /// The open listener `name`, or else the last one of that name that has not stopped.
    pub(super) fn find(&self, name: &str) -> Option<Arc<ListenerState>> {
        let mut named: Vec<_> = self
            .all()
            .into_iter()
            .filter(|listener| listener.name == name)
            .collect();
        let open = named
            .iter()
            .position(|listener| listener.lifecycle.is_open());
        match open {
            Some(open) => Some(named.swap_remove(open)),
            None => named.pop(),
        }
    }

    /// The counts of all listeners since the start.
    pub(super) fn counters(&self) -> Counters {
        let list = self.lock();
        let sum = Counters::default();
        sum.add(&list.removed);
        for listener in &list.listeners {
            sum.add(&listener.recorder.counters);
        }
        sum
    }

    /// How many connections all listeners have accepted, and how many wait for their stack.
    pub(super) fn accepted_and_waiting(&self) -> (u64, u64) {
        let list = self.lock();
        let counters = list.listeners.iter().map(|of| &of.recorder.counters);
        let counters = counters.chain([&list.removed]);
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        counters.fold((0, 0), |(accepted, waiting), of| {
            (accepted + load(&of.accepted), waiting + load(&of.waiting))
        })
    }

    /// Whether clients may wait in the queue of a paused listener.
    pub(super) fn any_paused(&self) -> bool {
        let list = self.lock();
        list.listeners
            .iter()
            .any(|listener| listener.lifecycle.is_paused())
    }

    /// Removes the listeners that have stopped and that nothing refers to.
    pub(super) fn remove_ended(&self) {
        let ended = self.lock().take_ended();
        // Without the lock, because it drops watches, which wake tasks.
        drop(ended);
    }

    fn lock(&self) -> MutexGuard<'_, Listing> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listing {
    fn open(&self) -> impl Iterator<Item = &Arc<ListenerState>> {
        self.listeners
            .iter()
            .filter(|listener| listener.lifecycle.is_open())
    }

    /// An acceptor or a connection that a handler blocks outlives its listener and still counts, so a listener
    /// stays until the list alone refers to it.
    fn take_ended(&mut self) -> Vec<Arc<ListenerState>> {
        let removed = &self.removed;
        let has_ended = |listener: &mut Arc<ListenerState>| {
            let Some(listener) = Arc::get_mut(listener) else {
                return false;
            };
            let ended = listener.lifecycle.state() == State::Stopped
                && listener.registry.len_of(listener.key) == 0;
            if ended {
                removed.add(&listener.recorder.counters);
                listener.registry.remove_listener(listener.key);
            }
            ended
        };
        self.listeners.extract_if(.., has_ended).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Server,
        listener::MemoryListener,
        server::{Drain, Handle, ListenerHandle},
    };
    use std::convert::Infallible;
    use tokio::io::{AsyncReadExt, DuplexStream};
    use tower::service_fn;

    /// Adds a listener and has it serve one client.
    async fn serve_one(handle: &Handle, name: &str) -> ListenerHandle {
        let (listener, connector) = MemoryListener::pair();
        let stack = service_fn(async |io: DuplexStream| {
            drop(io);
            Ok::<_, Infallible>(())
        });
        let added = handle.listen_as(name, listener, stack).unwrap();
        let mut client = connector.connect().unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        added
    }

    #[tokio::test]
    async fn listeners_that_have_ended_leave_only_their_counts() {
        let handle = Server::new().until_stopped().spawn().unwrap();
        let listeners = &handle.shared().listeners;
        let first = serve_one(&handle, "first").await;
        first.drain(Drain::new()).await;
        for round in 0..100 {
            let listener = serve_one(&handle, "next").await;
            drop(listener.drain(Drain::new()).await);
            drop(listener);
            // The first one is kept by its handle, and the last one until the next look.
            assert!(listeners.lock().listeners.len() <= 2);
            assert_eq!(handle.status().accepted, round + 2);
        }
        assert_eq!(first.status().accepted, 1);
        drop(first);
        listeners.remove_ended();
        assert!(listeners.lock().listeners.is_empty());
        assert_eq!(listeners.accepted_and_waiting(), (101, 0));
        handle.stop();
        handle.wait().await;
        assert_eq!(handle.status().accepted, 101);
    }
}
