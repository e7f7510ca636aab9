//! A running configuration, and its reload.
//!
//! A reload is a transaction. Everything new is read and opened first. If anything fails, the old configuration
//! goes on, and the log says why. Then stacks are swapped, which concerns new connections; the old ones keep their
//! stack. Listeners that are gone are drained.

#[cfg(unix)]
use crate::system::upgrade::{Request, Restart};
use crate::{
    build::{self, Before, Gate, Parts, Stack, State},
    config::{Config, ListenAddress, Listener, Problems, chain},
    system::{Bound, CannotListen, Event, Events, Sockets, label},
};
use portcullis::{
    Server,
    listener::Listener as _,
    middleware::tls::store::Watch,
    server::{Drain, Handle, Report},
    service::{Reload, ReloadHandle},
    upstream::Pool,
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

/// Listeners, backends, and the configuration that they came from.
pub(crate) struct Running {
    config: Config,
    server: Handle,
    listeners: HashMap<String, RunningListener>,
    pools: HashMap<String, Pool>,
    /// Pools that were replaced. They check their servers while they have connections.
    retired: Vec<Pool>,
    sockets: Sockets,
    #[cfg(unix)]
    restart: Restart,
}

struct RunningListener {
    addresses: Vec<ListenAddress>,
    service: Reload<Stack>,
    current: ReloadHandle<Stack>,
    state: State,
    _watches: Vec<Watch>,
}

impl Running {
    /// Opens all listeners, then serves them.
    pub(crate) fn start(
        config: Config,
        parts: Parts,
        mut sockets: Sockets,
    ) -> Result<Self, CannotListen> {
        let bound = sockets.open(&config, &HashMap::new())?;
        let drain = Drain::new()
            .with_notice_period(config.drain.announce)
            .with_deadline(config.drain.deadline);
        let server = Server::new()
            .drain(drain)
            .stop_on_signals()
            .until_stopped()
            .spawn()
            .expect("a server without listeners starts");
        let mut running = Self {
            config: Config::default(),
            server,
            listeners: HashMap::new(),
            pools: HashMap::new(),
            retired: Vec::new(),
            sockets,
            #[cfg(unix)]
            restart: Restart::new(),
        };
        #[cfg(unix)]
        running.sockets.close_others();
        running.commit(config, parts, bound);
        Ok(running)
    }

    /// The names of all sockets that are served.
    #[cfg(unix)]
    pub(crate) fn labels(&self) -> Vec<String> {
        let listeners = self.listeners.iter();
        let labels = listeners.flat_map(|(name, listener)| {
            let addresses = listener.addresses.iter();
            addresses.map(|address| label(name, address))
        });
        labels.collect()
    }

    /// Serves until a signal or an upgrade, and reloads `file` on SIGHUP.
    pub(crate) async fn serve(mut self, file: Option<PathBuf>, mut events: Events) -> Report {
        let server = self.server.clone();
        let handle_events = async {
            loop {
                match events.next().await {
                    Event::Reload => {
                        if let Some(file) = &file {
                            self.reload(file).await;
                        }
                    }
                    #[cfg(unix)]
                    Event::Restart => self.restart(),
                    #[cfg(unix)]
                    Event::Upgrade(request) => self.upgrade(request, &mut events).await,
                }
            }
        };
        tokio::select! {
            report = server.wait() => report,
            () = handle_events => unreachable!("it loops"),
        }
    }

    /// Starts the program again, which then asks this process for its sockets.
    #[cfg(unix)]
    fn restart(&self) {
        if self.config.process.upgrade_socket.is_none() {
            tracing::error!("an upgrade needs `process.upgrade-socket` in the configuration");
            return;
        }
        match self.restart.start() {
            Ok(process) => tracing::info!(process, "a new process was started for an upgrade"),
            Err(error) => tracing::error!(%error, "no new process can be started"),
        }
    }

    /// Hands the sockets to a new process, then drains. If that fails, this process goes on.
    #[cfg(unix)]
    async fn upgrade(&mut self, mut request: Request, events: &mut Events) {
        let process = request.process.unwrap_or_default();
        tracing::info!(process, "a new process asks for the sockets");
        if let Err(error) = request.hand_over(&self.server).await {
            tracing::error!(process, %error, "the upgrade failed; this process goes on");
            return;
        }
        // Before the acknowledgement, after which the new process listens on the same path.
        events.set_offer(None);
        if let Err(error) = request.finish().await {
            tracing::warn!(process, %error, "the new process did not wait for this one");
        }
        tracing::info!(process, "the new process has taken over; this one drains");
        self.server.stop();
    }

    /// Uses the file as it is now, or goes on with the old configuration.
    async fn reload(&mut self, file: &Path) {
        match self.try_reload(file) {
            Ok(()) => tracing::info!(file = %file.display(), "the configuration was reloaded"),
            Err(problems) => {
                for problem in problems {
                    tracing::error!("{problem}");
                }
                tracing::error!("the configuration was not reloaded; the old one stays in use");
            }
        }
    }

    fn try_reload(&mut self, file: &Path) -> Result<(), Vec<String>> {
        // Reading small files blocks for less time than a connection notices.
        tokio::task::block_in_place(|| {
            let (config, mut problems) = Config::load(file);
            let before = Before {
                backends: &self.config.backends,
                pools: self.pools.clone(),
                states: self.states(),
                is_dry_run: false,
            };
            let parts = build::build(&config, &before, &mut problems);
            if problems.errors() > 0 {
                return Err(lines(problems));
            }
            let known = self.listeners.iter();
            let known = known.map(|(name, listener)| (&**name, &*listener.addresses));
            let sockets = self.sockets.open(&config, &known.collect());
            let sockets = sockets.map_err(|error| vec![error.to_string()])?;
            for problem in lines(problems) {
                tracing::warn!("{problem}");
            }
            self.warn_of_restart(&config);
            self.commit(config, parts, sockets);
            Ok(())
        })
    }

    /// Says which changes wait for the next start.
    fn warn_of_restart(&self, config: &Config) {
        if self.config.log != config.log {
            tracing::warn!("the change of [log] takes effect when the program is started again");
        }
        if self.config.drain != config.drain {
            tracing::warn!("the change of [drain] takes effect when the program is started again");
        }
    }

    fn states(&self) -> HashMap<String, State> {
        let states = self.listeners.iter();
        states
            .map(|(name, listener)| (name.clone(), listener.state.clone()))
            .collect()
    }

    /// From here on nothing fails.
    fn commit(&mut self, config: Config, mut parts: Parts, sockets: Vec<Bound>) {
        parts.commit(&config);
        for listener in &config.listeners {
            let name = &listener.name.value;
            let gate = parts.gates.remove(name).expect("each listener was built");
            self.swap(name, gate);
        }
        for bound in sockets {
            let name = &bound.listener;
            let locals: Vec<_> = bound.sockets.iter().map(|it| it.local_address()).collect();
            let label = label(name, &bound.address);
            let service = self.listeners[name].service.clone();
            match self.server.listen_all_as(label, bound.sockets, service) {
                Ok(_) => {
                    for local in locals {
                        tracing::info!(listener = name, "listening on {local}");
                    }
                }
                // Only a server that stops takes no listeners.
                Err(error) => {
                    tracing::warn!(listener = name, error = chain(&error), "not listening")
                }
            }
        }
        self.drain_others(&config);
        for listener in &config.listeners {
            if let Some(running) = self.listeners.get_mut(&listener.name.value) {
                running.addresses = addresses(listener);
            }
        }
        let old = std::mem::replace(&mut self.pools, parts.pools);
        let is_used = |pool: &Pool| pool.servers().iter().any(|server| server.connections > 0);
        self.retired.extend(old.into_values());
        self.retired.retain(is_used);
        // Those of the first start stay in use.
        let (drain, log) = (self.config.drain, self.config.log);
        let is_first = self.config.listeners.is_empty();
        self.config = config;
        if !is_first {
            (self.config.drain, self.config.log) = (drain, log);
        }
    }

    fn swap(&mut self, name: &str, gate: Gate) {
        let watches = gate.watch();
        match self.listeners.get_mut(name) {
            Some(running) => {
                running.current.swap(gate.stack);
                running.state = gate.state;
                running._watches = watches;
            }
            None => {
                let (service, current) = Reload::pair(gate.stack);
                let running = RunningListener {
                    addresses: Vec::new(),
                    service,
                    current,
                    state: gate.state,
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
                    let drain = Drain::new().with_deadline(self.config.drain.deadline);
                    // It has begun; the report is that of each connection.
                    drop(listener.drain(drain));
                }
            }
        }
        self.listeners.retain(|name, _| find(name).is_some());
    }
}

fn addresses(listener: &Listener) -> Vec<ListenAddress> {
    let listen = listener.listen.iter();
    listen.map(|address| address.value.clone()).collect()
}

fn lines(problems: Problems) -> Vec<String> {
    let problems = problems.sorted().into_iter();
    problems.map(|problem| problem.to_string()).collect()
}
