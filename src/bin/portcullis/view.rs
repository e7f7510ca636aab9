//! What runs now, for the admin interface, which only looks at it.
//!
//! A reload publishes a whole new [`Current`]. A reader has a consistent one, without a lock, and never waits for a
//! reload.

use crate::build::Rules;
use crate::config::{Backend, Config, ListenAddress, Listener, Secret};
use arc_swap::{ArcSwap, ArcSwapOption};
use portcullis::{
    ConnectionInfo,
    connection::{Address, EndedBy},
    middleware::{limit::LimitHandle, outcome::Outcome, tls::CertStore},
    server::{Handle, ListenerHandle, State},
    upstream::Pool,
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// What runs, and what became of the reloads.
pub(crate) struct View {
    pub(crate) server: Handle,
    pub(crate) started: SystemTime,
    /// The configuration file, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// Which authorizes changes through the admin interface.
    pub(crate) token: ArcSwapOption<Secret>,
    /// The certificates of the admin interface, if it speaks TLS.
    pub(crate) admin_certificates: ArcSwapOption<CertStore>,
    current: ArcSwap<Current>,
    reloads: Mutex<Reloads>,
    /// Whether what operators have changed is on its way to a new process, or has arrived there.
    is_handed_over: Mutex<bool>,
}

/// One configuration and what was built from it.
pub(crate) struct Current {
    pub(crate) config: Config,
    /// In the order of the file, then those that were removed and still drain.
    pub(crate) listeners: Vec<ListenerView>,
    /// How each listener decides.
    pub(crate) rules: BTreeMap<String, Rules>,
    pub(crate) pools: BTreeMap<String, Pool>,
    pub(crate) loaded: SystemTime,
}

#[derive(Clone)]
pub(crate) struct ListenerView {
    pub(crate) name: String,
    pub(crate) sockets: Vec<Socket>,
    /// That of all its connections together.
    pub(crate) limit: LimitHandle,
    pub(crate) certificates: Vec<CertStore>,
}

/// A socket of a listener, open or draining.
#[derive(Clone)]
pub(crate) struct Socket {
    pub(crate) local: Address,
    pub(crate) handle: ListenerHandle,
}

/// The reloads since the start.
#[derive(Clone, Default)]
pub(crate) struct Reloads {
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    /// Why the last one failed; `None` if it did not.
    pub(crate) last_error: Option<(SystemTime, Vec<String>)>,
}

impl View {
    pub(crate) fn new(server: Handle, file: Option<PathBuf>) -> Self {
        Self {
            server,
            started: SystemTime::now(),
            file,
            token: ArcSwapOption::empty(),
            admin_certificates: ArcSwapOption::empty(),
            current: ArcSwap::from_pointee(Current {
                config: Config::default(),
                listeners: Vec::new(),
                rules: BTreeMap::new(),
                pools: BTreeMap::new(),
                loaded: SystemTime::now(),
            }),
            reloads: Mutex::default(),
            is_handed_over: Mutex::new(false),
        }
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    pub(crate) fn publish(&self, current: Current) {
        self.current.store(Arc::new(current));
    }

    /// Shuts down gracefully.
    pub(crate) fn stop(&self) {
        self.server.stop();
    }

    /// The state of the server, which counts as paused while all of its listeners are.
    pub(crate) fn state(&self) -> State {
        match self.server.state() {
            State::Running if self.current().are_all_paused() => State::Paused,
            state => state,
        }
    }

    /// Whether it drains, perhaps because another process has taken over.
    pub(crate) fn is_ending(&self) -> bool {
        !matches!(self.state(), State::Running | State::Paused)
    }

    /// Makes a change that a new process takes over. `None` if it would no longer learn of it.
    pub(crate) fn change<T>(&self, change: impl FnOnce() -> T) -> Option<T> {
        let is_handed_over = self.hold_changes();
        (!*is_handed_over).then(change)
    }

    /// Lets no change be made until the guard is dropped.
    pub(crate) fn hold_changes(&self) -> MutexGuard<'_, bool> {
        let locked = self.is_handed_over.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets whether a new process would no longer learn of changes, which are rejected then.
    #[cfg(unix)]
    pub(crate) fn set_handed_over(&self, is_handed_over: bool) {
        *self.hold_changes() = is_handed_over;
    }

    pub(crate) fn reloads(&self) -> Reloads {
        self.lock_reloads().clone()
    }

    pub(crate) fn reloaded(&self, result: Result<(), &[String]>) {
        let mut reloads = self.lock_reloads();
        match result {
            Ok(()) => {
                reloads.completed += 1;
                reloads.last_error = None;
            }
            Err(problems) => {
                reloads.failed += 1;
                reloads.last_error = Some((SystemTime::now(), problems.to_vec()));
            }
        }
    }

    fn lock_reloads(&self) -> MutexGuard<'_, Reloads> {
        self.reloads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    /// Whether there are listeners, and none of them accepts connections because each is paused.
    fn are_all_paused(&self) -> bool {
        let listeners = self.config.listeners.iter();
        let states = listeners.filter_map(|it| Some(self.listener(&it.name.value)?.state()));
        let mut states = states.peekable();
        states.peek().is_some() && states.all(|state| state == "paused")
    }

    pub(crate) fn listener(&self, name: &str) -> Option<&ListenerView> {
        let mut listeners = self.listeners.iter().filter(|listener| !listener.is_gone());
        listeners.find(|listener| listener.name == name)
    }

    /// The listener in the configuration; `None` if it was removed.
    pub(crate) fn configured(&self, name: &str) -> Option<&Listener> {
        let mut listeners = self.config.listeners.iter();
        listeners.find(|listener| listener.name.value == name)
    }

    pub(crate) fn backend(&self, name: &str) -> Option<(&Backend, &Pool)> {
        let mut backends = self.config.backends.iter();
        let backend = backends.find(|backend| backend.name.value == name)?;
        Some((backend, self.pools.get(name)?))
    }
}

impl ListenerView {
    /// Whether it was removed and has no connection any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.sockets.iter().all(Socket::is_stopped)
    }

    /// The state of its sockets together.
    pub(crate) fn state(&self) -> &'static str {
        let has = |state| {
            let mut states = self.sockets.iter().map(|it| it.handle.state());
            states.any(|it| it == state)
        };
        if has(State::Running) || has(State::Starting) {
            "open"
        } else if has(State::Paused) {
            "paused"
        } else if has(State::Draining) {
            "draining"
        } else {
            "closed"
        }
    }
}

impl Socket {
    pub(crate) fn is_stopped(&self) -> bool {
        self.handle.state() == State::Stopped
    }
}

/// The name of a socket within the server. A listener's name contains no space.
pub(crate) fn label(listener: &str, address: &ListenAddress) -> String {
    format!("{listener} {address}")
}

/// The listener of a socket with this label.
pub(crate) fn listener_of(label: &str) -> &str {
    parts_of(label).0
}

/// The listener and the address of a socket with this label.
pub(crate) fn parts_of(label: &str) -> (&str, &str) {
    label.split_once(' ').unwrap_or((label, ""))
}

/// Why a connection was force-closed, in words.
pub(crate) fn why_forced(info: &ConnectionInfo) -> String {
    let reason = info.forced_because();
    reason.map_or_else(
        || "force-closed".into(),
        |reason| format!("closed because {reason}"),
    )
}

/// The side that ended a connection; `None` if that is not known.
pub(crate) fn ended_by(info: &ConnectionInfo, outcome: Outcome) -> Option<EndedBy> {
    let by_itself = || match outcome {
        Outcome::Refused
        | Outcome::TimedOut(_)
        | Outcome::Forced
        | Outcome::Unreachable
        | Outcome::ProxyHeaderFailed => Some(EndedBy::Gate),
        _ => None,
    };
    info.ended_by().or_else(by_itself)
}
