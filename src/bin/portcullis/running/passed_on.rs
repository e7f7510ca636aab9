//! Sockets that a reload passes on, because another listener or the admin interface gets the address.
//!
//! So a listener can be renamed, two can exchange their addresses, and the admin interface can take the address of one:
//! the clients in the queue of the socket stay there, and the new user accepts them.

use super::Running;
use crate::{
    admin,
    config::{Config, ListenAddress, User, chain},
    view::label,
};
use portcullis::server::ListenerHandle;

impl Running {
    /// Prepares the sockets whose address is that of another user in `config`. Their holders still have them, too.
    pub(super) fn pass_sockets_on(&mut self, config: &Config) -> Result<(), Vec<String>> {
        for (user, listen) in config.users() {
            let address = &listen.value;
            let label = label_of(user, address);
            let holder = self.holder(address).filter(|holder| holder.name() != label);
            let Some(holder) = holder else {
                continue;
            };
            let sockets = holder.sockets().iter();
            let sockets = sockets.filter_map(|socket| socket.duplicate().transpose());
            let sockets: Result<Vec<_>, _> = sockets.collect();
            let sockets = sockets.map_err(|error| {
                let (place, error) = (listen.place.before(), chain(&error));
                vec![format!("{place}{user}: {address}: {error}")]
            })?;
            if !sockets.is_empty() {
                self.sockets.pass_on(holder.name().to_owned(), sockets);
            }
        }
        Ok(())
    }

    /// What listens at this address now.
    fn holder(&self, address: &ListenAddress) -> Option<ListenerHandle> {
        let mut users = self.config.users();
        let (user, _) = users.find(|it| !address.is_any_port() && it.1.value == *address)?;
        match user {
            User::Listener(_) => self.server.listener(&label_of(user, address)),
            User::Admin => Some(self.admin.as_ref()?.listener().clone()),
        }
    }
}

/// The label of a socket.
fn label_of(user: User<'_>, address: &ListenAddress) -> String {
    match user {
        User::Listener(name) => label(name, address),
        User::Admin => admin::label_of(address),
    }
}
