//! How a listener decides about connections.
//!
//! Its stack is made of these parts. `portcullis explain` and rechecks of open connections put their questions to the
//! same ones.

use super::{
    listener::{Known, State},
    names,
    tls::{self, Terminated, refusal},
};
use crate::{
    config::{
        Action, Guards, Listener, Matches, Place, Problems, ProxyProtocol, Refuse, Route, Target,
        Tls, Untrusted, route_words,
    },
    handshake,
};
use portcullis::{
    ConnectionInfo,
    middleware::{
        access::{Acl, AclLayer, Verdict},
        limit::{KeyedLimitLayer, LimitHandle, RateLimitLayer},
        peek::Protocol,
        proxy_protocol::{ProxyProtocolLayer, TrustedSources},
        route::{InvalidRoute, RouteTable},
    },
    upstream::Pool,
};
use std::{sync::Arc, time::SystemTime};

/// In the order in which a connection meets them.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) limit: LimitHandle,
    pub(crate) proxy: Option<ProxyProtocolLayer>,
    pub(crate) access: Option<AclLayer>,
    pub(crate) rate: Option<RateLimitLayer>,
    pub(crate) keyed: Option<KeyedLimitLayer>,
    /// Without routes, all connections go one way.
    pub(crate) ways: RouteTable<Arc<Way>>,
    all_ways: Vec<Arc<Way>>,
}

/// Where connections go, and the TLS that ends before.
pub(crate) struct Way {
    /// Its name, if the listener has routes: what it takes.
    pub(crate) route: Option<Arc<str>>,
    pub(crate) tls: Option<Terminated>,
    pub(crate) destination: Destination,
}

pub(crate) enum Destination {
    Backend { name: String, pool: Pool },
    Refuse(Refuse),
}

impl Rules {
    /// `None` if a file cannot be used, which is reported at its place.
    pub(super) fn of(
        listener: &Listener,
        state: &State,
        known: &Known<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let guards = &listener.guards;
        let mut ways = Ways::default();
        match &listener.target {
            Target::Backend(backend) => {
                let destination = known.backend(&backend.value)?;
                let tls = (None, listener.tls.as_ref());
                let tls = known.terminate(listener, tls, state, problems)?;
                let way = Way {
                    route: None,
                    tls,
                    destination,
                };
                ways.table = ways.table.with_default(ways.all.keep(way));
            }
            Target::Routes(routes) => {
                for route in routes {
                    ways.add(listener, route, state, known, problems)?;
                }
            }
        }
        let per_client = &guards.per_client;
        let (rate, keyed) = state.per_client();
        Some(Self {
            limit: state.limit(),
            proxy: listener
                .proxy_protocol
                .as_ref()
                .map(|settings| proxy_protocol(settings, guards)),
            access: acl(guards),
            rate: rate.map(|layer| {
                layer
                    .with_refusal(refusal(per_client.refuse))
                    .with_observe(per_client.observe)
            }),
            keyed: keyed.map(|layer| {
                layer
                    .with_refusal(refusal(per_client.refuse))
                    .with_observe(per_client.observe)
            }),
            ways: ways.table,
            all_ways: ways.all.0,
        })
    }

    /// Whether a connection that has passed the guards would be admitted now, or why not.
    ///
    /// Limits do not count, because it has its place, nor do routes, because it keeps its own.
    pub(crate) fn still_admit(&self, info: &ConnectionInfo, observe: bool) -> Result<(), String> {
        if let Some(access) = &self.access
            && let Verdict::Deny(rule) = access.handle().judge(info)
            && !observe
        {
            return Err(rule.into());
        }
        let tls = self.way_of(info).and_then(|way| way.tls.as_ref());
        let Some(tls) = tls.filter(|tls| tls.settings.client.is_some()) else {
            return Ok(());
        };
        let verified = tls.layer.verify_again(info);
        verified.map_err(|error| match handshake::words(&error) {
            Some(words) => words.to_owned(),
            None => format!("the client's certificate: {error}"),
        })?;
        match tls
            .access
            .as_ref()
            .map(|access| access.handle().judge(info))
        {
            Some(Verdict::Deny(_)) => Err(tls::not_listed(info.peer_certificate())),
            _ => Ok(()),
        }
    }

    fn way_of(&self, info: &ConnectionInfo) -> Option<&Arc<Way>> {
        // A listener without routes notes no ClientHello, and it may have got routes since.
        let name = info.tls().and_then(|tls| tls.server_name.as_deref());
        let by_name = || self.ways.find_name(&name?.to_ascii_lowercase());
        match info.hello() {
            None if info.tls().is_some() => {
                by_name().or_else(|| self.ways.find(None, Some(Protocol::Tls)))
            }
            hello => self.ways.find(hello, hello.map(|_| Protocol::Tls)),
        }
    }

    /// Whether clients may present certificates.
    pub(crate) fn verifies_clients(&self) -> bool {
        self.terminated().any(|tls| tls.settings.client.is_some())
    }

    /// How often the files of client certificates have changed.
    pub(crate) fn generation(&self) -> u64 {
        self.terminated().map(|tls| tls.store.reloads()).sum()
    }

    /// Whether a revocation list that is enforced has gone out of date since `before`.
    pub(crate) fn has_list_ended(&self, before: SystemTime, now: SystemTime) -> bool {
        let mut lists = self.terminated().flat_map(|tls| tls.store.crls());
        lists.any(|crl| crl.is_enforced && !crl.is_outdated(before) && crl.is_outdated(now))
    }

    /// The names of the routes, in the order of the file.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &str> {
        self.all_ways.iter().filter_map(|way| way.route.as_deref())
    }

    /// The TLS that ends here, of each way.
    pub(crate) fn terminated(&self) -> impl Iterator<Item = &Terminated> {
        self.all_ways.iter().filter_map(|way| way.tls.as_ref())
    }
}

#[derive(Default)]
struct Ways {
    table: RouteTable<Arc<Way>>,
    all: Kept,
}

#[derive(Default)]
struct Kept(Vec<Arc<Way>>);

impl Kept {
    fn keep(&mut self, way: Way) -> Arc<Way> {
        let way = Arc::new(way);
        self.0.push(way.clone());
        way
    }
}

impl Ways {
    fn add(
        &mut self,
        listener: &Listener,
        route: &Route,
        state: &State,
        known: &Known<'_>,
        problems: &mut Problems,
    ) -> Option<()> {
        let destination = match &route.action {
            Action::Refuse(refuse) => Destination::Refuse(*refuse),
            Action::Backend(backend) => known.backend(&backend.value)?,
        };
        let name = Some(route_words(route));
        let tls = (name.clone(), route.tls.as_ref());
        let tls = known.terminate(listener, tls, state, problems)?;
        let way = self.all.keep(Way {
            route: name.map(Into::into),
            tls,
            destination,
        });
        let mut table = std::mem::take(&mut self.table);
        let words = format!("listener \"{}\"", listener.name.value);
        let added = |result: Result<_, InvalidRoute>, place: &Place, problems: &mut Problems| {
            let report = |error| problems.error(place.clone(), format!("{words}: {error}"));
            result.map_err(report).ok()
        };
        match &route.matches {
            Matches::Names(names) => {
                if let Some(tls) = &way.tls {
                    names::check(&words, names, tls, problems);
                }
                for name in names {
                    table = added(
                        table.with_name(&name.value, way.clone()),
                        &name.place,
                        problems,
                    )?;
                }
            }
            Matches::Protocol(protocol) => {
                table = added(table.with_protocol(*protocol, way), &route.place, problems)?;
            }
            Matches::Rest => table = table.with_default(way),
        }
        self.table = table;
        Some(())
    }
}

impl Known<'_> {
    /// `None` if there is no such backend, or it could not be built, which was reported.
    fn backend(&self, name: &str) -> Option<Destination> {
        let pool = self.pools.get(name)?.clone();
        Some(Destination::Backend {
            name: name.into(),
            pool,
        })
    }

    /// `Some(None)` without TLS, and `None` if it could not be built, which is reported.
    fn terminate(
        &self,
        listener: &Listener,
        (route, tls): (Option<String>, Option<&Tls>),
        state: &State,
        problems: &mut Problems,
    ) -> Option<Option<Terminated>> {
        let Some(tls) = tls else {
            return Some(None);
        };
        let used_by = format!("listener \"{}\"", listener.name.value);
        let (tls, guards, certificates) = ((route, tls), &listener.guards, self.certificates);
        tls::terminate(&used_by, tls, guards, &state.tls, certificates, problems).map(Some)
    }
}

fn acl(guards: &Guards) -> Option<AclLayer> {
    let access = &guards.access;
    let (allow, deny) = (access.allow.all(), access.deny.all());
    if allow.is_none() && deny.is_none() {
        return None;
    }
    let mut acl = Acl::new();
    if let Some(allow) = allow {
        acl = acl.allow(allow);
    }
    if let Some(deny) = deny {
        acl = acl.deny(deny);
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
