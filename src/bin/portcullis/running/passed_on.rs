//! Sockets that a reload passes from one listener to another, because both have the same address.
//!
//! So a listener can be renamed: the clients in the queue of its socket stay there, and the new one accepts them.

use super::{Running, RunningListener};
use crate::{
    config::{Config, ListenAddress, chain},
    view::label,
};

impl Running {
    /// Prepares the sockets of the listeners that get the address of another one. These still have them, too.
    pub(super) fn pass_sockets_on(&mut self, config: &Config) -> Result<(), Vec<String>> {
        for listener in &config.listeners {
            let name = &listener.name.value;
            for listen in &listener.listen {
                let address = &listen.value;
                let Some(holder) = self.holder(address).filter(|holder| holder != name) else {
                    continue;
                };
                let Some(handle) = self.server.listener(&label(holder, address)) else {
                    continue;
                };
                let sockets = handle.sockets().iter();
                let sockets = sockets.filter_map(|socket| socket.duplicate().transpose());
                let sockets: Result<Vec<_>, _> = sockets.collect();
                let sockets = sockets.map_err(|error| {
                    let (place, error) = (listen.place.before(), chain(&error));
                    vec![format!("{place}listener \"{name}\": {address}: {error}")]
                })?;
                if !sockets.is_empty() {
                    self.sockets.pass_on(label(name, address), sockets);
                }
            }
        }
        Ok(())
    }

    /// The listener that has this address.
    fn holder(&self, address: &ListenAddress) -> Option<&str> {
        let mut listeners = self.listeners.iter();
        let has = |it: &RunningListener| it.addresses.contains(address);
        let holder = listeners.find(|(_, it)| !address.is_any_port() && has(it));
        holder.map(|(name, _)| &**name)
    }
}

/// Whether a socket at this address goes to another listener.
pub(super) fn is_passed_on(address: &ListenAddress, config: &Config) -> bool {
    let mut listeners = config.listeners.iter();
    !address.is_any_port() && listeners.any(|it| it.listens_on(address))
}
