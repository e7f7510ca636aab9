//! Stacks of layers, one for each listener.

use super::{
    Gate,
    tls::{self, Terminated, refusal},
};
use crate::log::log_access;
use crate::{
    admin::Instruments,
    config::{
        Action, ByteRate, Certificate, Direction, Guards, Listener, Matches, Place, Prelude,
        Problems, ProxyProtocol, Refuse, Route, Target, Untrusted, WhenFull,
    },
};
use portcullis::{
    BoxError, Connection,
    connection::AnyStream,
    middleware::{
        access::{Acl, AclLayer},
        error::Refused,
        limit::{
            Bandwidth, BandwidthLayer, ClientIp, ConnectionLimitLayer, KeyedLimitLayer,
            LimitHandle, Rate, RateLimitLayer, SharedBandwidth,
        },
        observe::{MetricsLayer, TraceLayer},
        peek::PeekLayer,
        prelude::{Postgres, PreludeLayer},
        proxy_protocol::{ProxyProtocolLayer, TrustedSources},
        route::{self, InvalidRoute, Router, Routes},
        timeout::{ConnectionTimeoutLayer, IoTimeoutLayer},
    },
    service::ForwardService,
    stack::{self, Options, StackIo},
    upstream::Pool,
};
use std::collections::HashMap;
use tower::{Service, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};

/// What serves the connections of a listener.
pub(crate) type Stack = BoxCloneSyncService<AnyStream, (), BoxError>;

/// The stream behind all guards.
type Io = StackIo<AnyStream>;

/// What the stack of a listener keeps over a reload.
#[derive(Clone)]
pub(crate) struct State {
    limit: ConnectionLimitLayer,
    keyed: Option<(u8, KeyedLimitLayer)>,
    rate: Option<(u8, RateLimitLayer)>,
    /// What all connections share in each direction.
    total: Option<(Bandwidth, [SharedBandwidth; 2])>,
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
    let state = State::of(guards, before);
    let mut options = options(listener, &state);
    if let Some(instruments) = known.instruments {
        options = measured(options, listener, instruments);
    }
    let mut terminated = Vec::new();
    let route: route::Route<Io> = match &listener.target {
        Target::Backend(backend) => {
            let forward = forwarder(known.pools.get(&backend.value)?, guards);
            match (&listener.tls, &listener.prelude) {
                (None, _) => boxed(forward),
                (Some(tls), prelude) => {
                    let tls = tls::terminate(tls, guards, known.certificates, problems)?;
                    let route = match prelude {
                        None => {
                            options = options.with_tls(tls.layer.clone());
                            if let Some(access) = &tls.access {
                                options = options.with_certificate_acl(access.clone());
                            }
                            boxed(forward)
                        }
                        Some(prelude) => behind(prelude.value, guards, &tls, forward),
                    };
                    terminated.push(tls);
                    route
                }
            }
        }
        Target::Routes(routes) => {
            let peek = PeekLayer::new().with_timeout(guards.timeouts.client_hello);
            options = options.with_peek(peek);
            boxed(router(listener, routes, known, &mut terminated, problems)?)
        }
    };
    let stack = stack::recommended(options, route);
    Some(Gate {
        stack: BoxCloneSyncService::new(stack),
        state,
        terminated,
    })
}

impl State {
    /// The limits of before where they count the same, else new ones.
    fn of(guards: &Guards, before: Option<&Self>) -> Self {
        let per_client = &guards.per_client;
        let prefix = per_client.ipv6_prefix;
        let key = ClientIp { v4: 32, v6: prefix };
        let limit = match before {
            Some(before) => before.limit.clone(),
            None => ConnectionLimitLayer::new(guards.limits.connections),
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
        Self {
            limit,
            keyed,
            rate,
            total,
        }
    }

    /// The limit of all connections together.
    pub(crate) fn limit(&self) -> LimitHandle {
        self.limit.handle()
    }

    /// Gives the limits of before the new numbers.
    pub(crate) fn resize(&self, guards: &Guards) {
        self.limit.handle().set_limit(guards.limits.connections);
        if let (Some((_, layer)), Some(limit)) = (&self.keyed, guards.per_client.connections) {
            layer.handle().set_limit(limit);
        }
        if let (Some((_, layer)), Some(rate)) = (&self.rate, rate(guards)) {
            layer.handle().set_rate(rate);
        }
    }
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

fn options(listener: &Listener, state: &State) -> Options {
    let guards = &listener.guards;
    let per_client = &guards.per_client;
    let limit = match guards.limits.when_full {
        WhenFull::Wait => state.limit.clone(),
        WhenFull::Refuse => state.limit.clone().refuse(),
        WhenFull::WaitUpTo(wait, at_most) => state.limit.clone().wait_up_to(wait, at_most),
    };
    let keyed = state.keyed.clone().map(|(_, layer)| {
        layer
            .with_refusal(refusal(per_client.refuse))
            .with_observe(per_client.observe)
    });
    let rate = state.rate.clone().map(|(_, layer)| {
        layer
            .with_refusal(refusal(per_client.refuse))
            .with_observe(per_client.observe)
    });
    Options::new()
        .with_trace(trace(listener))
        .with_connection_limit(limit)
        .with_client_acl(acl(guards))
        .with_proxy_protocol(
            listener
                .proxy_protocol
                .as_ref()
                .map(|it| proxy_protocol(it, guards)),
        )
        .with_keyed_limit(keyed)
        .with_rate_limit(rate)
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
    options
        .with_trace(trace(listener).on_close(move |closed| endings.add(closed)))
        .with_metrics(MetricsLayer::new(&*listener.name.value))
}

fn acl(guards: &Guards) -> Option<AclLayer> {
    let access = &guards.access;
    if access.allow.is_none() && access.deny.is_none() {
        return None;
    }
    let mut acl = Acl::new();
    if let Some(allow) = &access.allow {
        acl = acl.allow(allow.clone());
    }
    if let Some(deny) = &access.deny {
        acl = acl.deny(deny.clone());
    }
    let layer = AclLayer::new(acl).with_observe(access.observe);
    Some(match access.refuse {
        Some(refuse) => layer.with_refusal(refusal(refuse)),
        None => layer,
    })
}

fn proxy_protocol(settings: &ProxyProtocol, guards: &Guards) -> ProxyProtocolLayer {
    let trusted = TrustedSources::from(settings.trust.clone());
    let mut layer = ProxyProtocolLayer::new(trusted).with_timeout(guards.timeouts.proxy_header);
    if settings.optional {
        layer = layer.with_optional_header();
    }
    if settings.untrusted == Untrusted::Direct {
        layer = layer.with_direct_clients();
    }
    layer
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

fn forwarder(pool: &Pool, guards: &Guards) -> ForwardService<Pool> {
    ForwardService::new(pool.clone()).with_half_closed_timeout(guards.timeouts.half_closed)
}

/// TLS that begins on request.
fn behind(
    prelude: Prelude,
    guards: &Guards,
    tls: &Terminated,
    forward: ForwardService<Pool>,
) -> route::Route<Io> {
    let service = ServiceBuilder::new()
        .layer(tls.layer.clone())
        .option_layer(tls.access.clone())
        .map_err(Into::<BoxError>::into)
        .service(forward);
    let Prelude::Postgres = prelude;
    let prelude = PreludeLayer::new(Postgres::default()).with_timeout(guards.timeouts.prelude);
    boxed(ServiceBuilder::new().layer(prelude).service(service))
}

fn router(
    listener: &Listener,
    routes: &[Route],
    known: &Known<'_>,
    terminated: &mut Vec<Terminated>,
    problems: &mut Problems,
) -> Option<Router<Io>> {
    let (guards, listener) = (&listener.guards, &listener.name.value);
    let mut built = Routes::new();
    for route in routes {
        let service = match &route.action {
            Action::Refuse(refuse) => refuse_all(*refuse),
            Action::Backend(backend) => {
                let forward = forwarder(known.pools.get(&backend.value)?, guards);
                match &route.tls {
                    None => boxed(forward),
                    Some(tls) => {
                        let tls = tls::terminate(tls, guards, known.certificates, problems)?;
                        let service = ServiceBuilder::new()
                            .layer(tls.layer.clone())
                            .option_layer(tls.access.clone())
                            .map_err(Into::<BoxError>::into)
                            .service(forward);
                        terminated.push(tls);
                        boxed(service)
                    }
                }
            }
        };
        match &route.matches {
            Matches::Names(names) => {
                for name in names {
                    let added = built.with_name(&name.value, service.clone());
                    built = reported(added, listener, &name.place, problems)?;
                }
            }
            Matches::Protocol(protocol) => {
                let added = built.with_protocol(*protocol, service);
                built = reported(added, listener, &route.place, problems)?;
            }
            Matches::Rest => built = built.with_default(service),
        }
    }
    Some(Router::new(built))
}

fn reported<T>(
    result: Result<T, InvalidRoute>,
    listener: &str,
    place: &Place,
    problems: &mut Problems,
) -> Option<T> {
    let words = format!("listener \"{listener}\"");
    result
        .map_err(|error| problems.error(place.clone(), format!("{words}: {error}")))
        .ok()
}

fn refuse_all(refuse: Refuse) -> route::Route<Io> {
    boxed(tower::service_fn(
        move |connection: Connection<Io>| async move {
            if refuse == Refuse::Reset {
                connection.info().force_reset();
            }
            Err::<(), BoxError>(Refused::new("route", "refused_by_route").into())
        },
    ))
}

fn boxed<S, IO>(service: S) -> BoxCloneSyncService<Connection<IO>, (), BoxError>
where
    S: Service<Connection<IO>, Error: Into<BoxError>, Future: Send + 'static>,
    S: Clone + Send + Sync + 'static,
    IO: 'static,
{
    let service = service.map_response(drop).map_err(Into::into);
    BoxCloneSyncService::new(service)
}
