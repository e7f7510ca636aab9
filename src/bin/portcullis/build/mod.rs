//! Opens what a configuration describes, without touching what runs.

mod admin;
mod backend;
mod listener;
mod prelude;
mod rules;
#[cfg(test)]
mod tests;
mod tls;

pub(crate) use self::{
    admin::{AdminParts, AdminTls},
    listener::{Stack, State},
    rules::{Destination, Rules, Way},
    tls::{Terminated, has_certificate, is_listed},
};

use self::backend::Servers;
use crate::admin::{Instruments, show_limit};
use crate::config::{Config, Problems, Source};
use portcullis::{
    middleware::tls::{CertStore, store::Watch},
    upstream::{Pool, PoolBuilder},
};
use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The parts of a configuration, ready to be used.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) gates: HashMap<String, Gate>,
    pub(crate) pools: HashMap<String, Pool>,
    pub(crate) admin: Option<AdminParts>,
    /// The servers of pools, with new settings if they run already.
    servers: Vec<(Pool, Option<PoolBuilder>, Servers)>,
}

/// The stack of a listener.
pub(crate) struct Gate {
    pub(crate) stack: Stack,
    pub(crate) state: State,
    pub(crate) rules: Rules,
}

/// What runs, for the parts that go on.
#[derive(Default)]
pub(crate) struct Before {
    pub(crate) pools: HashMap<String, Pool>,
    pub(crate) states: HashMap<String, State>,
    /// What an admin interface measures, if there is one.
    pub(crate) instruments: Option<Instruments>,
    /// Nothing is connected to.
    pub(crate) is_dry_run: bool,
}

/// Builds all parts that can be built, and reports the others.
///
/// A panic is reported, too, so that it cannot end a program that reloads.
pub(crate) fn build(config: &Config, before: &Before, problems: &mut Problems) -> Parts {
    let mut found = Problems::default();
    let built = catch_unwind(AssertUnwindSafe(|| build_all(config, before, &mut found)));
    problems.extend(found);
    built.unwrap_or_else(|_| {
        let place = Source::new("configuration", "").place(0..0);
        problems.error(
            place,
            "this configuration cannot be built; please report this as a bug",
        );
        Parts::default()
    })
}

/// Builds all parts.
///
/// # Panics
///
/// Outside of a tokio runtime, in which pools check their servers.
fn build_all(config: &Config, before: &Before, problems: &mut Problems) -> Parts {
    let certificates = &config.certificates;
    let mut pools = HashMap::new();
    let mut servers = Vec::new();
    for backend in &config.backends {
        let name = &backend.name.value;
        let Some(new) = backend::servers(backend, certificates, problems) else {
            continue;
        };
        let pool =
            match before.pools.get(name) {
                // It goes on, with its connections, its health and what was requested for its servers.
                Some(running) => backend::update(backend, problems)
                    .map(|settings| (running.clone(), Some(settings))),
                None => backend::pool(backend, &new, before.is_dry_run, problems)
                    .map(|pool| (pool, None)),
            };
        if let Some((pool, settings)) = pool {
            pools.insert(name.clone(), pool.clone());
            servers.push((pool, settings, new));
        }
    }
    let known = listener::Known {
        certificates,
        pools: &pools,
        instruments: before.instruments.as_ref(),
    };
    let mut gates = HashMap::new();
    for listener in &config.listeners {
        let name = &listener.name.value;
        let before = before.states.get(name);
        if let Some(built) = listener::build(listener, &known, before, problems) {
            gates.insert(name.clone(), built);
        }
    }
    Parts {
        gates,
        pools,
        admin: config
            .admin
            .as_ref()
            .and_then(|admin| admin::build(admin, certificates, problems)),
        servers,
    }
}

impl Parts {
    /// Changes what runs already, where the new configuration wants that.
    pub(crate) fn commit(&mut self, config: &Config) {
        for (pool, settings, servers) in self.servers.drain(..) {
            match settings {
                Some(settings) => pool.reconfigure_with(settings, servers.watched()),
                // A new pool has its servers already.
                None if servers.certificate.is_some() => pool.replace(servers.watched()),
                None => {}
            }
        }
        for listener in &config.listeners {
            if let Some(gate) = self.gates.get(&listener.name.value) {
                gate.state.resize(&listener.guards);
                show_limit(&listener.name.value, listener.guards.limits.connections);
            }
        }
    }
}

impl Parts {
    /// The certificates that listeners and the admin interface show, and those that are shown to servers.
    pub(crate) fn certificates(&self) -> Vec<CertStore> {
        let servers = self.servers.iter();
        let to_servers = servers.filter_map(|(_, _, servers)| servers.certificate.clone());
        let of_listeners = self.gates.values().flat_map(Gate::certificates);
        let admin = self.admin.as_ref().and_then(|admin| admin.tls.as_ref());
        let of_admin = admin.map(|tls| tls.store.clone());
        of_listeners.chain(of_admin).chain(to_servers).collect()
    }
}

impl Gate {
    /// Reads certificates again when their files change, until the result is dropped.
    pub(crate) fn watch(&self) -> Vec<Watch> {
        self.rules.terminated().map(Terminated::watch).collect()
    }

    /// The certificates that it shows.
    pub(crate) fn certificates(&self) -> Vec<CertStore> {
        let terminated = self.rules.terminated();
        terminated.map(|tls| tls.store.clone()).collect()
    }
}
