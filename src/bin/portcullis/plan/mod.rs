//! `portcullis plan`: what a reload would do, key by key, before it is done.

mod command;
#[cfg(test)]
mod defaults;
mod keys;
mod show;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    command::{PlanArgs, plan},
    keys::When,
};

use self::keys::{Get, KEYS, Key, Read};
use crate::config::{
    Action, Backend, Balance, Config, ListenAddress, Listener, Placed, Route, Target, Tls, User,
    route_words,
};
use show::Show as _;
use std::collections::BTreeSet;

/// A difference between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Such as `listener "shop": per-client.connections`.
    pub(crate) key: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) when: When,
    /// What happens to open connections.
    pub(crate) effect: String,
    pub(crate) concerns: Concerns,
}

/// The connections that a change concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Concerns {
    All,
    None,
    Listeners(BTreeSet<String>),
    Backend(String),
    Server { backend: String, address: String },
}

impl Change {
    pub(crate) const fn takes_effect(&self) -> &'static str {
        self.when.takes_effect()
    }
}

/// All differences, in the order of the file: the whole, then certificates, listeners and backends.
pub(crate) fn changes(from: &Config, to: &Config) -> Vec<Change> {
    let mut plan = Plan::default();
    plan.compare("", &Concerns::All, from, to, |key| match key.read {
        Read::File(get) => Some(get),
        _ => None,
    });
    plan.admin(from, to);
    plan.certificates(from, to);
    plan.listeners(from, to);
    plan.backends(from, to);
    plan.changes
}

#[derive(Default)]
struct Plan {
    changes: Vec<Change>,
    /// Whether the listener that is compared now judges its open connections again.
    rechecks: bool,
}

impl Plan {
    /// Compares the keys of one part of the file, which messages call `words`.
    fn compare<T>(
        &mut self,
        words: &str,
        concerns: &Concerns,
        from: &T,
        to: &T,
        select: impl Fn(&Key) -> Option<Get<T>>,
    ) {
        for key in KEYS {
            let Some(get) = select(key) else {
                continue;
            };
            if let (Some(from), Some(to)) = (get(from), get(to))
                && from != to
            {
                // Its connections are not among those that are counted.
                let concerns = match key.path.starts_with("admin.") {
                    true => &Concerns::None,
                    false => concerns,
                };
                let (when, effect) = match key.note {
                    _ if key.is_judged && self.rechecks => (When::All, RECHECKED),
                    _ if key.off_at_start && to == "off" => (When::Restart, When::Restart.effect()),
                    "" => (key.when, key.when.effect()),
                    note => (key.when, note),
                };
                self.changes.push(Change {
                    key: format!("{words}{}", short(key.path)),
                    from,
                    to,
                    when,
                    effect: effect.into(),
                    concerns: concerns.clone(),
                });
            }
        }
    }

    /// A part of the file that is new (`from` is "none") or gone.
    fn part(&mut self, key: String, from: &str, to: &str, effect: &str, concerns: Concerns) {
        self.changes.push(Change {
            key,
            from: from.into(),
            to: to.into(),
            when: When::All,
            effect: effect.into(),
            concerns,
        });
    }

    /// An admin interface that is new or gone, or its TLS.
    fn admin(&mut self, from: &Config, to: &Config) {
        let listen = |config: &Config| {
            let admin = config.admin.as_ref();
            admin.map_or(NONE.into(), |admin| admin.listen.value.to_string())
        };
        let effect = match (&from.admin, &to.admin) {
            (Some(from), Some(to)) => {
                return self.tls(
                    "admin.",
                    &Concerns::None,
                    from.tls.as_ref(),
                    to.tls.as_ref(),
                );
            }
            (None, Some(_)) => "it opens, and shows connections that end from then on".into(),
            (Some(admin), None) => match user_of(&admin.listen.value, to) {
                Some(user) => format!("its socket goes to {user}"),
                None => "it closes".into(),
            },
            (None, None) => return,
        };
        self.changes.push(Change {
            key: "admin".into(),
            from: listen(from),
            to: listen(to),
            when: When::All,
            effect,
            concerns: Concerns::None,
        });
    }

    fn certificates(&mut self, from: &Config, to: &Config) {
        for (name, pair) in pairs(&from.certificates, &to.certificates, |it| &it.name) {
            let words = format!("certificate \"{name}\"");
            let is_shown_to_servers = |backend: &&Backend| {
                let shown = backend
                    .tls
                    .as_ref()
                    .and_then(|tls| tls.certificate.as_ref());
                shown.is_some_and(|shown| shown.value == name)
            };
            let backends = from.backends.iter().filter(is_shown_to_servers);
            let backends: Vec<_> = backends.map(|it| &*it.name.value).collect();
            let uses = |listener: &&Listener| {
                let mut used = tls_of(listener).flat_map(|tls| &tls.certificates);
                let mut leads_to = listener.target.backends();
                used.any(|used| used.value == name) || leads_to.any(|it| backends.contains(&it))
            };
            let users = from.listeners.iter().filter(uses);
            let concerns = Concerns::Listeners(users.map(name_of).collect());
            match pair {
                (Some(from), Some(to)) => {
                    self.compare(
                        &format!("{words}: "),
                        &concerns,
                        from,
                        to,
                        |key| match key.read {
                            Read::Certificate(get) => Some(get),
                            _ => None,
                        },
                    );
                }
                (None, Some(to)) => {
                    self.part(words, NONE, &to.chain.show(), "", Concerns::None);
                }
                (Some(from), None) => {
                    let effect = When::Next.effect();
                    self.part(words, &from.chain.show(), NONE, effect, concerns);
                }
                (None, None) => {}
            }
        }
    }

    fn listeners(&mut self, from: &Config, to: &Config) {
        let addresses = |listener: &Listener| {
            let addresses = listener.listen.iter().map(|it| it.value.to_string());
            addresses.collect::<Vec<_>>().join(", ")
        };
        for (name, pair) in pairs(&from.listeners, &to.listeners, |it| &it.name) {
            let words = format!("listener \"{name}\"");
            let concerns = Concerns::Listeners([name.to_owned()].into());
            match pair {
                (Some(from), Some(to)) => self.listener(&words, &concerns, from, to),
                (None, Some(new)) => {
                    let effect = match user_of_one(new, from) {
                        Some(other) => format!("it gets the socket of {other}"),
                        None => "it listens".into(),
                    };
                    self.part(words, NONE, &addresses(new), &effect, Concerns::None);
                }
                (Some(gone), None) => {
                    // A reload drains by the deadline that is in use.
                    let deadline = from.drain.deadline.show();
                    let what = match user_of_one(gone, to) {
                        Some(other) => format!("its socket goes to {other}"),
                        None => "it closes".into(),
                    };
                    let effect =
                        format!("{what}; its connections are force-closed after {deadline}");
                    self.part(words, &addresses(gone), NONE, &effect, concerns);
                }
                (None, None) => {}
            }
        }
        self.held(from, to);
    }

    /// Says which addresses cannot be opened while the sockets of before are open.
    fn held(&mut self, from: &Config, to: &Config) {
        for (user, listen) in to.users() {
            let Some((holder, other)) = from.in_the_way(&listen.value, user) else {
                continue;
            };
            let [whole, address] = match user {
                User::Listener(_) => [user.to_string(), format!("{user}: listen")],
                User::Admin => [user.to_string(), format!("{user}.listen")],
            };
            let mut changes = self.changes.iter_mut();
            if let Some(change) = changes.find(|it| it.key == whole || it.key == address) {
                change.when = When::Restart;
                change.effect = format!("a reload fails, because {holder} has {other}");
            }
        }
    }

    fn listener(&mut self, words: &str, concerns: &Concerns, from: &Listener, to: &Listener) {
        self.rechecks = to.recheck;
        let prefix = format!("{words}: ");
        self.compare(&prefix, concerns, from, to, |key| match key.read {
            Read::Listener(get) => Some(get),
            _ => None,
        });
        self.tls(&prefix, concerns, from.tls.as_ref(), to.tls.as_ref());
        let (from, to) = (routes_of(from), routes_of(to));
        let all: Vec<_> = from.iter().chain(to).map(route_words).collect();
        let mut seen = BTreeSet::new();
        for route in all {
            if !seen.insert(route.clone()) {
                continue;
            }
            let of = |routes: &[Route]| routes.iter().position(|it| route_words(it) == route);
            let words = format!("{words}: {route}");
            match (of(from), of(to)) {
                (Some(old), Some(new)) => {
                    let (old, new) = (&from[old], &to[new]);
                    let prefix = format!("{words}: ");
                    self.tls(&prefix, concerns, old.tls.as_ref(), new.tls.as_ref());
                    self.compare(&prefix, concerns, old, new, |key| match key.read {
                        Read::Route(get) => Some(get),
                        _ => None,
                    });
                }
                (None, Some(new)) => self.next(words, NONE, &target(&to[new]), concerns),
                (Some(old), None) => self.next(words, &target(&from[old]), NONE, concerns),
                (None, None) => {}
            }
        }
    }

    fn next(&mut self, key: String, from: &str, to: &str, concerns: &Concerns) {
        self.changes.push(Change {
            key,
            from: from.into(),
            to: to.into(),
            when: When::Next,
            effect: When::Next.effect().into(),
            concerns: concerns.clone(),
        });
    }

    fn tls(&mut self, prefix: &str, concerns: &Concerns, from: Option<&Tls>, to: Option<&Tls>) {
        match (from, to) {
            (Some(from), Some(to)) => {
                self.compare(prefix, concerns, from, to, |key| match key.read {
                    Read::Tls(get) => Some(get),
                    _ => None,
                });
            }
            (None, None) => {}
            (from, to) => {
                let show = |tls: Option<&Tls>| {
                    tls.map_or(NONE.into(), |tls| {
                        format!("certificates {}", tls.certificates.show())
                    })
                };
                self.next(format!("{prefix}tls"), &show(from), &show(to), concerns);
            }
        }
    }

    /// Compares the order of the servers that stay, which decides where the first one is used.
    fn order(&mut self, words: &str, concerns: &Concerns, from: &Backend, to: &Backend) {
        let kept = |servers: &Backend, others: &Backend| {
            let addresses = servers.servers.iter().map(|it| &it.address.value);
            let kept = addresses.filter(|&address| {
                let mut others = others.servers.iter();
                others.any(|other| other.address.value == *address)
            });
            kept.map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let (from, to) = (kept(from, to), kept(to, from));
        if from != to {
            let key = format!("{words}: order of servers");
            self.next(key, &from, &to, concerns);
        }
    }

    fn backends(&mut self, from: &Config, to: &Config) {
        for (name, pair) in pairs(&from.backends, &to.backends, |it| &it.name) {
            let words = format!("backend \"{name}\"");
            let concerns = Concerns::Backend(name.to_owned());
            let count = |count: usize| match count {
                1 => "1 server".to_owned(),
                count => format!("{count} servers"),
            };
            let (old, new) = match pair {
                (Some(old), Some(new)) => (old, new),
                (None, Some(new)) => {
                    let servers = count(new.servers.len());
                    self.part(words, NONE, &servers, "", Concerns::None);
                    continue;
                }
                (Some(old), None) => {
                    let servers = count(old.servers.len());
                    self.part(words, &servers, NONE, When::Next.effect(), concerns);
                    continue;
                }
                (None, None) => continue,
            };
            self.compare(
                &format!("{words}: "),
                &concerns,
                old,
                new,
                |key| match key.read {
                    Read::Backend(get) => Some(get),
                    _ => None,
                },
            );
            if new.balance == Balance::First {
                self.order(&words, &concerns, old, new);
            }
            let drain = new.drain;
            for (address, pair) in pairs(&old.servers, &new.servers, |it| &it.address) {
                let words = format!("{words}: server {address}");
                let concerns = Concerns::Server {
                    backend: name.to_owned(),
                    address: address.clone(),
                };
                match pair {
                    (Some(old), Some(new)) => {
                        self.compare(&format!("{words}: "), &concerns, old, new, |key| match key
                            .read
                        {
                            Read::Server(get) => Some(get),
                            _ => None,
                        });
                    }
                    (None, Some(_)) => {
                        self.part(words, NONE, "added", "it is checked, then used", concerns);
                    }
                    (Some(_), None) => {
                        let effect = match drain {
                            Some(drain) => {
                                format!("its connections are force-closed after {}", drain.show())
                            }
                            None => "its connections stay".into(),
                        };
                        self.part(words, "in use", NONE, &effect, concerns);
                    }
                    (None, None) => {}
                }
            }
        }
    }
}

const NONE: &str = "none";

const RECHECKED: &str = "those that would be rejected now are closed";

/// The path of a key within its part of the file, such as `per-client.connections`.
fn short(path: &str) -> &str {
    let parts = [
        "listener.route.",
        "listener.",
        "backend.server.",
        "backend.",
        "certificate.",
    ];
    let within = parts.iter().find_map(|part| path.strip_prefix(part));
    within.unwrap_or(path)
}

/// The old and the new part of one name.
type Pair<'a, T> = (Option<&'a T>, Option<&'a T>);

/// The old and the new part of each name, in the order of the old configuration, then of the new one.
fn pairs<'a, T, N: ToString + 'a>(
    from: &'a [T],
    to: &'a [T],
    name: impl Fn(&'a T) -> &'a Placed<N>,
) -> Vec<(String, Pair<'a, T>)> {
    let mut names: Vec<String> = Vec::new();
    for part in from.iter().chain(to) {
        let name = name(part).value.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let find = |parts: &'a [T], wanted: &str| {
        let mut parts = parts.iter();
        parts.find(|part| name(part).value.to_string() == wanted)
    };
    let pair = |wanted: String| {
        let pair = (find(from, &wanted), find(to, &wanted));
        (wanted, pair)
    };
    names.into_iter().map(pair).collect()
}

/// What has one of the addresses of `listener` in the other configuration. A reload passes the socket on.
fn user_of_one(listener: &Listener, other: &Config) -> Option<String> {
    let mut listen = listener.listen.iter();
    listen.find_map(|it| user_of(&it.value, other))
}

/// What listens at this address, if that can be said of a socket.
fn user_of(address: &ListenAddress, config: &Config) -> Option<String> {
    if cfg!(not(unix)) || address.is_any_port() {
        return None;
    }
    let mut users = config.users();
    let (user, _) = users.find(|it| it.1.value == *address)?;
    Some(match user {
        User::Listener(_) => user.to_string(),
        User::Admin => "the admin interface".to_owned(),
    })
}

fn name_of(listener: &Listener) -> String {
    listener.name.value.clone()
}

fn routes_of(listener: &Listener) -> &[Route] {
    match &listener.target {
        Target::Routes(routes) => routes,
        Target::Backend(_) => &[],
    }
}

fn tls_of(listener: &Listener) -> impl Iterator<Item = &Tls> {
    let routes = routes_of(listener).iter();
    listener
        .tls
        .iter()
        .chain(routes.filter_map(|route| route.tls.as_ref()))
}

fn target(route: &Route) -> String {
    match &route.action {
        Action::Backend(backend) => format!("backend {}", backend.value),
        Action::Refuse(_) => "refuse".into(),
    }
}
