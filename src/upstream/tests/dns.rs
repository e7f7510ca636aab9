//! Names by their time to live, and SRV records, from a name server on loopback.

use super::{log::Log, *};
use crate::connect::BadTarget;
use hickory_resolver::{
    Hosts,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    proto::{
        op::{Message, ResponseCode},
        rr::{
            Name, RData, Record, RecordType,
            rdata::{A, AAAA, SRV},
        },
    },
};
use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep},
};

/// A name server whose answers are set by the test.
#[derive(Clone)]
struct NameServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

#[derive(Default)]
struct Zone {
    records: HashMap<(String, RecordType), (u32, Vec<RData>)>,
    /// What is answered instead.
    failure: Option<Failure>,
    /// Names that fail on their own.
    failing: Vec<String>,
    failing_kind: Option<RecordType>,
    asked: HashMap<(String, RecordType), Vec<Instant>>,
}

#[derive(Clone, Copy)]
enum Failure {
    Code(ResponseCode),
    Silence,
}

impl NameServer {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::<Mutex<Zone>>::default();
        let answers = zone.clone();
        tokio::spawn(async move {
            let mut packet = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut packet).await {
                let request = Message::from_vec(&packet[..length]).unwrap();
                let answer = answers.lock().unwrap().answer(&request);
                if let Some(answer) = answer {
                    let _sent = socket.send_to(&answer.to_vec().unwrap(), client).await;
                }
            }
        });
        Self { address, zone }
    }

    fn dns(&self) -> Dns {
        Dns::with_name_servers([self.address]).unwrap()
    }

    /// With a search list and a hosts file, and little patience.
    fn dns_with(&self, search: &[&str], hosts: &str) -> Dns {
        let mut connection = ConnectionConfig::udp();
        connection.port = self.address.port();
        let server = NameServerConfig::new(self.address.ip(), true, vec![connection]);
        let mut config = ResolverConfig::from_name_servers(vec![server]);
        for domain in search {
            config.add_search(Name::from_ascii(format!("{domain}.")).unwrap());
        }
        let mut options = ResolverOpts::default();
        (options.timeout, options.attempts) = (SECOND / 10, 1);
        let mut known = Hosts::default();
        known.read_hosts_conf(hosts.as_bytes()).unwrap();
        Dns::new(config, options, known).unwrap()
    }

    fn pool(&self, server: &str) -> Pool {
        pool_with(self.dns(), server)
    }

    fn set(&self, name: &str, time_to_live: u32, records: impl IntoIterator<Item = RData>) {
        let records: Vec<_> = records.into_iter().collect();
        let kind = records.first().map_or(RecordType::A, RData::record_type);
        let mut zone = self.zone.lock().unwrap();
        let key = (format!("{name}."), kind);
        zone.records.insert(key, (time_to_live, records));
    }

    fn fail(&self, failure: impl Into<Option<Failure>>) {
        self.zone.lock().unwrap().failure = failure.into();
    }

    fn asked(&self, name: &str, kind: RecordType) -> usize {
        let zone = self.zone.lock().unwrap();
        let key = (format!("{name}."), kind);
        zone.asked.get(&key).map_or(0, Vec::len)
    }

    /// Waits until a question that comes from now on was answered, or given up.
    async fn asked_again(&self, name: &str) {
        let before = self.asked(name, RecordType::A);
        let end = Instant::now() + 8 * SECOND;
        while self.asked(name, RecordType::A) == before {
            assert!(Instant::now() < end, "{name} is not resolved again");
            sleep(Duration::from_millis(10)).await;
        }
        sleep(SECOND / 2).await;
    }
}

fn pool_with(dns: Dns, server: &str) -> Pool {
    let builder = Pool::builder().with_dns(dns).with_resolve_interval(SECOND);
    builder.build([server.parse::<Server>().unwrap()])
}

impl Zone {
    fn answer(&mut self, request: &Message) -> Option<Message> {
        let query = request.queries[0].clone();
        // Resolvers randomize the case.
        let key = (query.name().to_lowercase().to_string(), query.query_type());
        let asked = self.asked.entry(key.clone()).or_default();
        asked.push(Instant::now());
        let mut response = Message::response(request.id, request.op_code);
        response.add_query(query.clone());
        let is_failing = self.failing.contains(&key.0) || self.failing_kind == Some(key.1);
        let failure = match is_failing {
            true => Some(Failure::Code(ResponseCode::ServFail)),
            false => self.failure,
        };
        match failure {
            Some(Failure::Silence) => return None,
            Some(Failure::Code(code)) => {
                response.metadata.response_code = code;
                return Some(response);
            }
            None => {}
        }
        let exists = self.records.keys().any(|(name, _)| *name == key.0);
        if !exists {
            response.metadata.response_code = ResponseCode::NXDomain;
        }
        if let Some((time_to_live, records)) = self.records.get(&key) {
            let record = |data: &RData| {
                Record::from_rdata(query.name().clone(), *time_to_live, data.clone())
            };
            response.add_answers(records.iter().map(record));
        }
        Some(response)
    }
}

fn a(last: u8) -> RData {
    RData::A(A(Ipv4Addr::new(192, 0, 2, last)))
}

fn aaaa(last: u16) -> RData {
    RData::AAAA(AAAA(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)))
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> RData {
    let target = Name::from_ascii(format!("{target}.")).unwrap();
    RData::SRV(SRV::new(priority, weight, port, target))
}

/// The servers as "address weight", with "backup" where one is.
fn servers(pool: &Pool) -> Vec<String> {
    let servers = pool.servers().into_iter();
    let words = servers.map(|server| {
        let backup = if server.is_backup { " backup" } else { "" };
        format!("{} {}{backup}", server.address, server.weight)
    });
    words.collect()
}

/// Waits until the servers of the pool are these.
async fn become_servers(pool: &Pool, expected: &[&str]) {
    let end = Instant::now() + 8 * SECOND;
    while servers(pool) != expected {
        assert!(
            Instant::now() < end,
            "{:?}, not {expected:?}",
            servers(pool)
        );
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_name_is_resolved_again_when_its_time_to_live_is_over_and_once_a_second_at_most() {
    let names = NameServer::start().await;
    names.set("db.internal", 0, [a(1)]);
    names.set("slow.internal", 3600, [a(1)]);
    let pool = names.pool("db.internal:80");
    let slow = names.pool("slow.internal:80");
    become_servers(&pool, &["192.0.2.1:80 100"]).await;
    become_servers(&slow, &["192.0.2.1:80 100"]).await;
    names.set("db.internal", 0, [a(2), a(3)]);
    names.set("slow.internal", 3600, [a(2)]);
    become_servers(&pool, &["192.0.2.2:80 100", "192.0.2.3:80 100"]).await;
    for _ in 0..3 {
        names.asked_again("db.internal").await;
    }
    let key = ("db.internal.".to_owned(), RecordType::A);
    let asked = names.zone.lock().unwrap().asked[&key].clone();
    // Within a fifth. On a busy machine, each question may be sent again once.
    let most = 2.0 * (1.0 + asked[0].elapsed().as_secs_f64() / 0.8);
    assert!((asked.len() as f64) <= most, "{asked:?}");
    let key = ("slow.internal.".to_owned(), RecordType::A);
    let asked = names.zone.lock().unwrap().asked[&key].clone();
    assert!(asked[asked.len() - 1] - asked[0] < SECOND, "{asked:?}");
    assert_eq!(servers(&slow), ["192.0.2.1:80 100"]);
}

#[tokio::test]
async fn an_answer_that_fails_keeps_the_last_one() {
    let names = NameServer::start().await;
    names.set("db.internal", 1, [a(1)]);
    let pool = pool_with(names.dns_with(&[], ""), "db.internal:80");
    become_servers(&pool, &["192.0.2.1:80 100"]).await;
    for failure in [
        Failure::Code(ResponseCode::ServFail),
        Failure::Code(ResponseCode::NXDomain),
        Failure::Silence,
    ] {
        names.fail(failure);
        names.asked_again("db.internal").await;
        assert_eq!(servers(&pool), ["192.0.2.1:80 100"]);
    }
    // An answer without addresses counts as failed, too.
    names.set("db.internal", 1, []);
    names.fail(None);
    names.asked_again("db.internal").await;
    assert_eq!(servers(&pool), ["192.0.2.1:80 100"]);
    // The name is still followed.
    names.set("db.internal", 1, [a(2)]);
    become_servers(&pool, &["192.0.2.2:80 100"]).await;
}

#[tokio::test]
async fn one_kind_of_addresses_that_fails_is_not_taken_for_removed() {
    let (log, _used) = Log::capture();
    let names = NameServer::start().await;
    let both = ["192.0.2.2:80 100", "[2001:db8::1]:80 100"];
    names.zone.lock().unwrap().failing_kind = Some(RecordType::AAAA);
    names.set("db.internal", 1, [a(1)]);
    names.set("db.internal", 1, [aaaa(1)]);
    let pool = pool_with(names.dns_with(&[], ""), "db.internal:80");
    become_servers(&pool, &["192.0.2.1:80 100"]).await;
    assert_eq!(
        log.count("those of its addresses that are known are used"),
        1
    );
    names.set("db.internal", 1, [a(2)]);
    become_servers(&pool, &["192.0.2.2:80 100"]).await;
    names.zone.lock().unwrap().failing_kind = None;
    become_servers(&pool, &both).await;
    for kind in [RecordType::AAAA, RecordType::A] {
        names.zone.lock().unwrap().failing_kind = Some(kind);
        names.asked_again("db.internal").await;
        assert_eq!(servers(&pool), both, "{kind}");
    }
    assert!(log.count("its previous addresses stay in use") > 0);
}

#[tokio::test]
async fn all_addresses_are_those_of_one_domain_of_the_search_list() {
    let names = NameServer::start().await;
    names.set("db.one", 60, [aaaa(1)]);
    // As records for all names of a domain have it.
    for name in ["db.two", "a.b.two", "hosts.two"] {
        names.set(name, 60, [a(9)]);
    }
    names.set("a.b", 60, [aaaa(2)]);
    names.set("hosts.one", 60, [aaaa(3)]);
    let hosts = "192.0.2.3 hosts.one";
    for (name, found) in [
        ("db", "[2001:db8::1]:80 100"),
        ("a.b", "[2001:db8::2]:80 100"),
        ("hosts", "192.0.2.3:80 100"),
        ("db.two.", "192.0.2.9:80 100"),
    ] {
        let dns = names.dns_with(&["one", "two"], hosts);
        let pool = pool_with(dns, &format!("{name}:80"));
        become_servers(&pool, &[found]).await;
    }
}

#[tokio::test]
async fn an_address_of_a_primary_server_and_a_backup_is_primary() {
    let names = NameServer::start().await;
    names.set("one.internal", 60, [a(1)]);
    let primary = srv(10, 30, 5432, "one.internal");
    let backup = srv(20, 10, 5432, "one.internal");
    names.set("_pg._tcp.internal", 60, [backup, primary]);
    let pool = names.pool("srv:_pg._tcp.internal");
    become_servers(&pool, &["192.0.2.1:5432 30"]).await;
}

#[tokio::test]
async fn srv_records_give_ports_weights_and_backups() {
    let names = NameServer::start().await;
    let service = "_pg._tcp.internal";
    names.set("one.internal", 60, [a(1)]);
    names.set("two.internal", 60, [a(2), a(3)]);
    names.set("spare.internal", 60, [a(4)]);
    let gone = srv(10, 5, 9, "gone.internal");
    let spare = srv(20, 10, 7000, "spare.internal");
    let first = srv(10, 30, 5432, "one.internal");
    let second = srv(10, 0, 5433, "two.internal");
    names.set(service, 1, [spare.clone(), first.clone(), second, gone]);
    let pool = names.pool("srv:_pg._tcp.internal");
    let expected = [
        "192.0.2.1:5432 30",
        "192.0.2.2:5433 1",
        "192.0.2.3:5433 1",
        "192.0.2.4:7000 10 backup",
    ];
    become_servers(&pool, &expected).await;
    let key = &pool.servers()[0].key;
    assert_eq!(key.as_str(), "srv:_pg._tcp.internal@192.0.2.1:5432");

    // A host that fails to resolve does not remove its server, although others have changed.
    names.zone.lock().unwrap().failing = vec!["two.internal.".to_owned()];
    names.set(
        service,
        1,
        [first.clone(), srv(10, 30, 5433, "two.internal")],
    );
    sleep(3 * SECOND).await;
    assert_eq!(servers(&pool), expected);

    // Without weights, servers have the configured one. The lowest priority that is left is primary.
    names.zone.lock().unwrap().failing.clear();
    names.set(service, 1, [srv(20, 0, 7000, "spare.internal")]);
    become_servers(&pool, &["192.0.2.4:7000 100"]).await;
}

#[tokio::test]
async fn a_service_without_servers_is_a_failed_answer() {
    let names = NameServer::start().await;
    names.set("_pg._tcp.internal", 1, [srv(0, 0, 0, "")]);
    let pool = names.pool("srv:_pg._tcp.internal");
    let begun = Instant::now();
    let error = pool.connect(&client()).await.unwrap_err();
    assert_eq!(error.reason(), NoBackendReason::NoneUsable);
    assert!(begun.elapsed() < 9 * SECOND);
    // Without DNS there is nothing to resolve it with.
    let pool = Pool::new(["srv:_pg._tcp.internal".parse::<Server>().unwrap()]);
    pool.connect(&client()).await.unwrap_err();
}

#[tokio::test]
async fn a_pool_without_dns_gets_it_with_other_settings() {
    let names = NameServer::start().await;
    names.set("one.internal", 60, [a(1)]);
    let service = srv(10, 30, 5432, "one.internal");
    names.set("_pg._tcp.internal", 60, [service]);
    let pool = Pool::new(["192.0.2.9:1".parse::<Server>().unwrap()]);
    let named = ["srv:_pg._tcp.internal".parse::<Server>().unwrap()];
    pool.reconfigure_with(Pool::builder().with_dns(names.dns()), named);
    become_servers(&pool, &["192.0.2.1:5432 30"]).await;
}

#[tokio::test]
async fn a_server_that_vanishes_from_the_answer_drains() {
    let names = NameServer::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let here = RData::A(A(Ipv4Addr::LOCALHOST));
    names.set("db.internal", 1, [here]);
    let pool = names.pool(&format!("db.internal:{port}"));
    let connection = pool.connect(&client()).await.unwrap();
    names.set("db.internal", 1, [a(1)]);
    let end = Instant::now() + 8 * SECOND;
    while pool.servers().len() == 1 {
        assert!(Instant::now() < end, "{:?}", pool.servers());
        sleep(Duration::from_millis(10)).await;
    }
    let states = pool.servers();
    assert_eq!(states[1].state, ServerState::Removed);
    assert_eq!(states[1].connections, 1);
    assert!(!connection.info().is_forced());
    drop(connection);
    assert_eq!(pool.servers().len(), 1);
}

#[tokio::test]
async fn a_host_of_several_records_is_resolved_once() {
    let names = NameServer::start().await;
    names.set("one.internal", 60, [a(1)]);
    names.set(
        "_pg._tcp.internal",
        60,
        (1..=20).map(|n| srv(1, 1, n, "one.internal")),
    );
    let pool = names.pool("srv:_pg._tcp.internal");
    let end = Instant::now() + 8 * SECOND;
    while pool.servers().len() != 20 {
        assert!(Instant::now() < end, "{}", pool.servers().len());
        sleep(Duration::from_millis(10)).await;
    }
    // Once more if the machine is busy.
    assert!(names.asked("one.internal", RecordType::A) <= 2);
}

#[tokio::test]
async fn the_port_of_a_name_may_be_that_of_a_service() {
    let names = NameServer::start().await;
    names.set("db.internal", 60, [a(1)]);
    let pool = names.pool("db.internal:https");
    become_servers(&pool, &["192.0.2.1:443 100"]).await;
}

#[test]
fn names_of_srv_records_have_a_service_a_protocol_and_a_domain() {
    for good in ["_pg._tcp.internal", "_a._udp.b.example.", "_x-y._tcp.c"] {
        let name = format!("srv:{good}");
        let address: ServerAddress = name.parse().unwrap();
        assert_eq!(address.to_string(), name);
    }
    for bad in [
        "",
        "pg._tcp.internal",
        "_pg.tcp.internal",
        "_pg._tcp",
        "_pg._tcp.",
        "_._tcp.a",
        "_pg._tcp.a..b",
    ] {
        let error = format!("srv:{bad}").parse::<ServerAddress>().unwrap_err();
        assert_eq!(error.bad_target(), Some(BadTarget::BadSrvName), "{bad}");
    }
    assert!(Dns::with_name_servers([]).is_err());
}
