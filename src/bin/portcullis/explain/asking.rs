//! The questions, one for each guard, in the order of the stack.

use super::{
    BACKEND, Client, Decides, Explanation, Shown, Step, Via,
    client::{Found, Speaks, at, with_chain},
};
use crate::{
    build::{Destination, Rules, Terminated, Way, is_listed, not_listed},
    config::{Listener, Prelude, WhenFull},
    handshake,
    reason::CERTIFICATE_ACL,
};
use portcullis::{
    ConnectionInfo,
    connection::{Address, CertificateFacts},
    middleware::{
        access::{AclHandle, Verdict},
        peek::Protocol,
        proxy_protocol::Source,
    },
    upstream::{ServerState, ServerStatus},
};
use std::sync::Arc;

/// A client on its way through the guards.
pub(super) struct Asking<'a> {
    pub(super) listener: &'a Listener,
    pub(super) rules: &'a Rules,
    pub(super) client: &'a Client,
    pub(super) explanation: Explanation,
}

/// A guard has rejected the client.
pub(super) struct Rejected;

impl Asking<'_> {
    pub(super) fn guards(&mut self) -> Result<(), Rejected> {
        let mut found = Found::of_client(self.client);
        self.connection_limit()?;
        let info = self.proxy_protocol(&mut found)?;
        if let Some(access) = &self.rules.access {
            self.access(
                "acl",
                &access.handle(),
                &info,
                self.listener.guards.access.observe,
            )?;
        }
        self.per_client(&info)?;
        let way = self.route(&info, &found)?;
        if let Some(tls) = &way.tls {
            self.prelude(&found)?;
            self.tls(tls, &info, &found)?;
        }
        self.pool(&way, &info)
    }

    fn say(&mut self, guard: &'static str, decides: Decides, reason: impl Into<String>) {
        let reason = reason.into();
        self.explanation.guards.push(Step {
            guard,
            decides,
            reason,
        });
    }

    fn admit(&mut self, guard: &'static str, reason: impl Into<String>) {
        self.say(guard, Decides::Admit, reason);
    }

    fn reject<T>(&mut self, guard: &'static str, reason: impl Into<String>) -> Result<T, Rejected> {
        self.say(guard, Decides::Reject, reason);
        Err(Rejected)
    }

    fn connection_limit(&mut self) -> Result<(), Rejected> {
        let (active, limit) = (self.rules.limit.active(), self.rules.limit.limit());
        let counted = match limit {
            usize::MAX => format!("{active} connections, without a limit"),
            _ => format!("{active} of {limit} connections"),
        };
        match self.listener.guards.limits.when_full {
            _ if active < limit => self.admit("connection_limit", counted),
            WhenFull::Wait => {
                self.admit(
                    "connection_limit",
                    format!("{counted}; it waits in the accept queue"),
                );
            }
            WhenFull::WaitUpTo(time, at_most) => {
                let waiting = self.rules.limit.waiting();
                let reason = format!("{counted}, {waiting} of {at_most} wait");
                if waiting >= at_most {
                    return self.reject("connection_limit", reason);
                }
                self.admit(
                    "connection_limit",
                    format!("{reason}; it waits up to {time:?}"),
                );
            }
            WhenFull::Refuse => return self.reject("connection_limit", counted),
        }
        Ok(())
    }

    /// The connection, with the address by which the client is judged.
    fn proxy_protocol(&mut self, found: &mut Found) -> Result<ConnectionInfo, Rejected> {
        const GUARD: &str = "proxy_protocol";
        let client = at(self.client.address);
        let Some(layer) = &self.rules.proxy else {
            return Ok(self.client.info(client.clone(), client, found));
        };
        let (socket, sends_header) = match self.client.via {
            Via::TrustedProxy => {
                self.admit(
                    GUARD,
                    "assumed: a trusted proxy names the client in its header",
                );
                return Ok(self.client.info(Address::Unknown, client, found));
            }
            Via::Proxy(proxy) => (at(proxy), true),
            Via::Direct => (client.clone(), false),
        };
        let address = match (layer.source(&socket), sends_header) {
            (Source::Proxy, true) => {
                self.admit(GUARD, "a trusted proxy names the client in its header");
                client
            }
            (Source::Proxy, false) if layer.requires_header() => {
                return self.reject(
                    GUARD,
                    "its address is that of a trusted proxy, which must send a header",
                );
            }
            (Source::Proxy, false) => {
                self.admit(GUARD, "a trusted proxy may connect without a header");
                client
            }
            (Source::Client, false) => {
                self.admit(GUARD, "it is served without a header");
                client
            }
            (Source::Client, true) => {
                self.admit(GUARD, "the proxy is a client, and its header is data");
                *found = Found::of_header();
                socket.clone()
            }
            _ => return self.reject(GUARD, "its source is not a trusted proxy"),
        };
        Ok(self.client.info(socket, address, found))
    }

    fn access(
        &mut self,
        guard: &'static str,
        handle: &AclHandle,
        info: &ConnectionInfo,
        observe: bool,
    ) -> Result<(), Rejected> {
        match handle.judge(info) {
            Verdict::Deny(rule) if observe => self.say(guard, Decides::Observe, rule),
            Verdict::Deny(rule) => return self.reject(guard, rule),
            _ => self.admit(guard, "no rule rejects it"),
        }
        Ok(())
    }

    fn per_client(&mut self, info: &ConnectionInfo) -> Result<(), Rejected> {
        let refuse = match self.listener.guards.per_client.observe {
            true => Decides::Observe,
            false => Decides::Reject,
        };
        let rate = self.rules.rate.as_ref().map(|layer| layer.handle());
        if let Some(rate) = rate {
            let per = rate.rate();
            let limit = format!(
                "{} connections per {:?}, {} at once",
                per.count(),
                per.per(),
                per.burst()
            );
            self.limit("rate_limit", rate.admits(info), refuse, limit)?;
        }
        let keyed = self.rules.keyed.as_ref().map(|layer| layer.handle());
        if let Some(keyed) = keyed {
            let limit = format!("up to {} connections of this client", keyed.limit());
            self.limit("keyed_limit", keyed.admits(info), refuse, limit)?;
        }
        Ok(())
    }

    fn limit(
        &mut self,
        guard: &'static str,
        admits: bool,
        refuse: Decides,
        limit: String,
    ) -> Result<(), Rejected> {
        match (admits, refuse) {
            (true, _) => self.admit(guard, limit),
            (false, Decides::Reject) => return self.reject(guard, limit),
            (false, _) => self.say(guard, refuse, limit),
        }
        Ok(())
    }

    fn route(&mut self, info: &ConnectionInfo, found: &Found) -> Result<Arc<Way>, Rejected> {
        let Some(way) = self.rules.ways.find(info.hello(), found.protocol).cloned() else {
            const NONE: &str = "no route takes it, and there is no default route";
            return match found.protocol {
                Some(Protocol::Tls) => self.reject(
                    "route",
                    format!("{NONE}, so it gets the alert unrecognized_name"),
                ),
                _ => self.reject("route", NONE),
            };
        };
        if let Some(route) = &way.route {
            self.explanation.route = Some(route.to_string());
            match &way.destination {
                Destination::Refuse(_) => {
                    return self.reject("route", format!("{route} refuses it"));
                }
                Destination::Backend { .. } => self.admit("route", &**route),
            }
        }
        Ok(way)
    }

    fn prelude(&mut self, found: &Found) -> Result<(), Rejected> {
        let Some(prelude) = &self.listener.prelude else {
            return Ok(());
        };
        let is_postgres = prelude.value == Prelude::Postgres;
        match &found.speaks {
            Speaks::Other(Protocol::Postgres) if is_postgres => {
                self.admit("prelude", "it requests TLS");
                Ok(())
            }
            Speaks::Tls { .. } if !is_postgres => {
                self.admit(
                    "prelude",
                    "it requests TLS first; one that begins TLS immediately is rejected",
                );
                Ok(())
            }
            Speaks::Expected | Speaks::Tls { .. } => {
                self.admit("prelude", "it requests TLS");
                Ok(())
            }
            Speaks::Other(_) => {
                let found = found.protocol;
                self.reject("prelude", format!("it does not request TLS: {found:?}"))
            }
        }
    }

    fn tls(
        &mut self,
        tls: &Terminated,
        info: &ConnectionInfo,
        found: &Found,
    ) -> Result<(), Rejected> {
        const GUARD: &str = "tls";
        let (name, alpn) = match &found.speaks {
            Speaks::Tls { name, alpn } => (name.as_deref(), &**alpn),
            Speaks::Other(_) if self.listener.prelude.is_none() => {
                return self.reject(GUARD, "its first bytes are no TLS");
            }
            Speaks::Other(_) | Speaks::Expected => (None, &[][..]),
        };
        let Some(certificate) = tls.store.certificate_for(name) else {
            return self.reject(
                GUARD,
                "no certificate is for this name, and none is the default, so it gets the alert unrecognized_name",
            );
        };
        let offered = &tls.settings.alpn;
        if !offered.is_empty() && !alpn.is_empty() && !alpn.iter().any(|it| offered.contains(it)) {
            return self.reject(
                GUARD,
                format!("it offers none of the protocols {}", offered.join(", ")),
            );
        }
        let shown = certificate.facts.dns_names().next().map(str::to_owned);
        let mut shown = shown.map_or_else(
            || "a certificate".into(),
            |name| format!("the certificate of {name}"),
        );
        if certificate.is_default && !name.is_some_and(|name| is_for(&certificate.facts, name)) {
            shown += ", which is the default";
        }
        let Some(settings) = &tls.settings.client else {
            self.admit(GUARD, format!("it gets {shown}"));
            return Ok(());
        };
        let names = match &self.client.certificate {
            Shown::Names(names) => {
                self.admit(
                    GUARD,
                    format!("it gets {shown}; its own certificate is assumed to be valid"),
                );
                names
            }
            Shown::None | Shown::Chain(_) => {
                let chain = match &self.client.certificate {
                    Shown::Chain(chain) => &**chain,
                    _ => &[],
                };
                with_chain(info, chain);
                if let Err(error) = tls.layer.verify_again(info) {
                    let reason = handshake::words(&error).map(str::to_owned);
                    let of_rustls = || format!("its certificate is rejected: {error}");
                    return self.reject(GUARD, reason.unwrap_or_else(of_rustls));
                }
                self.admit(GUARD, format!("it gets {shown}, and its own is accepted"));
                return match &tls.access {
                    Some(access) if access.handle().judge(info) != Verdict::Admit => {
                        self.reject(CERTIFICATE_ACL, not_listed(info.peer_certificate()))
                    }
                    Some(_) => {
                        self.admit(CERTIFICATE_ACL, "its certificate has a listed name");
                        Ok(())
                    }
                    None => Ok(()),
                };
            }
        };
        let of = |kind: &'static str| names.iter().filter_map(move |name| name.strip_prefix(kind));
        match &settings.allow {
            Some(allow) if !is_listed(allow, of("dns:"), of("uri:")) => {
                self.reject(CERTIFICATE_ACL, "its certificate has no listed name")
            }
            _ => Ok(()),
        }
    }

    fn pool(&mut self, way: &Way, info: &ConnectionInfo) -> Result<(), Rejected> {
        let Destination::Backend { name, pool } = &way.destination else {
            return Ok(());
        };
        self.explanation.backend = Some(name.clone());
        let candidates = pool.candidates(info);
        let addresses = candidates.iter().map(|server| server.address.to_string());
        self.explanation.servers = addresses.collect();
        let servers = pool.servers();
        // A pool that finds its servers by name has none before, which includes a dry run.
        if !candidates.is_empty() || servers.is_empty() {
            return Ok(());
        }
        if servers.iter().any(is_full) {
            let (waiting, (at_most, time)) = (pool.waiting(), pool.queue_limits());
            let reason = format!("each server is full, {waiting} of {at_most} wait");
            if waiting >= at_most {
                return self.reject(BACKEND, reason);
            }
            self.admit(BACKEND, format!("{reason}; it waits up to {time:?}"));
            return Ok(());
        }
        let states = servers.iter();
        let states = states.map(|server| match &server.error {
            Some(error) => format!("{} is {} ({error})", server.key, server.state),
            None => format!("{} is {}", server.address, server.state),
        });
        let states = states.collect::<Vec<_>>().join(", ");
        self.reject(BACKEND, format!("no server can be used: {states}"))
    }
}

/// Whether a certificate has `name`, in full or by a wildcard for the first label.
fn is_for(certificate: &CertificateFacts, name: &str) -> bool {
    let parent = name.split_once('.').map(|(_, parent)| parent);
    let mut names = certificate.dns_names();
    names.any(|dns| match dns.strip_prefix("*.") {
        Some(of) => parent.is_some_and(|parent| parent.eq_ignore_ascii_case(of)),
        None => dns.eq_ignore_ascii_case(name),
    })
}

/// Whether a server that is not down or stopped has as many connections as allowed.
fn is_full(server: &ServerStatus) -> bool {
    let is_used = matches!(
        server.state,
        ServerState::Up | ServerState::Unknown | ServerState::Ejected(_)
    );
    let is_at = |max| server.connections >= max;
    is_used && server.max_connections.is_some_and(is_at)
}
