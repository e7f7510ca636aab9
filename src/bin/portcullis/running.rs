//! A running configuration, and its reload.
//!
//! A reload is a transaction. Everything new is read and opened first. If anything fails, the old configuration
//! goes on, and the log says why. Then stacks are swapped, which concerns new connections; the old ones keep their
//! stack. Listeners that are gone are drained.

use crate::{
    admin::{Instruments, count_reload},
    build::{self, Before, Gate, Parts, Rules, Stack, State},
    config::{Config, ListenAddress, Listener, Problems, chain},
    plan::{self, When},
    view::{Current, ListenerView, Socket, View, label},
};
use portcullis::{
    BoxError, Server,
    listener::{AnyListener, BindError, Listener as _, TcpOptions, UnixListener},
    middleware::tls::{CertStore, store::Watch},
    server::{Drain, Handle, Report},
    service::{Reload, ReloadHandle},
    upstream::Pool,
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::Path,
    sync::Arc,
    time::SystemTime,
};
use tokio::sync::{mpsc, oneshot};

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

/// An address that cannot be listened on.
pub(crate) struct CannotListen {
    pub(crate) place: String,
    pub(crate) who: String,
    pub(crate) error: BindError,
}

impl fmt::Display for CannotListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, who, error } = self;
        write!(f, "{place}: {who}: {}", chain(error))
    }
}

/// A socket that is open and not yet used.
type Bound = (String, ListenAddress, AnyListener);

impl Running {
    /// Binds all listeners, then serves them.
    pub(crate) fn start(
        config: Config,
        parts: Parts,
        instruments: Option<Instruments>,
        file: Option<&Path>,
    ) -> Result<Self, CannotListen> {
        let sockets = bind(&config, &HashMap::new())?;
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
            view: Arc::new(View::new(server.clone(), file.map(Into::into))),
            server,
            instruments,
            listeners: HashMap::new(),
            leaving: Vec::new(),
            pools: HashMap::new(),
            retired: Vec::new(),
        };
        running.commit(config, parts, sockets);
        Ok(running)
    }

    /// What runs, for those who only look.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    /// Serves until a signal, and reloads its file on SIGHUP and by request.
    pub(crate) async fn serve(
        mut self,
        mut hangups: Hangups,
        mut requests: mpsc::Receiver<Request>,
    ) -> Result<Report, BoxError> {
        let server = self.server.clone();
        let reloads = async {
            loop {
                tokio::select! {
                    () = hangups.recv() => drop(self.reload()),
                    Some(request) = requests.recv() => match request {
                        Request::Reload { reply } => {
                            let _gone = reply.send(self.reload());
                        }
                    },
                }
            }
        };
        tokio::select! {
            report = server.wait() => Ok(report),
            () = reloads => unreachable!("it loops"),
        }
    }

    /// Uses the file as it is now, or goes on with the old configuration.
    fn reload(&mut self) -> Result<(), Vec<String>> {
        let Some(file) = self.view.file.clone() else {
            return Err(vec![
                "this configuration has no file that could be read again".into(),
            ]);
        };
        let result = self.try_reload(&file);
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
            let sockets =
                bind(&config, &known.collect()).map_err(|error| vec![error.to_string()])?;
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
        for listener in &config.listeners {
            let name = &listener.name.value;
            let gate = parts.gates.remove(name).expect("each listener was built");
            self.swap(name, gate);
        }
        for (name, address, socket) in sockets {
            let listener = self.listeners.get_mut(&name).expect("it was swapped in");
            let local = socket.local_address();
            let served =
                self.server
                    .listen_as(label(&name, &address), socket, listener.service.clone());
            match served {
                Ok(handle) => {
                    tracing::info!(listener = name, "listening on {local}");
                    listener.sockets.push(Socket { local, handle });
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
        if let Some(admin) = parts.admin {
            self.view.token.store(admin.token.map(Arc::new));
        }
        // Those of the first start stay in use.
        let (drain, log) = (self.config.drain, self.config.log);
        let admin = self.config.admin.clone();
        let is_first = self.config.listeners.is_empty();
        self.config = config;
        if !is_first {
            (self.config.drain, self.config.log) = (drain, log);
            self.config.admin = admin;
        }
        self.publish();
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

/// Opens the sockets that are not open yet.
fn bind(
    config: &Config,
    open: &HashMap<&str, &[ListenAddress]>,
) -> Result<Vec<Bound>, CannotListen> {
    let mut bound = Vec::new();
    for listener in &config.listeners {
        let name = &listener.name.value;
        let known = open.get(&**name).copied().unwrap_or_default();
        for listen in &listener.listen {
            if known.contains(&listen.value) {
                continue;
            }
            let socket = open_socket(&listen.value);
            let socket = socket.map_err(|error| CannotListen {
                place: listen.place.to_string(),
                who: format!("listener \"{name}\""),
                error,
            })?;
            bound.push((name.clone(), listen.value.clone(), socket));
        }
    }
    Ok(bound)
}

pub(crate) fn open_socket(address: &ListenAddress) -> Result<AnyListener, BindError> {
    Ok(match address {
        // `[::]` leaves IPv4 to `0.0.0.0`, so that both can be listed.
        ListenAddress::Tcp(address) => TcpOptions::new()
            .with_only_v6(address.is_ipv6())
            .bind(*address)?
            .into(),
        ListenAddress::Unix(path) => UnixListener::bind(path)?.into(),
    })
}

fn addresses(listener: &Listener) -> Vec<ListenAddress> {
    let listen = listener.listen.iter();
    listen.map(|address| address.value.clone()).collect()
}

fn lines(problems: Problems) -> Vec<String> {
    let problems = problems.sorted().into_iter();
    problems.map(|problem| problem.to_string()).collect()
}

/// SIGHUP, which asks for a reload.
#[cfg(unix)]
pub(crate) struct Hangups(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Hangups {
    pub(crate) fn new() -> Result<Self, BoxError> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self(signal(SignalKind::hangup())?))
    }

    async fn recv(&mut self) {
        self.0.recv().await;
    }
}

#[cfg(not(unix))]
pub(crate) struct Hangups;

#[cfg(not(unix))]
impl Hangups {
    pub(crate) fn new() -> Result<Self, BoxError> {
        Ok(Self)
    }

    async fn recv(&mut self) {
        std::future::pending().await
    }
}
