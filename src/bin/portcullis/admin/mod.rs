//! The admin interface: what operators see and change of a running program, over HTTP.
//!
//! It has a server of its own, so that it is not counted among the listeners, shows the graceful shutdown, and ends
//! last. [`router`] finds the endpoint of a request, [`access`] decides who may use it, and each endpoint has a
//! module. They read what runs from the [`View`], and leave changes of the configuration to
//! [`Running`](crate::running::Running).

mod access;
mod backends;
mod certificates;
mod connection;
mod connections;
mod endings;
mod filter;
mod health;
mod histogram;
mod listeners;
mod live;
mod metrics;
mod page;
mod places;
mod query;
mod questions;
mod registry;
mod reload;
mod reply;
mod router;
mod status;
mod story;
mod time;

pub(crate) use self::{
    endings::Endings,
    metrics::{count_rechecked, count_reload, show_limit},
    query::encode,
};

use crate::{
    build::{AdminTls, Stack},
    config::{self, ListenAddress, chain},
    running::Request,
    system::{CannotListen, Sockets},
    view::{View, label},
};
use access::Access;
use arc_swap::ArcSwap;
use live::Live;
use metrics::Metrics;
use places::Places;
use portcullis::{
    Server,
    listener::{AnyListener, Listener as _},
    middleware::{
        limit::ConnectionLimitLayer,
        log_limit::LogLimit,
        observe::TraceLayer,
        timeout::{ConnectionTimeoutLayer, IoTimeoutLayer},
    },
    server::{Drain, Handle, ListenerHandle, ServeError},
    service::{HttpService, Reload, ReloadHandle},
    stack::{self, Options},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinHandle};
use tower::{service_fn, util::BoxCloneSyncService};

/// Opens the socket.
pub(crate) fn bind(settings: &config::Admin, sockets: &mut Sockets) -> Result<Bound, CannotListen> {
    let label = label_of(&settings.listen.value);
    let sockets = sockets.open_admin(&label, NAME, &settings.listen, settings.socket_mode)?;
    Ok(Bound { label, sockets })
}

/// The name of its socket within its server.
pub(crate) fn label_of(address: &ListenAddress) -> String {
    label(OWNER, address)
}

/// Whether the socket with this label is that of the admin interface.
pub(crate) fn is_admin(label: &str) -> bool {
    crate::view::listener_of(label) == OWNER
}

/// An open socket that is not used yet.
pub(crate) struct Bound {
    label: String,
    sockets: Vec<AnyListener>,
}

/// A running admin interface.
pub(crate) struct Admin {
    server: Handle,
    listener: ListenerHandle,
    interface: Arc<Interface>,
    service: Reload<Stack>,
    current: ReloadHandle<Stack>,
    sampler: JoinHandle<()>,
    _tls: Option<AdminTls>,
}

/// What all requests share.
pub(crate) struct Interface {
    pub(crate) view: Arc<View>,
    pub(crate) requests: mpsc::Sender<Request>,
    access: ArcSwap<Access>,
    places: Places,
    /// Log lines of changes that were refused. Clients without the token could fill the log.
    refused: LogLimit,
    endings: Arc<Endings>,
    live: Arc<Live>,
    metrics: Metrics,
}

/// What the interface learns from the stacks of connections, where there is one.
#[derive(Clone)]
pub(crate) struct Instruments {
    pub(crate) endings: Arc<Endings>,
    metrics: Metrics,
}

impl Instruments {
    /// Before pools and stacks are built, because metrics are registered with them.
    pub(crate) fn install_metrics() {
        Metrics::install();
    }

    /// Before the stacks are built.
    pub(crate) fn new(settings: &config::Admin) -> Self {
        Self {
            endings: Arc::new(Endings::new(settings.endings)),
            metrics: Metrics::install(),
        }
    }
}

impl Admin {
    /// Serves on a socket until [`stop`](Self::stop).
    pub(crate) fn start(
        settings: &config::Admin,
        bound: Bound,
        tls: Option<AdminTls>,
        view: Arc<View>,
        requests: mpsc::Sender<Request>,
        instruments: Instruments,
    ) -> Self {
        let Instruments { endings, metrics } = instruments;
        endings.resize(settings.endings);
        let live = Arc::new(Live::default());
        let sampler = live
            .clone()
            .sample(view.clone(), endings.clone(), metrics.clone());
        let interface = Arc::new(Interface {
            view,
            requests,
            access: ArcSwap::from_pointee(Access::new(settings)),
            places: Places::default(),
            refused: LogLimit::new(REFUSED, Duration::from_secs(1)),
            endings,
            live,
            metrics,
        });
        let (service, current) = Reload::pair(stack(&interface, tls.as_ref()));
        let server = Server::new()
            .until_stopped()
            .drain(Drain::new().with_deadline(LAST_REPLIES))
            .spawn()
            .expect("a server without listeners starts");
        let listener = listen(&server, bound, &service);
        Self {
            listener: listener.expect("a running server takes a listener"),
            server,
            interface,
            service,
            current,
            sampler: tokio::spawn(sampler),
            _tls: tls,
        }
    }

    /// Uses other settings, and another socket if one was bound for them.
    ///
    /// The old socket closes, and each of its connections ends after the request that it has.
    pub(crate) fn change(
        &mut self,
        settings: &config::Admin,
        bound: Option<Bound>,
        tls: Option<AdminTls>,
    ) {
        // First, because it rejects the requests that the old socket gets from here on.
        self.interface.access.store(Arc::new(Access::new(settings)));
        self.interface.endings.resize(settings.endings);
        self.current.swap(stack(&self.interface, tls.as_ref()));
        self._tls = tls;
        let added = bound.map(|bound| listen(&self.server, bound, &self.service));
        match added {
            None => {}
            Some(Ok(listener)) => {
                let old = std::mem::replace(&mut self.listener, listener);
                // It has begun; nothing waits for its end.
                drop(old.drain(Drain::new().with_deadline(REPLIES)));
            }
            // Only a server that stops takes no listeners.
            Some(Err(error)) => tracing::warn!(error = chain(&error), "the admin interface stays"),
        }
    }

    /// That of its socket.
    pub(crate) const fn listener(&self) -> &ListenerHandle {
        &self.listener
    }

    pub(crate) const fn server(&self) -> &Handle {
        &self.server
    }

    /// Closes the socket, while the program goes on. Connections end after the requests that they have.
    pub(crate) fn remove(self) {
        let drain = Drain::new().with_deadline(REPLIES);
        self.server.set_drain(drain);
        self.stop();
    }

    /// Ends after the last replies were sent.
    pub(crate) async fn end(self) {
        self.stop();
        self.server.wait().await;
    }

    fn stop(&self) {
        self.sampler.abort();
        self.server.stop();
    }
}

fn listen(
    server: &Handle,
    bound: Bound,
    service: &Reload<Stack>,
) -> Result<ListenerHandle, ServeError> {
    let locals: Vec<_> = bound.sockets.iter().map(|it| it.local_address()).collect();
    let listener = server.listen_all_as(bound.label, bound.sockets, service.clone())?;
    for local in locals {
        tracing::info!("admin interface on {local}");
    }
    Ok(listener)
}

fn stack(interface: &Arc<Interface>, tls: Option<&AdminTls>) -> Stack {
    let certificates = tls.map(|tls| Arc::new(tls.store.clone()));
    interface.view.admin_certificates.store(certificates);
    let (opened, closed) = (interface.clone(), interface.clone());
    let trace = TraceLayer::new()
        .with_name("admin")
        .with_level(tracing::Level::DEBUG)
        .on_open(move |info| opened.places.enter(info))
        .on_close(move |end| closed.places.leave(end.info().id()));
    let options = Options::new()
        .with_trace(trace)
        .with_connection_limit(ConnectionLimitLayer::new(2 * places::PLACES))
        .with_connection_timeout(ConnectionTimeoutLayer::new())
        .with_io_timeout(
            IoTimeoutLayer::new()
                .without_read_timeout()
                .with_write_timeout(CLIENT),
        )
        .with_tls(tls.map(|tls| tls.layer.clone()))
        .with_certificate_acl(tls.and_then(|tls| tls.access.clone()));
    let interface = interface.clone();
    let service = service_fn(move |request| router::answer(interface.clone(), request));
    let http = HttpService::new(service)
        .with_first_byte_timeout(CLIENT)
        .with_head_timeout(CLIENT)
        .with_send_timeout(CLIENT)
        .with_hyper(|hyper| {
            hyper.http1().max_buf_size(HEAD).max_headers(64);
            *hyper = hyper.clone().http1_only();
        });
    BoxCloneSyncService::new(stack::recommended(options, http))
}

/// Its name in messages.
const NAME: &str = "admin";

/// The owner of its sockets in an upgrade, which no listener can be called.
const OWNER: &str = "[admin]";

/// Log lines of refused changes, per second.
const REFUSED: u32 = 10;

/// The longest head of a request, in bytes.
const HEAD: usize = 16 * 1024;

/// How long a client may take to send a head, or to read.
const CLIENT: Duration = Duration::from_secs(10);

/// For the replies of a socket that is replaced or removed.
const REPLIES: Duration = Duration::from_secs(10);

/// Between the end of the program's connections and its own.
const LAST_REPLIES: Duration = Duration::from_secs(1);
