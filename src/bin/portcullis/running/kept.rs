//! What operators have changed of a listener, which goes on after a reload.

use super::{Running, RunningListener};
use crate::config::Listener;
use portcullis::server::State;

/// What goes on of a listener.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) is_paused: bool,
    /// The limit of connections, unless the file has another one than before.
    pub(super) limit: Option<usize>,
}

impl Running {
    /// What goes on of a listener of the new configuration.
    ///
    /// A new name that gets the socket of another listener is a new name for that one.
    pub(super) fn kept(&self, listener: &Listener) -> Kept {
        let name = &listener.name.value;
        let is_known = |name: &str| self.listeners.contains_key(name);
        let before = match is_known(name) {
            true => Some(&**name),
            false => self.sockets.predecessor(name, is_known),
        };
        let mut configured = self.config.listeners.iter();
        let configured = configured.find(|it| Some(&*it.name.value) == before);
        let running = before.and_then(|name| self.listeners.get(name));
        let Some((configured, running)) = configured.zip(running) else {
            return Kept::default();
        };
        let [old, new] = [configured, listener].map(|it| it.guards.limits.connections);
        Kept {
            is_paused: running.is_paused(),
            limit: (old == new).then(|| running.state.limit().limit()),
        }
    }
}

impl RunningListener {
    /// Whether an operator has paused it.
    pub(super) fn is_paused(&self) -> bool {
        let mut sockets = self.sockets.iter();
        sockets.any(|socket| socket.handle.state() == State::Paused)
    }
}
