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
mod reload;
mod reply;
mod router;
mod status;
mod story;
mod time;

pub(crate) use self::{endings::Endings, metrics::count_reload, query::encode};

use crate::{
    build::AdminTls,
    config,
    running::Request,
    system::{CannotListen, Sockets},
    view::{View, label},
};
use access::Access;
use live::Live;
use metrics::Metrics;
use places::Places;
use portcullis::{
    Server,
    connection::AnyStream,
    listener::{AnyListener, Listener as _},
    middleware::{
        limit::ConnectionLimitLayer,
        log_limit::LogLimit,
        observe::TraceLayer,
        timeout::{ConnectionTimeoutLayer, IoTimeoutLayer},
    },
    server::{self, Drain, Handle},
    service::HttpService,
    stack::{self, Options},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinHandle};
use tower::service_fn;

/// Opens the socket.
pub(crate) fn bind(
    settings: &config::Admin,
    tls: Option<AdminTls>,
    sockets: &mut Sockets,
) -> Result<Bound, CannotListen> {
    let label = label(NAME, &settings.listen.value);
    let sockets = sockets.open_one(&label, NAME, &settings.listen)?;
    let access = Access::new(settings);
    Ok(Bound {
        label,
        sockets,
        access,
        tls,
    })
}

/// An open socket that is not used yet.
pub(crate) struct Bound {
    label: String,
    sockets: Vec<AnyListener>,
    access: Access,
    tls: Option<AdminTls>,
}

/// A running admin interface.
pub(crate) struct Admin {
    server: Handle,
    sampler: JoinHandle<()>,
    _tls: Option<AdminTls>,
}

/// What all requests share.
pub(crate) struct Interface {
    pub(crate) view: Arc<View>,
    pub(crate) requests: mpsc::Sender<Request>,
    access: Access,
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
    /// Before the stacks are built, because metrics are registered with them.
    pub(crate) fn install(settings: &config::Admin) -> Self {
        Self {
            endings: Arc::new(Endings::new(settings.endings)),
            metrics: Metrics::install(),
        }
    }
}

impl Bound {
    pub(crate) fn serve(
        self,
        view: Arc<View>,
        requests: mpsc::Sender<Request>,
        instruments: Instruments,
    ) -> Admin {
        let locals: Vec<_> = self.sockets.iter().map(|it| it.local_address()).collect();
        let Instruments { endings, metrics } = instruments;
        let live = Arc::new(Live::default());
        let sampler = live
            .clone()
            .sample(view.clone(), endings.clone(), metrics.clone());
        let interface = Arc::new(Interface {
            view,
            requests,
            access: self.access,
            places: Places::default(),
            refused: LogLimit::new(REFUSED, Duration::from_secs(1)),
            endings,
            live,
            metrics,
        });
        let stack = stack(&interface, self.tls.as_ref());
        let server = Server::new()
            .until_stopped()
            .drain(Drain::new().with_deadline(LAST_REPLIES))
            .spawn()
            .expect("a server without listeners starts");
        server
            .listen_all_as(self.label, self.sockets, stack)
            .expect("a running server takes a listener");
        for local in locals {
            tracing::info!("admin interface on {local}");
        }
        Admin {
            server,
            sampler: tokio::spawn(sampler),
            _tls: self.tls,
        }
    }
}

impl Admin {
    pub(crate) const fn server(&self) -> &Handle {
        &self.server
    }

    /// Ends after the last replies were sent.
    pub(crate) async fn stop(self) {
        self.server.stop();
        self.server.wait().await;
        self.sampler.abort();
    }
}

fn stack(
    interface: &Arc<Interface>,
    tls: Option<&AdminTls>,
) -> impl server::Stack<AnyStream> + use<> {
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
    stack::recommended(options, http)
}

/// The name of its sockets in an upgrade, and in messages.
const NAME: &str = "admin";

/// Log lines of refused changes, per second.
const REFUSED: u32 = 10;

/// The longest head of a request, in bytes.
const HEAD: usize = 16 * 1024;

/// How long a client may take to send a head, or to read.
const CLIENT: Duration = Duration::from_secs(10);

/// Between the end of the program's connections and its own.
const LAST_REPLIES: Duration = Duration::from_secs(1);
