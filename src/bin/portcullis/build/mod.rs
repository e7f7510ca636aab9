//! Builds what a configuration describes, without touching what runs.

mod admin;
mod backend;
mod backend_tls;
mod listener;
mod names;
mod prelude;
mod rules;
#[cfg(test)]
mod tests;
mod tls;

pub(crate) use self::{
    admin::{AdminParts, AdminTls},
    listener::{Stack, State},
    rules::{Destination, Rules, Way},
    tls::{NOT_LISTED, Terminated, has_certificate, is_listed, not_listed, outdated},
};

use self::backend::{Servers, Settings};
use crate::{
    admin::{Instruments, show_limit},
    config::{Config, ListenAddress, Problems, Source},
    log,
    system::{check_buffers, check_descriptors, check_paths},
};
use portcullis::{
    middleware::tls::{CertStore, store::Watch},
    upstream::{self, Pool},
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
    backends: Vec<Backing>,
    /// Those that are shown to servers.
    shown_to_servers: Vec<CertStore>,
}

/// What a pool gets: settings and servers. A new pool has none before.
struct Backing {
    pool: Pool,
    settings: Settings,
    servers: Servers,
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
    /// Addresses that are open, and are not opened again.
    pub(crate) listening: Vec<ListenAddress>,
    /// What an admin interface measures, if there is one.
    pub(crate) instruments: Option<Instruments>,
}

/// Builds all parts that can be built, and reports all that prevents the use of `config`, as far as that is known
/// before sockets are opened.
///
/// `check`, `run`, `plan`, `explain` and reloads all call it, so that they find the same problems. It only
/// reads files. Connections, lookups of names and watches come later. A panic is reported, too, so that it cannot end a
/// program that reloads.
pub(crate) fn build(config: &Config, before: &Before, problems: &mut Problems) -> Parts {
    let mut found = Problems::default();
    let built = catch_unwind(AssertUnwindSafe(|| build_all(config, before, &mut found)));
    problems.extend(found);
    let parts = built.unwrap_or_else(|_| {
        let place = Source::new("configuration", "").place(0..0);
        problems.error(
            place,
            "this configuration cannot be built; please report this as a bug",
        );
        Parts::default()
    });
    log::check(&config.log, problems);
    check_paths(config, &before.listening, problems);
    check_buffers(config, problems);
    // Last, because it is silent after errors.
    check_descriptors(config, problems);
    parts
}

fn build_all(config: &Config, before: &Before, problems: &mut Problems) -> Parts {
    let certificates = &config.certificates;
    let mut pools = HashMap::new();
    let mut backends = Vec::new();
    let mut shown_to_servers = Vec::new();
    for backend in &config.backends {
        let name = &backend.name.value;
        // Both, so that all problems are found.
        let servers = backend::servers(backend, certificates, problems);
        let settings = backend::settings(backend, certificates, problems);
        let (Some(servers), Some(settings)) = (servers, settings) else {
            continue;
        };
        let shown = servers.certificate().into_iter();
        shown_to_servers.extend(shown.chain(settings.certificate()).cloned());
        // One that runs goes on, with its connections, its health and what was requested for its servers.
        let running = before.pools.get(name).cloned();
        let pool = running.unwrap_or_else(|| Pool::builder().with_name(name).build(NO_SERVERS));
        pools.insert(name.clone(), pool.clone());
        backends.push(Backing {
            pool,
            settings,
            servers,
        });
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
        backends,
        shown_to_servers,
    }
}

/// A pool has none until it is used, so that nothing is connected to for a configuration that may yet be rejected.
const NO_SERVERS: [upstream::Server; 0] = [];

impl Parts {
    /// Changes what runs already, where the new configuration wants that.
    ///
    /// `kept` is the limit of connections of a listener, if that of the file is not used.
    pub(crate) fn commit(&mut self, config: &Config, kept: impl Fn(&str) -> Option<usize>) {
        self.start_pools();
        for listener in &config.listeners {
            if let Some(gate) = self.gates.get(&listener.name.value) {
                let name = &listener.name.value;
                gate.state.resize(&listener.guards, kept(name));
                show_limit(name, gate.state.limit().limit());
            }
        }
    }
}

impl Parts {
    /// Gives pools their settings and servers, which are resolved and checked from now on.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(crate) fn start_pools(&mut self) {
        for Backing {
            pool,
            settings,
            servers,
        } in self.backends.drain(..)
        {
            pool.reconfigure_with(settings.watched(), servers.watched());
        }
    }

    /// Gives pools the servers of `config` whose addresses are known, which are not checked.
    pub(crate) fn list_servers(&mut self, config: &Config) {
        for Backing {
            pool,
            settings,
            servers,
        } in self.backends.drain(..)
        {
            let mut backends = config.backends.iter();
            let backend = backends.find(|it| pool.name() == Some(&it.name.value));
            let servers = backend.map(|backend| servers.with_addresses(backend));
            pool.reconfigure_with(settings.without_check(), servers.unwrap_or_default());
        }
    }

    /// The certificates that listeners and the admin interface show, and those that are shown to servers.
    pub(crate) fn certificates(&self) -> Vec<CertStore> {
        let of_listeners = self.gates.values().flat_map(Gate::certificates);
        let admin = self.admin.as_ref().and_then(|admin| admin.tls.as_ref());
        let of_admin = admin.map(|tls| tls.store.clone());
        let to_servers = self.shown_to_servers.iter().cloned();
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
