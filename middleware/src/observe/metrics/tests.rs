//! Exact counts for each way in which a connection ends, and labels from closed sets.

mod contract;
mod layers;

use super::{MetricsLayer, *};
use crate::{
    connection::{Connection, ConnectionInfo, Socket},
    error::{Elapsed, Refused, TimeoutPhase},
    limit::ConnectionLimitLayer,
    observe::TraceLayer,
    peer_addr::PeerAddrLayer,
};
use ::metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};
use static_assertions::assert_impl_all;
use std::{
    collections::BTreeMap,
    future::pending,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Layer, Service, ServiceBuilder, service_fn};

assert_impl_all!(MetricsLayer: Clone, std::fmt::Debug, Send, Sync);
assert_impl_all!(Metrics<()>: Clone, std::fmt::Debug, Send, Sync);
assert_impl_all!(MetricsFuture<std::future::Ready<()>>: Send, Sync, Unpin);

type Conn = Connection<Socket<DuplexStream>>;

/// Keeps the values of all metrics, by name and labels.
#[derive(Clone, Default)]
pub(crate) struct Recorded(Arc<Mutex<BTreeMap<String, Arc<Value>>>>);

/// The bits of a gauge, a count, or the samples of a histogram.
#[derive(Default)]
pub(crate) struct Value {
    number: Arc<AtomicU64>,
    is_gauge: bool,
    samples: Mutex<Vec<f64>>,
}

impl HistogramFn for Value {
    fn record(&self, value: f64) {
        self.samples.lock().unwrap().push(value);
    }
}

impl Recorded {
    fn value(&self, key: &Key, is_gauge: bool) -> Arc<Value> {
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        let mut values = self.0.lock().unwrap();
        let new = || {
            Arc::new(Value {
                is_gauge,
                ..Value::default()
            })
        };
        values.entry(name).or_insert_with(new).clone()
    }

    /// A layer that reports here.
    fn layer(&self) -> MetricsLayer {
        with_local_recorder(self, || MetricsLayer::new("web"))
    }

    /// The metric of this name without its prefix, with the label of the listener.
    fn get(&self, name: &str, labels: &str) -> u64 {
        let name = format!("portcullis_connections_{name}{{listener=web{labels}}}");
        let values = self.0.lock().unwrap();
        let Some(value) = values.get(&name) else {
            panic!("{name} is none of {:?}", values.keys())
        };
        let number = value.number.load(Ordering::SeqCst);
        if value.is_gauge {
            f64::from_bits(number) as u64
        } else {
            number
        }
    }

    /// The number of a counter or gauge, by name and labels; `None` if it is not registered.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        let values = self.0.lock().unwrap();
        let value = values.get(&format!("portcullis_{name}"))?;
        let number = value.number.load(Ordering::SeqCst);
        Some(match value.is_gauge {
            true => f64::from_bits(number),
            false => number as f64,
        })
    }

    /// The samples of a histogram.
    pub(crate) fn samples(&self, name: &str) -> Vec<f64> {
        let values = self.0.lock().unwrap();
        let samples = &values[&format!("portcullis_{name}")].samples;
        samples.lock().unwrap().clone()
    }

    /// The outcomes with counts above zero.
    fn closed(&self) -> Vec<(String, u64)> {
        let values = self.0.lock().unwrap();
        let prefix = "portcullis_connections_closed_total{listener=web,outcome=";
        let outcomes = values.iter().filter_map(|(name, value)| {
            let outcome = name.strip_prefix(prefix)?.strip_suffix('}')?;
            Some((outcome.to_owned(), value.number.load(Ordering::SeqCst)))
        });
        outcomes.filter(|(_, count)| *count > 0).collect()
    }

    fn durations(&self) -> Vec<f64> {
        let values = self.0.lock().unwrap();
        let durations = &values["portcullis_connections_duration_seconds{listener=web}"];
        durations.samples.lock().unwrap().clone()
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.value(key, false).number.clone())
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.value(key, true).number.clone())
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.value(key, false))
    }
}

fn connection() -> (Conn, DuplexStream) {
    let (ours, theirs) = duplex(64);
    (Connection::accept(ours), theirs)
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_active_while_it_is_served_and_its_bytes_and_time_are_added_at_its_end() {
    let recorded = Recorded::default();
    let service = service_fn(|mut connection: Conn| async move {
        connection.read_exact(&mut [0; 3]).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        connection.write_all(b"hello").await
    });
    let mut service = recorded.layer().layer(service);
    for round in 1..=2 {
        let (ours, mut theirs) = connection();
        let mut serving = task::spawn(service.call(ours));
        assert_pending!(serving.poll());
        assert_eq!(recorded.get("accepted_total", ""), round);
        assert_eq!(recorded.get("active", ""), 1);
        theirs.write_all(b"abc").await.unwrap();
        serving.await.unwrap();
        assert_eq!(recorded.get("active", ""), 0);
        assert_eq!(recorded.get("bytes_total", ",direction=in"), round * 3);
        assert_eq!(recorded.get("bytes_total", ",direction=out"), round * 5);
        assert_eq!(recorded.closed(), [("completed".to_owned(), round)]);
    }
    assert_eq!(recorded.durations(), [2.0, 2.0]);
}

#[tokio::test]
async fn each_end_is_counted_once_by_its_outcome() {
    let recorded = Recorded::default();
    let layer = recorded.layer();
    let mut failing = layer.layer(service_fn(|_: Conn| async {
        let elapsed = Elapsed::new(TimeoutPhase::WRITE, Duration::from_secs(1));
        Err::<(), BoxError>(elapsed.into())
    }));
    failing.call(connection().0).await.unwrap_err();

    let mut panicking = layer.layer(service_fn(|connection: Conn| async move {
        drop(connection);
        panic!("told to") as Result<(), BoxError>
    }));
    let mut serving = task::spawn(panicking.call(connection().0));
    assert!(catch_unwind(AssertUnwindSafe(|| serving.poll())).is_err());
    drop(serving);
    let mut panicking = layer.layer(service_fn(|_: Conn| {
        panic!("in call") as std::future::Ready<Result<(), BoxError>>
    }));
    let (ours, _theirs) = connection();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(panicking.call(ours)))).is_err());

    let mut silent = layer.layer(service_fn(|connection: Conn| async move {
        let _connection = connection;
        pending::<Result<(), BoxError>>().await
    }));
    let mut serving = task::spawn(silent.call(connection().0));
    assert_pending!(serving.poll());
    drop(serving);
    let (forced, _theirs) = connection();
    let info = forced.info().clone();
    let serving = silent.call(forced);
    info.force_close();
    drop(serving);
    // Dropped before it was polled.
    drop(silent.call(connection().0));

    let outcomes = [
        ("cancelled", 2),
        ("forced", 1),
        ("panicked", 2),
        ("timed_out", 1),
    ];
    assert_eq!(
        recorded.closed(),
        outcomes.map(|(outcome, count)| (outcome.to_owned(), count))
    );
    assert_eq!(recorded.get("accepted_total", ""), 6);
    assert_eq!(recorded.get("active", ""), 0);
    assert_eq!(recorded.durations().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn callbacks_of_a_trace_count_what_the_layer_counts() {
    let recorded = Recorded::default();
    let (opened, closed) = (recorded.layer(), recorded.layer());
    let trace = TraceLayer::new()
        .on_open(move |_| opened.count_opened())
        .on_close(move |end| {
            closed.count_closed(end.info(), end.duration(), end.outcome(), end.error());
        });
    let mut service = trace.layer(service_fn(|mut connection: Conn| async move {
        connection.read_exact(&mut [0; 3]).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        Err::<(), BoxError>(Refused::new("login", "unknown").into())
    }));
    let (ours, mut theirs) = connection();
    let mut serving = task::spawn(service.call(ours));
    assert_pending!(serving.poll());
    assert_eq!(
        (
            recorded.get("accepted_total", ""),
            recorded.get("active", "")
        ),
        (1, 1)
    );
    theirs.write_all(b"abc").await.unwrap();
    assert_pending!(serving.poll());
    tokio::time::advance(Duration::from_secs(2)).await;
    let refused = with_local_recorder(&recorded, || serving.poll());
    assert!(assert_ready!(refused).is_err());
    assert_eq!(recorded.get("active", ""), 0);
    assert_eq!(recorded.get("bytes_total", ",direction=in"), 3);
    assert_eq!(recorded.get("refused_total", ",by=login,reason=unknown"), 1);
    assert_eq!(recorded.closed(), [("refused".to_owned(), 1)]);
    assert_eq!(recorded.durations(), [2.0]);
}

#[tokio::test]
async fn a_connection_that_is_handed_off_stays_active_until_it_is_dropped() {
    let recorded = Recorded::default();
    let mut service = recorded.layer().layer(service_fn(|connection: Conn| async {
        Ok::<_, BoxError>(connection)
    }));
    let held = service.call(connection().0).await.unwrap();
    assert_eq!(recorded.closed(), [("handed_off".to_owned(), 1)]);
    assert_eq!(recorded.get("active", ""), 1);
    drop(held);
    assert_eq!(recorded.get("active", ""), 0);
}

#[tokio::test]
async fn refusals_are_counted_by_their_layer_and_reason() {
    let recorded = Recorded::default();
    let mut stack = ServiceBuilder::new()
        .layer(PeerAddrLayer::new())
        .layer(recorded.layer())
        .layer(ConnectionLimitLayer::new(1).refuse())
        .service_fn(|connection: Conn| async move {
            let _connection = connection;
            pending::<Result<(), BoxError>>().await
        });
    let (ours, _first) = duplex(1);
    let _serving = stack.call(ours);
    with_local_recorder(&recorded, || {
        for _ in 0..3 {
            let (ours, theirs) = duplex(1);
            drop(theirs);
            let refused = task::spawn(stack.call(ours)).poll();
            assert!(assert_ready!(refused).is_err());
        }
    });
    let labels = format!(",by=connection_limit,reason={}", ConnectionLimitLayer::FULL);
    assert_eq!(recorded.get("refused_total", &labels), 3);
    assert_eq!(recorded.closed(), [("refused".to_owned(), 3)]);
    assert_eq!(recorded.get("active", ""), 1);
}

#[tokio::test]
async fn no_label_has_a_value_that_a_peer_chose() {
    let recorded = Recorded::default();
    let mut service = recorded.layer().layer(service_fn(|_: Conn| async {
        let cause = "login of attacker-7";
        let refused = Refused::new("login", "unknown name").with_source(cause);
        Err::<(), BoxError>(refused.into())
    }));
    let before = recorded.0.lock().unwrap().len();
    for number in 0..100 {
        let peer: SocketAddr = format!("192.0.2.7:{}", 4000 + number).parse().unwrap();
        let local: SocketAddr = "192.0.2.1:443".parse().unwrap();
        let info = ConnectionInfo::new(peer, local);
        let connection = Connection::with_info(duplex(1).0, info);
        let mut serving = task::spawn(service.call(connection));
        let refused = with_local_recorder(&recorded, || serving.poll());
        assert!(assert_ready!(refused).is_err());
    }
    let values = recorded.0.lock().unwrap();
    assert_eq!(values.len(), before + 1);
    for name in values.keys() {
        assert!(
            !name.contains("192.0.2") && !name.contains("attacker"),
            "{name}"
        );
    }
}
