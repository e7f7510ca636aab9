//! A running configuration, and what changes it: [`reload`]s, and an [`upgrade`](self::upgrade) that hands it over.

mod commit;
mod kept;
#[cfg(unix)]
mod passed_on;
mod progress;
mod reload;
#[cfg(unix)]
mod upgrade;

use self::progress::Progress;
#[cfg(unix)]
use crate::system::upgrade::Restart;
use crate::{
    admin::{self, Admin, Instruments},
    build::{AdminTls, Parts, Rules, Stack, State},
    config::{self, Config, ListenAddress, Workers},
    system::{CannotListen, Event, Events, Notifier, Sockets},
    view::{ListenerView, Socket, View},
};
use portcullis::{
    Server,
    middleware::tls::{CertStore, store::Watch},
    server::{self, Handle, Report},
    service::{Reload, ReloadHandle},
    upstream::Pool,
};
use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

pub(crate) use self::progress::Remaining;

/// Listeners, backends, and the configuration that they came from.
pub(crate) struct Running {
    config: Config,
    server: Handle,
    view: Arc<View>,
    instruments: Option<Instruments>,
    admin: Option<Admin>,
    /// What is requested through the admin interface.
    requests: mpsc::Sender<Request>,
    listeners: HashMap<String, RunningListener>,
    /// Sockets that drain, with the listener that they belonged to.
    leaving: Vec<ListenerView>,
    pools: HashMap<String, Pool>,
    /// Pools of backends that were removed. They are kept while they have connections.
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
        requests: mpsc::Sender<Request>,
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
            admin: None,
            requests,
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
        #[cfg(unix)]
        let changes = running.sockets.take_changes();
        // Until a listener that operators have paused is paused again.
        #[cfg(unix)]
        running.server.pause();
        running.commit(config, parts, bound, None);
        #[cfg(unix)]
        {
            running.repeat(&changes);
            running.server.resume();
        }
        Ok(running)
    }

    /// Serves an admin interface, whose socket closes at the end, if there is what it measures.
    pub(crate) fn start_admin(
        &mut self,
        settings: &config::Admin,
        bound: admin::Bound,
        tls: Option<AdminTls>,
    ) {
        let instruments = self.instruments.clone();
        let (view, requests) = (self.view.clone(), self.requests.clone());
        let start = |it| Admin::start(settings, bound, tls, view, requests, it);
        self.admin = instruments.map(start);
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    /// What runs, for those who only look.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    /// Serves until a signal or an upgrade, and reloads its file on SIGHUP and by request.
    pub(crate) async fn serve(
        mut self,
        mut events: Events,
        mut requests: mpsc::Receiver<Request>,
    ) -> Report {
        self.notifier.start_watchdog();
        self.notifier.ready(&self.status());
        let server = self.server.clone();
        let handle_events = async {
            let mut progress = Progress::new(server.clone());
            let mut looks = interval(LOOK);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    remaining = progress.next() => self.notifier.stopping(&remaining),
                    event = events.next() => match event {
                        Event::Reload => drop(self.reload()),
                        #[cfg(unix)]
                        Event::ReopenLog => self.reopen_log(),
                        #[cfg(unix)]
                        Event::Restart => self.restart(),
                        #[cfg(unix)]
                        Event::Upgrade(request) => {
                            self.upgrade(request, &mut events).await;
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
        let report = tokio::select! {
            biased;
            // First, so that a shutdown is reported that ends immediately.
            () = handle_events => unreachable!("it loops"),
            report = server.wait() => report,
        };
        // Last, so that it shows the shutdown.
        if let Some(admin) = self.admin.take() {
            admin.end().await;
        }
        report
    }

    /// Whether it drains, perhaps because another process has taken over.
    fn is_ending(&self) -> bool {
        self.view.is_ending()
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

/// Between looks at the pools of removed backends.
const LOOK: Duration = Duration::from_secs(10);
