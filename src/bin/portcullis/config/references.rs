//! What sections say of each other: names that must exist, and settings that exclude each other.

use super::{
    Action, Config, ListenAddress, Listener, Matches, Place, Placed, Problems, Route, Source,
    Target, Tls, User, Workers, problem::nearest,
};
use portcullis::middleware::peek::Protocol;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    path::{Path, PathBuf},
};

pub(super) fn check(config: &Config, problems: &mut Problems) {
    unique(
        "listener",
        config.listeners.iter().map(|it| &it.name),
        problems,
    );
    unique(
        "backend",
        config.backends.iter().map(|it| &it.name),
        problems,
    );
    unique(
        "certificate",
        config.certificates.iter().map(|it| &it.name),
        problems,
    );
    addresses(config, problems);
    overlapping(config, problems);
    sockets_of_cores(config, problems);
    let backends = names(config.backends.iter().map(|it| &it.name));
    let certificates = names(config.certificates.iter().map(|it| &it.name));
    let mut used = HashSet::new();
    let admin = config.admin.as_ref().and_then(|admin| admin.tls.as_ref());
    for name in admin.iter().flat_map(|tls| &tls.certificates) {
        used.insert(("certificate".to_owned(), name.value.clone()));
        if !certificates.contains_key(&*name.value) {
            let message = missing("admin", "certificate", name, &certificates);
            problems.error(name.place.clone(), message);
        }
    }
    for backend in &config.backends {
        let tls = backend.tls.iter().chain(&backend.health.tls);
        for name in tls.filter_map(|tls| tls.certificate.as_ref()) {
            used.insert(("certificate".to_owned(), name.value.clone()));
            if !certificates.contains_key(&*name.value) {
                let words = format!("backend \"{}\"", backend.name.value);
                let message = missing(&words, "certificate", name, &certificates);
                problems.error(name.place.clone(), message);
            }
        }
    }
    for listener in &config.listeners {
        let words = format!("listener \"{}\"", listener.name.value);
        let mut refer = |kind: &str, name: &Placed<String>, known: &Names<'_>| {
            used.insert((kind.to_owned(), name.value.clone()));
            if !known.contains_key(&*name.value) {
                problems.error(name.place.clone(), missing(&words, kind, name, known));
            }
        };
        let mut refer_all = |tls: Option<&Tls>, backend: Option<&Placed<String>>| {
            for name in tls.iter().flat_map(|tls| &tls.certificates) {
                refer("certificate", name, &certificates);
            }
            if let Some(backend) = backend {
                refer("backend", backend, &backends);
            }
        };
        match &listener.target {
            Target::Backend(backend) => refer_all(listener.tls.as_ref(), Some(backend)),
            Target::Routes(routes) => {
                for route in routes {
                    let backend = match &route.action {
                        Action::Backend(backend) => Some(backend),
                        Action::Refuse(_) => None,
                    };
                    refer_all(route.tls.as_ref(), backend);
                }
                check_routes(&words, listener, routes, problems);
            }
        }
    }
    preludes(config, problems);
    if config.listeners.is_empty() && problems.errors() == 0 {
        let file = config.files.first().map_or(Path::new(""), PathBuf::as_path);
        let place = Source::new(file, "").place(0..0);
        problems.note(place, "there is no [[listener]], so nothing is served");
    }
    if problems.errors() > 0 {
        // What seems to be unused may be used where there is a mistake.
        return;
    }
    let mut unused = |kind: &str, names: &Names<'_>| {
        for (name, place) in names {
            if !used.contains(&(kind.to_owned(), (*name).to_owned())) {
                let message = match kind {
                    "certificate" => format!("certificate \"{name}\" is not used"),
                    _ => format!("{kind} \"{name}\" is not used by any listener"),
                };
                problems.note((*place).clone(), message);
            }
        }
    };
    unused("backend", &backends);
    unused("certificate", &certificates);
}

/// Clients and servers of one connection speak one protocol.
fn preludes(config: &Config, problems: &mut Problems) {
    for listener in &config.listeners {
        let (Some(prelude), Target::Backend(name)) = (&listener.prelude, &listener.target) else {
            continue;
        };
        let backend = config
            .backends
            .iter()
            .find(|it| it.name.value == name.value);
        let tls = backend.and_then(|backend| backend.tls.as_ref());
        if let Some(other) = tls.and_then(|tls| tls.prelude.as_ref())
            && other.value != prelude.value
        {
            let message = format!(
                "listener \"{}\": `prelude` differs from that of `tls` of backend \"{}\" ({})",
                listener.name.value,
                name.value,
                prelude.place.of_other(&other.place)
            );
            problems.error(prelude.place.clone(), message);
        }
    }
}

type Names<'a> = BTreeMap<&'a str, &'a Place>;

fn names<'a>(all: impl Iterator<Item = &'a Placed<String>>) -> Names<'a> {
    all.map(|name| (&*name.value, &name.place)).collect()
}

fn missing(words: &str, kind: &str, name: &Placed<String>, known: &Names<'_>) -> String {
    let Placed { value: name, place } = name;
    let hint = match nearest(name, known.keys().copied()) {
        Some(near) => format!(
            "; the nearest name is \"{near}\" ({})",
            place.of_other(known[near])
        ),
        None if known.is_empty() => format!("; write [[{kind}]]"),
        None => String::new(),
    };
    format!(
        "{words}: there is no {kind} \"{name}\"{hint}",
        name = name.escape_debug()
    )
}

fn unique<'a>(
    kind: &str,
    names: impl Iterator<Item = &'a Placed<String>>,
    problems: &mut Problems,
) {
    let mut first = HashMap::new();
    for name in names {
        if let Some(other) = first.insert(&*name.value, &name.place) {
            let message = format!(
                "{kind} \"{}\" is defined twice; the other one is in {}",
                name.value,
                name.place.of_other(other)
            );
            problems.error(name.place.clone(), message);
        }
    }
}

/// With sockets for each core, an address needs several of them.
fn sockets_of_cores(config: &Config, problems: &mut Problems) {
    if config.process.workers != Workers::PerCore {
        return;
    }
    for listener in &config.listeners {
        for listen in &listener.listen {
            if !matches!(listen.value, ListenAddress::Tcp(_)) {
                let message = format!(
                    "listener \"{}\": {} has one accept queue, which `workers = \"per-core\"` cannot split; write \
                     \"shared\" or a number of threads",
                    listener.name.value, listen.value
                );
                problems.error(listen.place.clone(), message);
            }
        }
    }
}

fn addresses(config: &Config, problems: &mut Problems) {
    let mut first = HashMap::new();
    for listener in &config.listeners {
        for listen in listener.listen.iter().filter(|it| !it.value.is_any_port()) {
            let here = (&listener.name.value, &listen.place);
            if let Some((name, other)) = first.insert(&listen.value, here) {
                let message = format!(
                    "listener \"{}\": {} is taken by listener \"{name}\" ({})",
                    listener.name.value,
                    listen.value,
                    listen.place.of_other(other)
                );
                problems.error(listen.place.clone(), message);
            }
        }
    }
    let admin = config.admin.iter().map(|admin| &admin.listen);
    for listen in admin.filter(|it| !it.value.is_any_port()) {
        if let Some((name, other)) = first.get(&listen.value) {
            let message = format!(
                "admin: {} is taken by listener \"{name}\" ({})",
                listen.value,
                listen.place.of_other(other)
            );
            problems.error(listen.place.clone(), message);
        }
    }
}

/// A wildcard address takes the port of all addresses of its family.
fn overlapping(config: &Config, problems: &mut Problems) {
    let tcp = config
        .users()
        .filter_map(|(user, listen)| match &listen.value {
            ListenAddress::Tcp(address) if address.port() != 0 => {
                Some((user, address, &listen.place))
            }
            _ => None,
        });
    let tcp: Vec<_> = tcp.collect();
    for (user, address, place) in &tcp {
        let covers = |other: &&(User<'_>, &SocketAddr, &Place)| {
            let (_, other, _) = other;
            other.ip().is_unspecified()
                && !address.ip().is_unspecified()
                && other.is_ipv4() == address.is_ipv4()
                && other.port() == address.port()
        };
        if let Some((other, wildcard, at)) = tcp.iter().find(covers) {
            let message = format!(
                "{user}: {address} is a part of {wildcard} of {other} ({})",
                place.of_other(at)
            );
            problems.error((*place).clone(), message);
        }
    }
}

fn check_routes(words: &str, listener: &Listener, routes: &[Route], problems: &mut Problems) {
    let mut names: HashMap<String, &Placed<String>> = HashMap::new();
    let mut protocols = HashMap::new();
    let mut rest: Option<&Place> = None;
    for route in routes {
        match &route.matches {
            Matches::Names(listed) => {
                for name in listed {
                    let lower = name.value.to_ascii_lowercase();
                    if let Some(other) = names.insert(lower, name) {
                        let message = format!(
                            "{words}: \"{}\" has a route already ({})",
                            name.value,
                            name.place.of_other(&other.place)
                        );
                        problems.error(name.place.clone(), message);
                    }
                }
            }
            Matches::Protocol(protocol) => {
                if let Some(place) = protocols.insert(*protocol, &route.place) {
                    let place: &Place = place;
                    let message = format!(
                        "{words}: this protocol has a route already ({})",
                        route.place.of_other(place)
                    );
                    problems.error(route.place.clone(), message);
                }
            }
            Matches::Rest => {
                if let Some(other) = rest.replace(&route.place) {
                    let message = format!(
                        "{words}: two routes without `names` or `protocol`; the other one is in {}",
                        route.place.of_other(other)
                    );
                    problems.error(route.place.clone(), message);
                }
            }
        }
        let needs_hello = matches!(route.matches, Matches::Protocol(it) if it != Protocol::Tls);
        if let Some(tls) = &route.tls
            && needs_hello
        {
            let message =
                format!("{words}: this protocol is not TLS, so there is none to terminate");
            problems.error(tls.place.clone(), message);
        }
    }
    wildcards(words, routes, problems);
    server_first(words, listener, problems);
}

/// An exact name takes precedence over a wildcard that matches it, which may surprise.
fn wildcards(words: &str, routes: &[Route], problems: &mut Problems) {
    let named = routes.iter().filter_map(|route| match &route.matches {
        Matches::Names(names) => Some(names.iter().map(move |name| (route, name))),
        _ => None,
    });
    let named: Vec<_> = named.flatten().collect();
    let backend = |route: &Route| match &route.action {
        Action::Backend(backend) => Some(backend.value.clone()),
        Action::Refuse(_) => None,
    };
    for (route, name) in &named {
        let host = name.value.to_ascii_lowercase();
        let matches = |(other, wildcard): &&(&Route, &Placed<String>)| {
            let wildcard = wildcard.value.to_ascii_lowercase();
            let behind = wildcard.strip_prefix("*.");
            let within = host.split_once('.').map(|(_, behind)| behind);
            !host.starts_with("*.")
                && behind.is_some()
                && behind == within
                && backend(other) != backend(route)
        };
        if let Some((_, wildcard)) = named.iter().find(matches) {
            let message = format!(
                "{words}: \"{}\" and \"{}\" lead to different backends; the exact name takes precedence",
                wildcard.value, name.value
            );
            problems.note(name.place.clone(), message);
        }
    }
}

/// Clients of these protocols send nothing before the server does.
fn server_first(words: &str, listener: &Listener, problems: &mut Problems) {
    for listen in &listener.listen {
        let ListenAddress::Tcp(address) = &listen.value else {
            continue;
        };
        let protocol = match address.port() {
            21 => "FTP",
            25 | 587 => "SMTP",
            110 => "POP3",
            143 => "IMAP",
            3306 => "MySQL",
            _ => continue,
        };
        let message = format!(
            "{words}: clients on port {} ({protocol}) wait for the server's greeting, so with routes they reach \
             `timeouts.client-hello`",
            address.port()
        );
        problems.note(listen.place.clone(), message);
    }
}
