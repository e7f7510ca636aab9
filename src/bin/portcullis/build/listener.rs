//! Stacks of layers, one for each listener.

use super::{
    Gate, prelude,
    rules::{Destination, Rules, Way},
    tls::TlsState,
};
use crate::log::log_access;
use crate::{
    admin::Instruments,
    config::{
        ByteRate, Certificate, Direction, Guards, Listener, Problems, Refuse, Target, WhenFull,
    },
};
use portcullis::{
    BoxError, Connection,
    connection::{AnyStream, Linger},
    middleware::{
        error::Refused,
        limit::{
            Bandwidth, BandwidthLayer, ClientIp, ConnectionLimitLayer, KeyedLimitLayer,
            LimitHandle, Rate, RateLimitLayer, SharedBandwidth,
        },
        observe::{MetricsLayer, TraceLayer},
        peek::{PeekLayer, Protocol, ProtocolDetector},
        route::{self, Router, Routes},
        timeout::{ConnectionTimeoutLayer, IoTimeoutLayer},
        tls::UnrecognizedName,
    },
    service::{ForwardService, forward::DrainPolicy},
    stack::{self, Options, StackIo},
    upstream::Pool,
};
use std::{collections::HashMap, time::Duration};
use tokio::io::AsyncWriteExt;
use tower::{Service, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};

/// What serves the connections of a listener.
pub(crate) type Stack = BoxCloneSyncService<AnyStream, (), BoxError>;

/// The stream behind all guards.
pub(super) type Io = StackIo<AnyStream>;

/// What the stack of a listener keeps over a reload.
#[derive(Clone)]
pub(crate) struct State {
    limit: ConnectionLimitLayer,
    keyed: Option<(u8, KeyedLimitLayer)>,
    rate: Option<(u8, RateLimitLayer)>,
    /// What all connections share in each direction.
    total: Option<(Bandwidth, [SharedBandwidth; 2])>,
    pub(super) tls: TlsState,
}

/// What a listener refers to.
pub(super) struct Known<'a> {
    pub(super) certificates: &'a [Certificate],
    pub(super) pools: &'a HashMap<String, Pool>,
    pub(super) instruments: Option<&'a Instruments>,
}

/// `None` if a file cannot be used, which is reported at its place.
pub(super) fn build(
    listener: &Listener,
    known: &Known<'_>,
    before: Option<&State>,
    problems: &mut Problems,
) -> Option<Gate> {
    let guards = &listener.guards;
    let state = State::of(listener, before);
    let rules = Rules::of(listener, &state, known, problems)?;
    let mut options = options(listener, &state, &rules);
    if let Some(instruments) = known.instruments {
        options = measured(options, listener, instruments);
    }
    let route: route::Route<Io> = match &listener.target {
        Target::Backend(_) => {
            // All connections go one way.
            let way = rules.ways.find(None, None)?;
            let Destination::Backend { pool, .. } = &way.destination else {
                return None;
            };
            let forward = forwarder(pool.clone(), guards);
            match (&way.tls, &listener.prelude) {
                (None, _) => boxed(forward),
                (Some(tls), None) => {
                    options = options
                        .with_tls(tls.layer.clone())
                        .with_certificate_acl(tls.access.clone());
                    boxed(forward)
                }
                (Some(tls), Some(prelude)) => prelude::behind(prelude, guards, tls, pool, problems),
            }
        }
        Target::Routes(_) => {
            let peek = PeekLayer::with_detector(ProtocolDetector::new().with_ja4(true));
            let peek = peek.with_timeout(guards.timeouts.client_hello);
            options = options.with_peek(peek);
            let mut routes = rules.ways.map(|way| serve(way, guards));
            if routes.find(None, Some(Protocol::Tls)).is_none() {
                let rest = boxed(tower::service_fn(refuse_name));
                routes = routes.with_protocol(Protocol::Tls, rest).ok()?;
            }
            boxed(Router::new(Routes::from(routes)))
        }
    };
    let stack = stack::recommended(options, route);
    Some(Gate {
        stack: BoxCloneSyncService::new(stack),
        state,
        rules,
    })
}

impl State {
    /// The limits of before where they count the same, else new ones.
    fn of(listener: &Listener, before: Option<&Self>) -> Self {
        let guards = &listener.guards;
        let per_client = &guards.per_client;
        let prefix = per_client.ipv6_prefix;
        let key = ClientIp { v4: 32, v6: prefix };
        let limit = match before {
            Some(before) => before.limit.clone(),
            None => ConnectionLimitLayer::new(connections(guards)),
        };
        let keyed = per_client.connections.map(|limit| {
            let kept = before.and_then(|before| before.keyed.clone());
            let kept = kept.filter(|(kept, _)| *kept == prefix);
            kept.unwrap_or_else(|| (prefix, KeyedLimitLayer::new(key, limit)))
        });
        let rate = rate(guards).map(|rate| {
            let kept = before.and_then(|before| before.rate.clone());
            let kept = kept.filter(|(kept, _)| *kept == prefix);
            kept.unwrap_or_else(|| (prefix, RateLimitLayer::new(key, rate)))
        });
        let total = guards.bandwidth.total.map(|total| {
            let total = bandwidth_of(total, guards);
            let kept = before.and_then(|before| before.total.clone());
            let kept = kept.filter(|(kept, _)| *kept == total);
            kept.unwrap_or_else(|| (total, [total; 2].map(SharedBandwidth::new)))
        });
        let tls = TlsState::of(
            guards,
            listener.terminated(),
            before.map(|before| &before.tls),
        );
        Self {
            limit,
            keyed,
            rate,
            total,
            tls,
        }
    }

    /// The limit of all connections together.
    pub(crate) fn limit(&self) -> LimitHandle {
        self.limit.handle()
    }

    /// The limits of each client.
    pub(super) fn per_client(&self) -> (Option<RateLimitLayer>, Option<KeyedLimitLayer>) {
        let rate = self.rate.as_ref().map(|(_, layer)| layer.clone());
        (rate, self.keyed.as_ref().map(|(_, layer)| layer.clone()))
    }

    /// Gives the limits of before the new numbers. That of all connections together is `kept`, if there is one.
    pub(crate) fn resize(&self, guards: &Guards, kept: Option<usize>) {
        let limit = kept.unwrap_or_else(|| connections(guards));
        self.limit.handle().set_limit(limit);
        if let (Some((_, layer)), Some(limit)) = (&self.keyed, guards.per_client.connections) {
            layer.handle().set_limit(limit);
        }
        if let (Some((_, layer)), Some(rate)) = (&self.rate, rate(guards)) {
            layer.handle().set_rate(rate);
        }
    }
}

/// The limit of all connections together, which `"off"` makes unreachable.
fn connections(guards: &Guards) -> usize {
    guards.limits.connections.unwrap_or(usize::MAX)
}

fn rate(guards: &Guards) -> Option<Rate> {
    let events = guards.per_client.rate?;
    let rate = Rate::new(events.events.get(), events.per);
    let burst = guards.per_client.burst;
    Some(match burst {
        Some(burst) => rate.with_burst(u32::try_from(burst).unwrap_or(u32::MAX)),
        None => rate,
    })
}

fn options(listener: &Listener, state: &State, rules: &Rules) -> Options {
    let guards = &listener.guards;
    let limit = match guards.limits.when_full {
        WhenFull::Wait => state.limit.clone(),
        WhenFull::Refuse => state.limit.clone().refuse(),
        WhenFull::WaitUpTo(wait, at_most) => state.limit.clone().wait_up_to(wait, at_most),
    };
    Options::new()
        .with_trace(trace(listener))
        .with_connection_limit(limit)
        .with_proxy_protocol(rules.proxy.clone())
        .with_client_acl(rules.access.clone())
        .with_rate_limit(rules.rate.clone())
        .with_keyed_limit(rules.keyed.clone())
        .with_connection_timeout(connection_timeout(guards))
        .with_io_timeout(
            IoTimeoutLayer::new()
                .without_read_timeout()
                .with_write_timeout(guards.timeouts.write),
        )
        .with_bandwidth(bandwidth(guards, state))
}

fn trace(listener: &Listener) -> TraceLayer {
    let name = listener.name.value.clone();
    TraceLayer::new()
        .with_name(&*name)
        .on_close(move |closed| log_access(&name, closed))
}

/// Keeps what the admin interface shows.
fn measured(options: Options, listener: &Listener, instruments: &Instruments) -> Options {
    let endings = instruments.endings.clone();
    let counted = MetricsLayer::new(&*listener.name.value);
    let opened = counted.clone();
    let trace = trace(listener)
        .on_open(move |_| opened.count_opened())
        .on_close(move |end| {
            counted.count_closed(end.info(), end.duration(), end.outcome(), end.error());
            endings.add(end);
        });
    options.with_trace(trace)
}

fn connection_timeout(guards: &Guards) -> ConnectionTimeoutLayer {
    let timeouts = &guards.timeouts;
    let mut layer = ConnectionTimeoutLayer::new()
        .with_first_byte_timeout(timeouts.first_byte)
        .with_idle_timeout(timeouts.idle)
        .with_max_lifetime(timeouts.lifetime);
    if let Some(lifetime) = timeouts.lifetime {
        let jitter = lifetime.mul_f64(f64::from(timeouts.lifetime_jitter) / 100.0);
        layer = layer.with_lifetime_jitter(jitter);
    }
    if let Some(throughput) = &guards.throughput {
        let bytes = throughput
            .bytes_per_second
            .saturating_mul(throughput.over.as_secs());
        let over = throughput.over;
        layer = match throughput.direction {
            Direction::In => layer.with_min_read_throughput(bytes, over),
            Direction::Out => layer.with_min_write_throughput(bytes, over),
            Direction::Both => layer.with_min_throughput(bytes, over),
        };
        layer = layer.with_throughput_observe(throughput.observe);
    }
    layer
}

fn bandwidth(guards: &Guards, state: &State) -> Option<BandwidthLayer> {
    let each = guards.bandwidth.per_connection;
    let each = each.map(|each| bandwidth_of(each, guards));
    let [read, write] = match state.total.clone() {
        Some((_, shared)) => shared.map(Some),
        None => [None, None],
    };
    if each.is_none() && read.is_none() {
        return None;
    }
    Some(
        BandwidthLayer::new()
            .with_read(each)
            .with_write(each)
            .with_shared_read(read)
            .with_shared_write(write),
    )
}

fn bandwidth_of(rate: ByteRate, guards: &Guards) -> Bandwidth {
    let bandwidth = Bandwidth::per_second(rate.0);
    match guards.bandwidth.burst {
        Some(burst) if burst.0 > 0 => bandwidth.with_burst(burst.0),
        _ => bandwidth,
    }
}

pub(super) fn forwarder<B>(backend: B, guards: &Guards) -> ForwardService<B> {
    let timeouts = &guards.timeouts;
    let drain = timeouts.drain_idle;
    let drain = drain.map_or(DrainPolicy::Continue, DrainPolicy::EndWhenIdle);
    ForwardService::new(backend)
        // A pool has limits of its own, which the file sets.
        .with_connect_timeout(None)
        .with_half_closed_timeout(timeouts.half_closed)
        .with_drain(drain)
}

/// The service of a route, which records that it was taken.
fn serve(way: &Way, guards: &Guards) -> route::Route<Io> {
    let route = way.route.clone();
    let stack = ServiceBuilder::new().map_request(move |connection: Connection<Io>| {
        if let Some(route) = &route {
            connection.info().set_route(route.clone());
        }
        connection
    });
    match (&way.destination, &way.tls) {
        (Destination::Refuse(refuse), _) => boxed(stack.service(refuse_all(*refuse))),
        (Destination::Backend { pool, .. }, None) => {
            boxed(stack.service(forwarder(pool.clone(), guards)))
        }
        (Destination::Backend { pool, .. }, Some(tls)) => boxed(
            stack
                .layer(tls.layer.clone())
                .option_layer(tls.access.clone())
                .map_err(Into::<BoxError>::into)
                .service(forwarder(pool.clone(), guards)),
        ),
    }
}

fn refuse_all(
    refuse: Refuse,
) -> impl Service<Connection<Io>, Response = (), Error = BoxError, Future: Send> + Clone + Sync {
    tower::service_fn(move |connection: Connection<Io>| async move {
        if refuse == Refuse::Reset {
            connection.info().force_reset();
        }
        Err(Refused::new("route", "refused_by_route").into())
    })
}

/// Rejects a client of TLS that no route takes, by the alert that it would get without routes.
async fn refuse_name(mut connection: Connection<Io>) -> Result<(), BoxError> {
    let refused = Refused::new("route", Router::<Io>::NO_ROUTE);
    let hello = connection.info().hello();
    let refused = match hello.and_then(|hello| hello.server_name()) {
        Some(name) => refused.with_source(format!("server name {name}")),
        None => refused.with_source("no server name"),
    };
    // A client that is gone needs none. Lingering, because unread input would reset the connection and discard it.
    if connection.write_all(&UnrecognizedName::ALERT).await.is_ok() {
        let linger = Linger::new().with_timeout(FOR_ALERT);
        drop(connection.close_within(linger).await);
    }
    Err(refused.into())
}

/// How long a client may take to receive an alert.
const FOR_ALERT: Duration = Duration::from_secs(1);

pub(super) fn boxed<S, IO>(service: S) -> BoxCloneSyncService<Connection<IO>, (), BoxError>
where
    S: Service<Connection<IO>, Error: Into<BoxError>, Future: Send + 'static>,
    S: Clone + Send + Sync + 'static,
    IO: 'static,
{
    let service = service.map_response(drop).map_err(Into::into);
    BoxCloneSyncService::new(service)
}
