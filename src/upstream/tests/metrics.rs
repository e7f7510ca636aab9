//! What the metrics of servers contain.

use super::*;
use crate::connect::Connector;
use ::metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_default_local_recorder,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// Keeps counts, the bits of gauges, and the number of samples, by name and labels.
#[derive(Clone, Default)]
pub(super) struct Recorded(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

struct Samples(Arc<AtomicU64>);

impl HistogramFn for Samples {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Recorded {
    fn value(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: Vec<_> = key.labels().map(|label| label.value()).collect();
        let name = key.name().trim_start_matches("portcullis_backend_");
        let name = format!("{name} {}", labels.join(" "));
        self.0.lock().unwrap().entry(name).or_default().clone()
    }

    /// A gauge of the pool "db".
    pub(super) fn gauge(&self, name: &str, server: &str) -> f64 {
        f64::from_bits(self.count(name, server))
    }

    fn count(&self, name: &str, server: &str) -> u64 {
        let values = self.0.lock().unwrap();
        values[&format!("{name} db {server}")].load(Ordering::SeqCst)
    }

    /// The sum over all servers.
    fn sum(&self, name: &str) -> f64 {
        let values = self.0.lock().unwrap();
        let of_name = values.iter().filter(|(key, _)| key.starts_with(name));
        of_name
            .map(|(_, value)| f64::from_bits(value.load(Ordering::SeqCst)))
            .sum()
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.value(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.value(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Samples(self.value(key))))
    }
}

const FIRST: &str = "192.0.2.1:80";
const SECOND_SERVER: &str = "192.0.2.2:80";

#[tokio::test(start_paused = true)]
async fn connections_and_connects_are_counted_for_each_server() {
    let servers = Servers::new(2);
    servers.set(1, Answer::Refuses);
    let recorded = Recorded::default();
    let _used = set_default_local_recorder(&recorded);
    let pool = {
        let builder = servers.pool().with_name("db").with_balance(Balance::First);
        builder.build([1, 2].map(Servers::server))
    };
    assert_eq!(recorded.gauge("up", FIRST), 1.0, "without checks it is up");
    let first = pool.connect(&client()).await.unwrap();
    let second = pool.connect(&client()).await.unwrap();
    assert_eq!(recorded.count("connect_failures_total", FIRST), 2);
    assert_eq!(recorded.count("connect_duration_seconds", FIRST), 0);
    assert_eq!(recorded.gauge("connections", FIRST), 0.0);
    assert_eq!(recorded.count("connect_failures_total", SECOND_SERVER), 0);
    assert_eq!(recorded.count("connect_duration_seconds", SECOND_SERVER), 2);
    assert_eq!(recorded.gauge("connections", SECOND_SERVER), 2.0);
    drop(first);
    assert_eq!(recorded.gauge("connections", SECOND_SERVER), 1.0);

    // A removed server is not up, and its connections are still counted.
    pool.replace([Servers::server(1)]);
    assert_eq!(recorded.gauge("up", SECOND_SERVER), 0.0);
    assert_eq!(recorded.gauge("servers", SECOND_SERVER), 0.0);
    assert_eq!(recorded.gauge("servers", FIRST), 1.0);
    assert_eq!(recorded.gauge("connections", SECOND_SERVER), 1.0);
    pool.replace([1, 2].map(Servers::server));
    assert_eq!(recorded.gauge("up", SECOND_SERVER), 1.0);
    drop((second, pool));
    assert_eq!(
        (recorded.sum("up"), recorded.sum("connections")),
        (0.0, 0.0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_is_up_while_its_checks_pass_and_it_may_be_used() {
    let servers = Servers::new(1);
    let recorded = Recorded::default();
    let _used = set_default_local_recorder(&recorded);
    let pool = {
        let builder = servers.pool().with_name("db");
        let builder = builder.with_health_check(HealthCheck::tcp());
        builder.build([Servers::server(1)])
    };
    let up = || recorded.gauge("up", FIRST);
    assert_eq!(up(), 0.0, "it is not checked yet");
    tokio::time::sleep(SECOND).await;
    assert_eq!(up(), 1.0);
    servers.set(1, Answer::Refuses);
    tokio::time::sleep(18 * SECOND).await;
    assert_eq!(up(), 0.0);
    servers.set(1, Answer::Accepts);
    tokio::time::sleep(12 * SECOND).await;
    assert_eq!(up(), 1.0);
    let key = Servers::server(1).key();
    for request in [Pool::drain, Pool::take_down] {
        request(&pool, &key);
        assert_eq!(up(), 0.0);
        pool.restore(&key);
        assert_eq!(up(), 1.0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_ejection_is_shown_until_it_ends() {
    let servers = Servers::new(2);
    servers.set(1, Answer::Refuses);
    let recorded = Recorded::default();
    let _used = set_default_local_recorder(&recorded);
    let pool = {
        let builder = servers.pool().with_name("db").with_balance(Balance::First);
        let builder = builder.with_ejection((2, 10 * SECOND));
        builder.build([1, 2].map(Servers::server))
    };
    let ejected = || recorded.gauge("ejected", FIRST);
    pool.connect(&client()).await.unwrap();
    assert_eq!(ejected(), 0.0);
    pool.connect(&client()).await.unwrap();
    assert_eq!(ejected(), 1.0);
    tokio::time::sleep(10 * SECOND - Duration::from_millis(2)).await;
    assert_eq!(ejected(), 1.0);
    tokio::time::sleep(Duration::from_millis(4)).await;
    assert_eq!(ejected(), 0.0, "although the server is not used");
    pool.connect(&client()).await.unwrap();
    assert_eq!(ejected(), 1.0);
    drop(pool);
    assert_eq!(ejected(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_name_has_one_series_whatever_its_addresses_are() {
    let servers = Servers::new(200);
    let answer = Arc::new(Mutex::new(vec![1, 2]));
    let names = answer.clone();
    let connector = Connector::new().with_resolver(move |_, _| {
        let numbers = names.lock().unwrap().clone();
        std::future::ready(Ok(numbers.into_iter().map(Servers::address).collect()))
    });
    let recorded = Recorded::default();
    let _used = set_default_local_recorder(&recorded);
    let pool = {
        let builder = servers.pool().with_name("db").with_connector(connector);
        builder.build(["db.internal:80".parse::<Server>().unwrap()])
    };
    let name = "db.internal:80";
    for round in 1..40 {
        *answer.lock().unwrap() = vec![round, round + 1, round + 2];
        tokio::time::sleep(34 * SECOND).await;
        assert_eq!(recorded.gauge("up", name), 3.0);
    }
    let _connection = pool.connect(&client()).await.unwrap();
    assert_eq!(recorded.gauge("connections", name), 1.0);
    assert_eq!(recorded.0.lock().unwrap().len(), 6, "one of each metric");
    // Another pool of this name takes over.
    pool.retire();
    *answer.lock().unwrap() = vec![7];
    tokio::time::sleep(34 * SECOND).await;
    assert_eq!(recorded.gauge("up", name), 0.0);
    assert_eq!(recorded.gauge("connections", name), 1.0);
}
