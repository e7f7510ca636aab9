//! A running configuration, and its reload.
//!
//! A reload is a transaction. Everything new is read and opened first. If anything fails, the old configuration
//! goes on, and the log says why. Then stacks are swapped, which concerns new connections; the old ones keep their
//! stack. Listeners that are gone are drained.

#[cfg(unix)]
use crate::system::upgrade::{self, Restart};
use crate::{
    admin::{Instruments, count_reload},
    build::{self, Before, Gate, Parts, Rules, Stack, State},
    config::{Config, ListenAddress, Listener, Problems, Workers, chain},
    log,
    plan::{self, When},
    system::{Bound, CannotListen, Event, Events, Notifier, Sockets},
    view::{Current, ListenerView, Socket, View, label},
};
#[cfg(unix)]
use portcullis::upstream::ServerState;
use portcullis::{
    Server,
    listener::Listener as _,
    middleware::tls::{CertStore, store::Watch},
    server::{self, Drain, Handle, Report},
    service::{Reload, ReloadHandle},
    upstream::Pool,
};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

/// Listeners, backends, and the configuration that they came from.
pub(crate) struct Running {
    config: Config,
    server: Handle,
    view: Arc<View>,
    instruments: Option<Instruments>,
    listeners: HashMap<String, RunningListener>,
    /// Sockets that drain, with the listener that they belonged to.
    leaving: Vec<ListenerView>,
    pools: HashMap<String, Pool>,
    /// Pools that were replaced. They check their servers while they have connections.
    retired: Vec<Pool>,
    sockets: Sockets,
    notifier: Notifier,
    #[cfg(unix)]
    restart: Restart,
}

struct RunningListener {
    addresses: Vec<ListenAddress>,
    service: Reload<Stack>,
    current: ReloadHandle<Stack>,
    state: State,
    rules: Rules,
    sockets: Vec<Socket>,
    certificates: Vec<CertStore>,
    _watches: Vec<Watch>,
}

/// What can be requested of a running program, besides signals.
pub(crate) enum Request {
    /// Reads the configuration file again. The reply contains the problems that prevent it.
    Reload {
        reply: oneshot::Sender<Result<(), Vec<String>>>,
    },
}

impl Running {
    /// Opens all listeners, then serves them.
    pub(crate) fn start(
        config: Config,
        parts: Parts,
        instruments: Option<Instruments>,
        file: Option<&Path>,
        mut sockets: Sockets,
    ) -> Result<Self, CannotListen> {
        sockets.set_per_core(config.process.workers == Workers::PerCore);
        let bound = sockets.open(&config, &HashMap::new())?;
        let workers = match config.process.workers {
            Workers::Shared | Workers::Threads(_) => server::Workers::Caller,
            Workers::PerCore => server::Workers::PerCore,
        };
        let server = Server::new()
            .workers(workers)
            .stop_on_signals()
            .until_stopped()
            .spawn()
            .expect("a server without listeners starts");
        let mut running = Self {
            config: Config::default(),
            view: Arc::new(View::new(server.clone(), file.map(Into::into))),
            server,
            instruments,
            listeners: HashMap::new(),
            leaving: Vec::new(),
            pools: HashMap::new(),
            retired: Vec::new(),
            sockets,
            notifier: Notifier::from_env(),
            #[cfg(unix)]
            restart: Restart::new(),
        };
        running.sockets.settle();
        running.commit(config, parts, bound);
        Ok(running)
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    /// What runs, for those who only look.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    /// Serves until a signal or an upgrade, and reloads its file on SIGHUP and by request. An upgrade takes the
    /// sockets of the server `admin`, too.
    pub(crate) async fn serve(
        mut self,
        mut events: Events,
        mut requests: mpsc::Receiver<Request>,
        admin: Option<Handle>,
    ) -> Report {
        self.notifier.start_watchdog();
        self.notifier.ready(&self.status());
        let server = self.server.clone();
        let handle_events = async {
            let mut draining = pin!(server.draining());
            let mut is_draining = false;
            let mut looks = interval(LOOK);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = &mut draining, if !is_draining => {
                        is_draining = true;
                        self.notifier.stopping();
                    }
                    event = events.next() => match event {
                        Event::Reload => drop(self.reload()),
                        #[cfg(unix)]
                        Event::ReopenLog => self.reopen_log(),
                        #[cfg(unix)]
                        Event::Restart => self.restart(),
                        #[cfg(unix)]
                        Event::Upgrade(request) => {
                            self.upgrade(request, &mut events, admin.as_ref()).await;
                        }
                    },
                    _ = looks.tick(), if !self.retired.is_empty() => self.drop_retired(),
                    Some(request) = requests.recv() => match request {
                        Request::Reload { reply } => {
                            let _gone = reply.send(self.reload());
                        }
                    },
                }
            }
        };
        tokio::select! {
            biased;
            // First, so that a shutdown is reported that ends immediately.
            () = handle_events => unreachable!("it loops"),
            report = server.wait() => report,
        }
    }

    /// Opens the file of access lines again, after its rotation.
    #[cfg(unix)]
    fn reopen_log(&self) {
        match log::open(&self.config.log) {
            Ok(opened) => opened.commit(),
            Err(error) => tracing::error!("{error}; access lines go where they went before"),
        }
    }

    /// Starts the program again, which then asks this process for its sockets.
    #[cfg(unix)]
    fn restart(&self) {
        if self.is_ending() {
            tracing::warn!("no new process is started, because the program shuts down");
            return;
        }
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
    async fn upgrade(
        &mut self,
        mut request: upgrade::Request,
        events: &mut Events,
        admin: Option<&Handle>,
    ) {
        let process = request.process.unwrap_or_default();
        tracing::info!(process, "a new process asks for the sockets");
        let activated = self.sockets.activated_by_name();
        let paused = self.paused();
        let handed_over = request.hand_over([Some(&self.server), admin], activated);
        if let Err(error) = handed_over.await {
            tracing::error!(process, %error, "the upgrade failed; this process goes on");
            return;
        }
        // Before the acknowledgement, after which the new process listens on the same path and reports to systemd.
        events.set_offer(None);
        events.set_watch(None);
        std::mem::take(&mut self.notifier).replaced_by(process);
        if let Err(error) = request.finish().await {
            tracing::warn!(process, %error, "the new process did not wait for this one");
        }
        for what in paused {
            tracing::warn!(process, "{what}, and the new process does not know it");
        }
        tracing::info!(process, "the new process has taken over; this one drains");
        self.view.stop();
    }

    /// What an operator has stopped, in words.
    #[cfg(unix)]
    fn paused(&self) -> Vec<String> {
        let listeners = self.server.listeners().into_iter();
        let listeners = listeners.filter(|it| it.status().state == server::State::Paused);
        let listeners = listeners.map(|it| format!("listener \"{}\" is paused", it.name()));
        let servers = self.pools.iter().flat_map(|(name, pool)| {
            let servers = pool.servers().into_iter();
            let stopped = servers
                .filter(|it| matches!(it.state, ServerState::Draining | ServerState::TakenDown));
            stopped.map(move |it| format!("server {} of \"{name}\" is {}", it.key, it.state))
        });
        listeners.chain(servers).collect()
    }

    /// Whether it drains, perhaps because another process has taken over.
    fn is_ending(&self) -> bool {
        use server::State;
        !matches!(self.view.state(), State::Running | State::Paused)
    }

    /// Uses the file as it is now, or goes on with the old configuration.
    ///
    /// A process that ends keeps its configuration. It would open sockets that the next process needs.
    fn reload(&mut self) -> Result<(), Vec<String>> {
        if self.is_ending() {
            let reason = "the program shuts down";
            tracing::warn!("the configuration is not reloaded, because {reason}");
            return Err(vec![reason.into()]);
        }
        let Some(file) = self.view.file.clone() else {
            return Err(vec![
                "this configuration has no file that could be read again".into(),
            ]);
        };
        self.notifier.reloading();
        let result = self.try_reload(&file);
        self.notifier.ready(&match &result {
            Ok(()) => self.status(),
            Err(problems) => {
                let first = problems.first().map_or("", |problem| problem);
                format!("the last reload failed: {first}")
            }
        });
        self.view.reloaded(match &result {
            Ok(()) => Ok(()),
            Err(problems) => Err(problems),
        });
        count_reload(if result.is_ok() {
            "completed"
        } else {
            "failed"
        });
        match &result {
            Ok(()) => tracing::info!(file = %file.display(), "the configuration was reloaded"),
            Err(problems) => {
                for problem in problems {
                    tracing::error!("{problem}");
                }
                tracing::error!("the configuration was not reloaded; the old one stays in use");
            }
        }
        result
    }

    /// In words, for systemd.
    fn status(&self) -> String {
        let (listeners, backends) = (self.listeners.len(), self.pools.len());
        format!("serving {listeners} listeners with {backends} backends")
    }

    fn try_reload(&mut self, file: &Path) -> Result<(), Vec<String>> {
        // Reading small files blocks for less time than a connection notices.
        tokio::task::block_in_place(|| {
            let (config, mut problems) = Config::load(file);
            let before = Before {
                backends: &self.config.backends,
                pools: self.pools.clone(),
                states: self.states(),
                instruments: self.instruments.clone(),
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
            // Again, also if nothing was changed, because the file may have been rotated.
            let access = log::open(&config.log).map_err(|error| vec![error])?;
            for problem in lines(problems) {
                tracing::warn!("{problem}");
            }
            self.warn_of_restart(&config);
            if self.config.log.level != config.log.level {
                log::set_level(config.log.level.0);
            }
            access.commit();
            self.commit(config, parts, sockets);
            Ok(())
        })
    }

    /// Says which changes wait for the next start.
    fn warn_of_restart(&self, config: &Config) {
        let changes = plan::changes(&self.config, config).into_iter();
        for change in changes.filter(|change| change.when == When::Restart) {
            tracing::warn!(
                "the change of {} takes effect when the program is started again",
                change.key
            );
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
        let drain = Drain::new()
            .with_notice_period(config.drain.announce)
            .with_deadline(config.drain.deadline);
        self.server.set_drain(drain);
        for listener in &config.listeners {
            let name = &listener.name.value;
            let gate = parts.gates.remove(name).expect("each listener was built");
            self.swap(name, gate);
        }
        for bound in sockets {
            let name = bound.listener;
            let listener = self.listeners.get_mut(&name).expect("it was swapped in");
            let locals: Vec<_> = bound.sockets.iter().map(|it| it.local_address()).collect();
            let label = label(&name, &bound.address);
            let served = self
                .server
                .listen_all_as(label, bound.sockets, listener.service.clone());
            match served {
                Ok(handle) => {
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
        let mut old = std::mem::replace(&mut self.pools, parts.pools);
        old.retain(|name, pool| !self.pools.get(name).is_some_and(|new| new.is_same(pool)));
        old.values().for_each(Pool::retire);
        self.retired.extend(old.into_values());
        self.drop_retired();
        if let Some(admin) = parts.admin {
            self.view.token.store(admin.token.map(Arc::new));
        }
        // Those of the first start stay in use, but for the token.
        let (process, format) = (self.config.process.clone(), self.config.log.format);
        let mut admin = self.config.admin.clone();
        if let (Some(admin), Some(new)) = (&mut admin, &config.admin) {
            admin.token.clone_from(&new.token);
        }
        let is_first = self.config.listeners.is_empty();
        self.config = config;
        if !is_first {
            (self.config.process, self.config.log.format) = (process, format);
            self.config.admin = admin;
        }
        self.publish();
    }

    /// Drops the replaced pools that have no connections, which ends their health checks.
    fn drop_retired(&mut self) {
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
                    let drain = Drain::new().with_deadline(self.config.drain.deadline);
                    // It has begun; the report is that of each connection.
                    drop(listener.drain(drain));
                }
            }
        }
        let removed = self.listeners.extract_if(|name, _| find(name).is_none());
        self.leaving
            .extend(removed.map(|(name, running)| running.view(&name)));
    }
}

impl RunningListener {
    fn view(&self, name: &str) -> ListenerView {
        ListenerView {
            name: name.to_owned(),
            sockets: self.sockets.clone(),
            limit: self.state.limit(),
            certificates: self.certificates.clone(),
        }
    }
}

/// Between looks at replaced pools.
const LOOK: Duration = Duration::from_secs(10);

fn addresses(listener: &Listener) -> Vec<ListenAddress> {
    let listen = listener.listen.iter();
    listen.map(|address| address.value.clone()).collect()
}

fn lines(problems: Problems) -> Vec<String> {
    let problems = problems.sorted().into_iter();
    problems.map(|problem| problem.to_string()).collect()
}
