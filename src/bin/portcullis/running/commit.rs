//! Uses a new configuration whose parts are ready.

use super::{Running, RunningListener, kept::Kept};
#[cfg(unix)]
use crate::system::set_buffers;
use crate::{
    admin::{self, show_limit},
    build::{AdminParts, Gate, Parts, Rules},
    config::{self, Config, ListenAddress, Listener, chain},
    system::Bound,
    view::{Current, Socket, label},
};
use portcullis::{
    listener::Listener as _,
    server::{Drain, ListenerHandle},
    service::Reload,
    upstream::Pool,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

impl Running {
    /// From here on nothing fails.
    pub(super) fn commit(
        &mut self,
        config: Config,
        mut parts: Parts,
        sockets: Vec<Bound>,
        admin: Option<admin::Bound>,
    ) {
        // So that no change of an operator falls between what is kept and what is shown.
        let view = self.view.clone();
        let _unchanged = view.hold_changes();
        let listeners = config.listeners.iter();
        let kept = listeners.map(|it| (it.name.value.clone(), self.kept(it)));
        let kept: HashMap<String, Kept> = kept.collect();
        parts.commit(&config, |name| kept[name].limit);
        let drain = Drain::new()
            .with_notice_period(config.drain.announce)
            .with_deadline(config.drain.deadline);
        self.server.set_drain(drain);
        for listener in &config.listeners {
            let name = &listener.name.value;
            let gate = parts.gates.remove(name).expect("each listener was built");
            self.swap(name, gate);
        }
        // So that a new socket of a paused listener accepts nothing before it is paused.
        let pauses = sockets.iter().any(|it| kept[&it.listener].is_paused) && self.server.pause();
        for bound in sockets {
            let name = bound.listener;
            let listener = self.listeners.get_mut(&name).expect("it was swapped in");
            let locals: Vec<_> = bound.sockets.iter().map(|it| it.local_address()).collect();
            let label = label(&name, &bound.address);
            let service = listener.service.clone();
            let served = self.server.listen_all_as(&*label, bound.sockets, service);
            match served {
                Ok(handle) => {
                    if kept[&name].is_paused {
                        handle.pause();
                    }
                    for local in &locals {
                        tracing::info!(listener = name, "listening on {local}");
                    }
                    // Sockets of one name share a handle.
                    if let Some(local) = locals.into_iter().next() {
                        listener.sockets.push(Socket { local, handle });
                    }
                }
                // Only a server that stops takes no listeners.
                Err(error) => {
                    tracing::warn!(listener = name, error = chain(&error), "not listening");
                    self.sockets.leave(&label);
                }
            }
        }
        if pauses {
            self.server.resume();
        }
        #[cfg(unix)]
        for listener in &config.listeners {
            self.limit_buffers(listener);
        }
        self.drain_others(&config);
        for listener in &config.listeners {
            if let Some(running) = self.listeners.get_mut(&listener.name.value) {
                running.addresses = addresses(listener);
            }
        }
        let mut old = std::mem::replace(&mut self.pools, parts.pools);
        old.retain(|name, pool| !self.pools.get(name).is_some_and(|new| new.is_same(pool)));
        old.values().for_each(Pool::retire);
        self.retired.extend(old.into_values());
        self.drop_retired();
        let is_first = self.config.listeners.is_empty();
        self.commit_admin(config.admin.as_ref(), parts.admin, admin);
        let before = std::mem::replace(&mut self.config, config);
        if !is_first {
            // What the next start uses.
            self.config.process = before.process;
        }
        self.publish();
    }

    /// Sets the sizes of buffers on the sockets of a listener, for those that were open before; new ones have them already.
    /// Connections inherit them. A socket keeps a size that the configuration no longer has.
    #[cfg(unix)]
    fn limit_buffers(&self, listener: &Listener) {
        let name = &listener.name.value;
        let Some(running) = self.listeners.get(name) else {
            return;
        };
        // An address that another listener gets is still among the sockets.
        let own = listener.listen.iter().map(|it| label(name, &it.value));
        let own: Vec<String> = own.collect();
        let handles = running.sockets.iter().map(|it| &it.handle);
        let handles = handles.filter(|it| own.iter().any(|own| own == it.name()));
        for socket in handles.flat_map(ListenerHandle::sockets) {
            if let Err(error) = set_buffers(socket, listener.buffers) {
                tracing::error!(
                    listener = listener.name.value,
                    "the buffers of a socket cannot be limited: {error}"
                );
            }
        }
    }

    /// Adds, changes or removes the admin interface.
    fn commit_admin(
        &mut self,
        settings: Option<&config::Admin>,
        parts: Option<AdminParts>,
        bound: Option<admin::Bound>,
    ) {
        let (token, tls) = parts.map_or((None, None), |parts| (parts.token, parts.tls));
        self.view.token.store(token.map(Arc::new));
        match (self.admin.take(), settings) {
            (Some(mut admin), Some(settings)) => {
                if bound.is_some() {
                    self.leave_queue(admin.listener());
                }
                admin.change(settings, bound, tls);
                self.admin = Some(admin);
            }
            (Some(admin), None) => {
                tracing::info!("no longer an admin interface");
                self.leave_queue(admin.listener());
                admin.remove();
            }
            (None, Some(settings)) => {
                if let Some(bound) = bound {
                    self.start_admin(settings, bound, tls);
                }
            }
            (None, None) => {}
        }
    }

    /// Drops the pools of removed backends that have no connections any more.
    pub(super) fn drop_retired(&mut self) {
        let is_used = |pool: &Pool| pool.servers().iter().any(|server| server.connections > 0);
        self.retired.retain(is_used);
    }

    fn rules(&self) -> BTreeMap<String, Rules> {
        let listeners = self.listeners.iter();
        listeners
            .map(|(name, running)| (name.clone(), running.rules.clone()))
            .collect()
    }

    /// Shows what runs from now on.
    fn publish(&mut self) {
        self.leaving
            .retain(|leaving| leaving.sockets.iter().any(|it| !it.is_stopped()));
        let configured = self.config.listeners.iter().filter_map(|listener| {
            let name = &listener.name.value;
            self.listeners.get(name).map(|running| running.view(name))
        });
        let listeners = configured.chain(self.leaving.iter().cloned()).collect();
        self.view.publish(Current {
            config: self.config.clone(),
            listeners,
            rules: self.rules(),
            pools: self.pools.clone().into_iter().collect(),
            loaded: SystemTime::now(),
        });
    }

    /// Leaves the queue of a socket that goes to another user to that one. A drain would accept the clients in it.
    fn leave_queue(&self, listener: &ListenerHandle) {
        #[cfg(unix)]
        if self.sockets.is_taken(listener.name()) {
            listener.hand_over();
        }
        #[cfg(not(unix))]
        let _ = listener;
    }

    fn swap(&mut self, name: &str, gate: Gate) {
        let (watches, certificates) = (gate.watch(), gate.certificates());
        match self.listeners.get_mut(name) {
            Some(running) => {
                running.current.swap(gate.stack);
                running.state = gate.state;
                running.rules = gate.rules;
                running.certificates = certificates;
                running.sockets.retain(|socket| !socket.is_stopped());
                running._watches = watches;
            }
            None => {
                let (service, current) = Reload::pair(gate.stack);
                let running = RunningListener {
                    addresses: Vec::new(),
                    service,
                    current,
                    state: gate.state,
                    rules: gate.rules,
                    sockets: Vec::new(),
                    certificates,
                    _watches: watches,
                };
                self.listeners.insert(name.into(), running);
            }
        }
    }

    /// Drains the sockets that the new configuration lacks.
    fn drain_others(&mut self, config: &Config) {
        let find = |name: &str| config.listeners.iter().find(|it| it.name.value == name);
        for (name, running) in &self.listeners {
            let kept = find(name).map_or_else(Vec::new, addresses);
            for address in running.addresses.iter().filter(|it| !kept.contains(it)) {
                tracing::info!(listener = name, "no longer listening on {address}");
                if let Some(listener) = self.server.listener(&label(name, address)) {
                    self.leave_queue(&listener);
                    let drain = Drain::new().with_deadline(self.config.drain.deadline);
                    // It has begun; the report is that of each connection.
                    drop(listener.drain(drain));
                }
            }
        }
        let removed = self.listeners.extract_if(|name, _| find(name).is_none());
        self.leaving.extend(removed.map(|(name, running)| {
            show_limit(&name, 0);
            running.view(&name)
        }));
    }
}

fn addresses(listener: &Listener) -> Vec<ListenAddress> {
    let listen = listener.listen.iter();
    listen.map(|address| address.value.clone()).collect()
}
