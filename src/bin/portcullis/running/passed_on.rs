//! Sockets that a reload passes on, because another listener or the admin interface gets the address.
//!
//! So a listener can be renamed, two can exchange their addresses, and the admin interface can take the address of one:
//! the clients in the queue of the socket stay there, and the new user accepts them.

use super::Running;
use crate::{
    admin,
    config::{Config, ListenAddress, Placed, chain},
    view::label,
};
use portcullis::server::ListenerHandle;

impl Running {
    /// Prepares the sockets whose address is that of another user in `config`. Their holders still have them, too.
    pub(super) fn pass_sockets_on(&mut self, config: &Config) -> Result<(), Vec<String>> {
        for (user, who, listen) in users(config) {
            let address = &listen.value;
            let holder = self.holder(address).filter(|holder| holder.name() != user);
            let Some(holder) = holder else {
                continue;
            };
            let sockets = holder.sockets().iter();
            let sockets = sockets.filter_map(|socket| socket.duplicate().transpose());
            let sockets: Result<Vec<_>, _> = sockets.collect();
            let sockets = sockets.map_err(|error| {
                let (place, error) = (listen.place.before(), chain(&error));
                vec![format!("{place}{who}: {address}: {error}")]
            })?;
            if !sockets.is_empty() {
                self.sockets.pass_on(holder.name().to_owned(), sockets);
            }
        }
        Ok(())
    }

    /// What listens at this address now.
    fn holder(&self, address: &ListenAddress) -> Option<ListenerHandle> {
        if address.is_any_port() {
            return None;
        }
        let mut listeners = self.listeners.iter();
        match listeners.find(|(_, it)| it.addresses.contains(address)) {
            Some((name, _)) => self.server.listener(&label(name, address)),
            None => {
                let settings = self.config.admin.as_ref();
                settings.filter(|admin| admin.listen.value == *address)?;
                Some(self.admin.as_ref()?.listener().clone())
            }
        }
    }
}

/// The listeners and the admin interface: their labels, their names in messages, and where they listen.
fn users(config: &Config) -> impl Iterator<Item = (String, String, &Placed<ListenAddress>)> {
    let listeners = config.listeners.iter().flat_map(|listener| {
        let name = &listener.name.value;
        let listen = listener.listen.iter();
        listen.map(move |it| (label(name, &it.value), format!("listener \"{name}\""), it))
    });
    let admin = config.admin.iter();
    let admin = admin.map(|it| (admin::label_of(it), "admin".to_owned(), &it.listen));
    listeners.chain(admin)
}
