//! The ends of the certificates that servers present.

use super::{
    super::dial::Script,
    check_tls::{issue, layer},
    metrics::Recorded,
    *,
};
use crate::connect::Connector;
use ::metrics::set_default_local_recorder;
use portcullis_middleware::{
    Connection,
    tls::{
        TlsConnector, TlsLayer,
        rustls::server::{ServerSessionMemoryCache, StoresServerSessions},
    },
};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tower::{Layer, ServiceExt, service_fn};

/// Certificates that are valid for 40, 30 and 20 days, and which of them each server has.
struct Certified {
    layers: [TlsLayer; 3],
    roots: String,
    used: Arc<Mutex<HashMap<SocketAddr, usize>>>,
}

impl Certified {
    /// Clients resume sessions of all three.
    fn new() -> Self {
        let certificates = [40, 30, 20].map(issue);
        let sessions: Arc<dyn StoresServerSessions> = ServerSessionMemoryCache::new(64);
        Self {
            roots: certificates.each_ref().map(|(chain, _)| &**chain).concat(),
            layers: certificates.map(|own| layer(&own, &sessions)),
            used: Arc::default(),
        }
    }

    fn set(&self, server: usize, certificate: usize) {
        let server = Servers::address(server);
        self.used.lock().unwrap().insert(server, certificate);
    }

    fn tls(&self) -> ServerTls {
        let connector = TlsConnector::with_roots_pem(self.roots.as_bytes()).unwrap();
        ServerTls::new(connector).with_name("legacy.example")
    }

    /// The pool "db". Its servers send a byte under TLS, and wait for the end.
    fn pool(&self) -> PoolBuilder {
        let (layers, used) = (self.layers.clone(), self.used.clone());
        let script = move |address: &ServerAddress| {
            let (ours, theirs) = duplex(16 * 1024);
            let ServerAddress::Tcp(target) = address else {
                unreachable!("there are no others");
            };
            let number = used.lock().unwrap()[&target.address().unwrap()];
            let stack = layers[number].layer(service_fn(|mut connection: Connection<_>| async {
                connection.write_all(b"!").await?;
                let _ended = connection.read(&mut [0]).await;
                connection.close().await
            }));
            tokio::spawn(stack.oneshot(Connection::accept(theirs)));
            Box::pin(std::future::ready(Ok(ours.into()))) as _
        };
        let builder = Pool::builder().with_script(Script(Arc::new(script)));
        builder.with_name("db")
    }
}

fn check(tls: ServerTls) -> HealthCheck {
    HealthCheck::tls()
        .with_tls(tls)
        .with_interval(10 * SECOND)
        .with_timeout(SECOND)
}

/// The days that are left until `end`, in Unix time; `None` of 0.
fn days(end: f64) -> Option<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (end > 0.0).then(|| (end as u64 - now.as_secs()) / (24 * 3_600))
}

fn days_in_status(pool: &Pool) -> Vec<Option<u64>> {
    let ends = pool.servers().into_iter();
    let ends = ends.map(|server| server.certificate_not_after);
    let since = |end: SystemTime| end.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    ends.map(|end| days(end.map_or(0.0, since))).collect()
}

const END: &str = "certificate_not_after_seconds";

#[tokio::test(start_paused = true)]
async fn a_check_shows_the_end_of_the_certificate_until_the_server_is_gone_or_has_no_tls() {
    let certified = Certified::new();
    certified.set(1, 0);
    certified.set(2, 2);
    let recorded = Recorded::default();
    let _used = set_default_local_recorder(&recorded);
    let settings = || certified.pool().with_health_check(check(certified.tls()));
    let pool = settings().build([1, 2].map(Servers::server));
    let shown = |server| days(recorded.gauge(END, server));
    let (first, second) = ("192.0.2.1:80", "192.0.2.2:80");
    assert_eq!(days_in_status(&pool), [None, None]);
    tokio::time::sleep(SECOND).await;
    assert_eq!((shown(first), shown(second)), (Some(40), Some(20)));
    assert_eq!(days_in_status(&pool), [Some(40), Some(20)]);
    // It is renewed.
    certified.set(2, 1);
    tokio::time::sleep(12 * SECOND).await;
    assert_eq!(shown(second), Some(30));

    pool.replace([Servers::server(1)]);
    assert_eq!((shown(first), shown(second)), (Some(40), None));
    pool.reconfigure(certified.pool().with_health_check(HealthCheck::tcp()));
    assert_eq!((shown(first), days_in_status(&pool)), (None, vec![None]));
    pool.reconfigure(settings());
    tokio::time::sleep(SECOND).await;
    assert_eq!(shown(first), Some(40));

    // Another pool of this name takes over.
    let next = settings().build([Servers::server(1)]);
    pool.retire();
    tokio::time::sleep(12 * SECOND).await;
    drop(pool);
    assert_eq!(shown(first), Some(40));
    drop(next);
    assert_eq!(shown(first), None);
}

#[tokio::test(start_paused = true)]
async fn a_connection_shows_it_unless_it_resumes_a_session() {
    let certified = Certified::new();
    certified.set(1, 0);
    let connect = async |pool: &Pool| {
        let mut connection = pool.connect(&client()).await.unwrap();
        // The server has sent its tickets before.
        connection.read_u8().await.unwrap();
        connection.tls().unwrap().resumed
    };
    let server = || Servers::server(1).with_tls(certified.tls());
    let pool = certified.pool().build([server()]);
    assert!(!connect(&pool).await);
    assert_eq!(days_in_status(&pool), [Some(40)]);
    certified.set(1, 2);
    assert!(connect(&pool).await);
    assert_eq!(days_in_status(&pool), [Some(40)]);
    // Other settings have no sessions.
    pool.replace([server()]);
    assert!(!connect(&pool).await);
    assert_eq!(days_in_status(&pool), [Some(20)]);
    // Which are those of the certificate of before, while checks have seen the next one.
    certified.set(1, 1);
    pool.reconfigure(certified.pool().with_health_check(check(certified.tls())));
    tokio::time::sleep(SECOND).await;
    assert_eq!(days_in_status(&pool), [Some(30)]);
    assert!(connect(&pool).await);
    assert_eq!(days_in_status(&pool), [Some(30)]);
}

#[tokio::test(start_paused = true)]
async fn a_check_of_another_port_counts_for_servers_without_tls() {
    let certified = Certified::new();
    certified.set(1, 0);
    let port = Servers::address(1).port() + 1;
    let other = SocketAddr::new(Servers::address(1).ip(), port);
    certified.used.lock().unwrap().insert(other, 2);
    let plain = Servers::server(1);
    let encrypted = plain.clone().with_tls(certified.tls());
    for (server, port, expected) in [
        (&plain, Some(port), Some(20)),
        (&plain, None, Some(40)),
        (&encrypted, Some(port), None),
        (&encrypted, None, Some(40)),
    ] {
        let check = check(certified.tls());
        let check = match port {
            Some(port) => check.with_port(port),
            None => check,
        };
        let pool = certified.pool().with_health_check(check);
        let pool = pool.build([server.clone()]);
        tokio::time::sleep(SECOND).await;
        assert_eq!(days_in_status(&pool), [expected], "{port:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_name_shows_the_first_end_among_its_addresses() {
    let certified = Certified::new();
    for (server, certificate) in [(1, 1), (2, 2), (3, 0)] {
        certified.set(server, certificate);
    }
    let answer = Arc::new(Mutex::new(vec![1, 2, 3]));
    let names = answer.clone();
    let connector = Connector::new().with_resolver(move |_, _| {
        let numbers = names.lock().unwrap().clone();
        std::future::ready(Ok(numbers.into_iter().map(Servers::address).collect()))
    });
    let recorded = Recorded::default();
    let _used = set_default_local_recorder(&recorded);
    let pool = {
        let builder = certified.pool().with_connector(connector);
        let builder = builder.with_health_check(check(certified.tls()));
        builder.build(["db.internal:80".parse::<Server>().unwrap()])
    };
    let shown = || days(recorded.gauge(END, "db.internal:80"));
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(shown(), Some(20));
    *answer.lock().unwrap() = vec![1, 3];
    tokio::time::sleep(34 * SECOND).await;
    assert_eq!(shown(), Some(30));
    certified.set(1, 0);
    tokio::time::sleep(12 * SECOND).await;
    assert_eq!(shown(), Some(40));
    drop(pool);
    assert_eq!(shown(), None);
}
