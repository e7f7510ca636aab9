//! `explain` and the stack that it explains decide alike.

mod configurations;
mod connect;

use super::{Client, Decides, Explanation, Shown, Via, client::Speaks, decide};
use crate::{
    build::{self, Before, Gate, Parts},
    config::{Backend, Config, Listener, Problems, Server, Source},
};
use configurations::{Files, Random, SERVERS, random_client, random_configuration};
use connect::{Backends, Outcome, connect};
use portcullis::{
    ConnectionInfo,
    connection::{Address, AnyStream},
    upstream::Pool,
};
use std::time::Duration;
use tower::{Service, ServiceExt};

/// Builds the only listener of a configuration as a running one.
struct Running {
    config: Config,
    parts: Parts,
}

impl Running {
    fn new(text: &str) -> Self {
        let mut problems = Problems::default();
        let config = Config::parse(&Source::new("gate.toml", text), &mut problems);
        let mut parts = build::build(&config, &Before::default(), &mut problems);
        parts.start_pools();
        let found: Vec<_> = problems.sorted().iter().map(ToString::to_string).collect();
        let errors = found.iter().filter(|problem| !problem.contains(": note: "));
        assert_eq!(errors.count(), 0, "{found:?}\n{text}");
        Self { config, parts }
    }

    fn listener(&self) -> &Listener {
        &self.config.listeners[0]
    }

    fn gate(&self) -> &Gate {
        &self.parts.gates["a"]
    }

    fn explain(&self, client: &Client) -> Explanation {
        decide(self.listener(), &self.gate().rules, client)
    }
}

#[tokio::test]
async fn explain_and_the_running_stack_decide_alike_on_10_000_random_connections() {
    const CONFIGURATIONS: u64 = 200;
    const CONNECTIONS: u64 = 50;
    let files = Files::new();
    let backends = Backends::start().await;
    let mut counts = std::collections::BTreeMap::new();
    for seed in 0..CONFIGURATIONS {
        let mut random = Random::new(seed);
        let text = random_configuration(&mut random, &files, &backends.addresses);
        let running = Running::new(&text);
        running.take_some_down(&mut random);
        let mut open = Vec::new();
        backends.greet_behind(running.listener());
        for _ in 0..CONNECTIONS {
            let client = random_client(&mut random, &files, running.listener());
            let expected = running.explain(&client);
            let connecting = connect(running.gate(), running.listener(), &client, &files);
            let outcome = if waits(&expected) {
                // Others end, so that the client gets the place of one.
                let ending = async {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    match waits_for_a_server(&expected) {
                        true => open.clear(),
                        false => drop(open.pop()),
                    }
                };
                tokio::join!(connecting, ending).0
            } else {
                connecting.await
            };
            for occurrence in running.occurrences(&client, &expected) {
                *counts.entry(occurrence).or_insert(0) += 1;
            }
            assert!(
                agree(&expected, &outcome, &backends),
                "seed {seed}: {client:?}\nexpected {expected:#?}\nthe stack: {outcome:?}\n{text}"
            );
            let decided = expected
                .rejected_by()
                .map_or("forwarded", |step| step.guard);
            *counts.entry(decided).or_insert(0) += 1;
            match outcome.stream {
                Some(stream) if random.one_in(4) => open.push(stream),
                closed => drop(closed),
            }
            running.settle(open.len()).await;
        }
    }
    // Each guard has decided often enough to be compared, and each setting has mattered.
    for guard in [
        "forwarded",
        "full backend",
        "full listener",
        "revoked certificate",
        "name without a certificate",
        "TLS 1.3 alone",
        "backup",
        "weight",
        "IPv6 client of a limit",
        "connection_limit",
        "proxy_protocol",
        "acl",
        "rate_limit",
        "keyed_limit",
        "route",
        "prelude",
        "tls",
        "certificate_acl",
        "backend",
    ] {
        assert!(
            counts.get(guard).is_some_and(|count| *count >= 20),
            "{guard}: {counts:?}"
        );
    }
}

impl Running {
    /// What is special about a client.
    fn occurrences(&self, client: &Client, expected: &Explanation) -> Vec<&'static str> {
        let rejected = expected.rejected_by();
        let by = |guard: &str| rejected.is_some_and(|step| step.guard == guard);
        let because =
            |words: &str| rejected.is_some_and(|it| it.reason.to_lowercase().contains(words));
        let backends = self.config.backends.iter();
        let is_its = |backend: &&Backend| expected.backend.as_ref() == Some(&backend.name.value);
        let servers = backends.filter(is_its).flat_map(|it| &it.servers);
        let used = |is_so: fn(&Server) -> bool| {
            let mut servers = servers.clone().filter(|server| is_so(server));
            servers.any(|it| expected.servers.contains(&it.address.value.to_string()))
        };
        let admitted_by = |guard: &str| {
            let mut steps = expected.guards.iter();
            steps.any(|it| it.guard == guard && it.decides == Decides::Admit)
        };
        let all = [
            ("full backend", waits_for_a_server(expected)),
            ("full listener", waits_for_a_place(expected)),
            ("revoked certificate", because("revoked")),
            (
                "name without a certificate",
                because("no certificate is for this name"),
            ),
            (
                "TLS 1.3 alone",
                admitted_by("tls") && self.listener().terminated().any(|(_, tls)| tls.tls13_only),
            ),
            ("backup", used(|server| server.backup)),
            ("weight", used(|server| server.weight != 100)),
            (
                "IPv6 client of a limit",
                client.address.is_ipv6() && (by("rate_limit") || by("keyed_limit")),
            ),
        ];
        let occurred = all.into_iter().filter(|(_, is_so)| *is_so);
        occurred.map(|(name, _)| name).collect()
    }

    /// Takes servers out of use, in some backends all of them.
    fn take_some_down(&self, random: &mut Random) {
        let mut names: Vec<_> = self.parts.pools.keys().collect();
        names.sort();
        for name in names {
            let pool = &self.parts.pools[name];
            let all = random.one_in(8);
            for server in pool.servers() {
                if all || random.one_in(8) {
                    assert!(pool.take_down(&server.key));
                }
            }
        }
    }

    /// Waits until connections that the client has closed are no longer counted.
    async fn settle(&self, open: usize) {
        let rules = &self.gate().rules;
        let of_client = || rules.keyed.as_ref().map_or(0, |it| it.handle().active());
        let is_limited = rules.limit.limit() < 100;
        let of_listener = || rules.limit.active() * usize::from(is_limited);
        let of_servers = || {
            let servers: Vec<_> = self.parts.pools.values().flat_map(Pool::servers).collect();
            let is_capped = servers.iter().any(|it| it.max_connections.is_some());
            let connections = servers.iter().map(|it| it.connections).sum::<usize>();
            connections * usize::from(is_capped)
        };
        while of_client().max(of_listener()).max(of_servers()) > open {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Whether the client is admitted once another one has ended.
fn waits(expected: &Explanation) -> bool {
    waits_for_a_server(expected) || waits_for_a_place(expected)
}

/// Whether each server of its backend is full.
fn waits_for_a_server(expected: &Explanation) -> bool {
    expected.rejected_by().is_none() && expected.servers.is_empty()
}

/// Whether the listener is full.
fn waits_for_a_place(expected: &Explanation) -> bool {
    let step = &expected.guards[0];
    step.guard == "connection_limit" && step.reason.contains("; it waits")
}

fn agree(expected: &Explanation, outcome: &Outcome, backends: &Backends) -> bool {
    let guard = expected.rejected_by().map(|step| step.guard);
    match (guard, &outcome.server, &outcome.rejected_by) {
        // The one that had a place first.
        (None, Some(_), None) if waits(expected) => true,
        (None, Some(server), None) => {
            let address = backends.addresses[*server].to_string();
            expected.servers.contains(&address)
        }
        (Some("certificate_acl"), None, Some(by)) => by == "acl",
        (Some(guard), None, Some(by)) => by == guard,
        _ => false,
    }
}

#[test]
fn each_guard_says_what_it_decides() {
    let text = format!(
        "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\n\
         access = {{ deny = \"203.0.113.0/24\", observe = true }}\nper-client = {{ connections = 5 }}\n\
         route = [{{ names = \"*.a.test\", pass = true, backend = \"b\" }}]\n\
         [[backend]]\nname = \"b\"\nservers = \"{}\"\nhealth = \"off\"\n",
        SERVERS[0]
    );
    let running = Running::new(&text);
    let from = Client::from([203, 0, 113, 7].into());
    let named = from.clone().speaking(Some("x.a.test"), Vec::new(), None);
    let explained = running.explain(&named.expect("a name"));
    let steps = explained.guards.iter();
    let steps: Vec<_> = steps
        .map(|it| format!("{} {}", it.guard, it.decides.as_str()))
        .collect();
    assert_eq!(
        steps,
        [
            "connection_limit admit",
            "acl observe",
            "keyed_limit admit",
            "route admit"
        ]
    );
    assert_eq!(
        explained.guards[1].reason,
        "the address is on the deny list"
    );
    assert_eq!(
        explained.decision,
        "forwarded to 127.0.0.1:1 of backend \"b\""
    );

    let ssh = from
        .speaking(None, Vec::new(), Some("ssh"))
        .expect("a protocol");
    let explained = running.explain(&ssh);
    assert_eq!(
        explained.rejected_by().map(|step| step.decides),
        Some(Decides::Reject)
    );
    assert_eq!(
        explained.decision,
        "rejected by route: no route takes it, and there is no default route"
    );
}

#[tokio::test]
async fn a_backend_without_a_usable_server_rejects_clients() {
    let text = format!(
        "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
         [[backend]]\nname = \"b\"\nservers = \"{}\"\nhealth = \"off\"\n",
        SERVERS[0]
    );
    let running = Running::new(&text);
    let client = Client::from([203, 0, 113, 7].into());
    assert_eq!(running.explain(&client).rejected_by(), None);
    let pool = &running.parts.pools["b"];
    assert!(pool.take_down(&pool.servers()[0].key));
    assert_eq!(
        running.explain(&client).decision,
        format!(
            "rejected by backend: no server can be used: {} is taken down",
            SERVERS[0]
        )
    );
}

#[tokio::test]
async fn a_client_beyond_the_limit_waits_or_is_rejected_if_too_many_wait() {
    // Its kernel accepts, which is enough.
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let text = |limits: &str| {
        format!(
            "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
             limits = {{ connections = 1, when-full = {limits} }}\n\
             [[backend]]\nname = \"b\"\nservers = \"{}\"\nhealth = \"off\"\n",
            server.local_addr().expect("it is bound")
        )
    };
    for (when_full, words) in [
        (
            "\"wait\"",
            "admit 1 of 1 connections; it waits in the accept queue",
        ),
        ("\"refuse\"", "reject 1 of 1 connections"),
        (
            "{ wait = \"5s\", at-most = 2 }",
            "admit 1 of 1 connections, 0 of 2 wait; it waits up to 5s",
        ),
    ] {
        let running = Running::new(&text(when_full));
        let _held = hold(&running, 1).await;
        assert_eq!(first_step(&running), words);
    }
    let running = Running::new(&text("{ wait = \"1h\", at-most = 2 }"));
    let _held = hold(&running, 3).await;
    let words = "reject 1 of 1 connections, 2 of 2 wait";
    assert_eq!(first_step(&running), words);
}

#[tokio::test]
async fn a_client_of_a_full_backend_waits_or_is_rejected_if_too_many_wait() {
    // Its kernel accepts, which is enough.
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let text = format!(
        "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
         [[backend]]\nname = \"b\"\nhealth = \"off\"\n\
         server = [{{ address = \"{}\", max-connections = 1 }}]\n",
        server.local_addr().expect("it is bound")
    );
    let running = Running::new(&text);
    let client = Client::from([203, 0, 113, 7].into());
    let pool = running.parts.pools["b"].clone();
    let info = ConnectionInfo::new(Address::Unknown, Address::Unknown);
    let _held = pool.connect(&info).await.expect("there is capacity");
    assert_eq!(
        running.explain(&client).decision,
        "waits for backend \"b\": each server is full, 0 of 1024 wait; it waits up to 5s"
    );

    pool.reconfigure(Pool::builder().with_queue(2, Duration::from_secs(3_600)));
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let (pool, info) = (pool.clone(), info.clone());
            tokio::spawn(async move { pool.connect(&info).await.is_ok() })
        })
        .collect();
    while pool.waiting() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        running.explain(&client).decision,
        "rejected by backend: each server is full, 2 of 2 wait"
    );
    let (_ours, theirs) = tokio::io::duplex(64);
    let stack = running.gate().stack.clone();
    stack
        .oneshot(AnyStream::from(theirs))
        .await
        .expect_err("the stack rejects it, too");

    // One that leaves makes way for another.
    waiting[0].abort();
    while pool.waiting() == 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        running.explain(&client).decision,
        "waits for backend \"b\": each server is full, 1 of 2 wait; it waits up to 3600s"
    );
}

fn first_step(running: &Running) -> String {
    let explained = running.explain(&Client::from([203, 0, 113, 7].into()));
    let step = &explained.guards[0];
    format!("{} {}", step.decides.as_str(), step.reason)
}

/// Connections that are open or wait while the result lives.
async fn hold(running: &Running, count: usize) -> Vec<impl Sized + use<>> {
    let limit = running.gate().rules.limit.clone();
    let mut held = Vec::new();
    for number in 0..count {
        let (ours, theirs) = tokio::io::duplex(64);
        let mut stack = running.gate().stack.clone();
        let served = tokio::spawn(async move {
            let stack = stack.ready().await?;
            stack.call(AnyStream::from(theirs)).await
        });
        held.push((ours, served));
        while limit.active() + limit.waiting() <= number {
            tokio::task::yield_now().await;
        }
    }
    held
}

#[test]
fn wrong_words_about_a_client_are_explained() {
    let client = || Client::from([192, 0, 2, 1].into());
    let wrong = |name, protocol| client().speaking(name, Vec::new(), protocol).unwrap_err();
    assert!(wrong(Some("192.0.2.1"), None).contains("not a host name"));
    assert!(wrong(Some("a b"), None).contains("not a host name"));
    assert!(wrong(None, Some("gopher")).contains("write one of tls, http, h2c, ssh, postgres"));
    assert!(wrong(Some("a.test"), Some("ssh")).contains("need TLS"));
    assert!(client().showing_pem(b"nothing").is_err());
}
