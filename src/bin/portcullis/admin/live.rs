//! `/api/live`: samples of the last ten minutes, so that a page has its plots as soon as it opens.
//!
//! A task takes a sample each second from counters that are there anyway. Nothing is added to what a connection costs.

use super::{
    endings::{Bytes, Endings},
    histogram::{self, Counts},
    metrics::Metrics,
    reply::{self, Refusal, Reply},
    router::Call,
    time,
};
use crate::view::View;
use portcullis::{middleware::outcome::Outcome, server::Status};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    task::block_in_place,
    time::{Instant, MissedTickBehavior, interval},
};

/// The samples, the newest last.
#[derive(Default)]
pub(crate) struct Live {
    samples: Mutex<VecDeque<Sample>>,
    standings: Mutex<Standings>,
}

/// The states of servers, by backend and server, and when they were first seen.
type Standings = HashMap<(String, String), (&'static str, u64)>;

/// What happened in one second, and how much there was at its end.
#[derive(Clone, Debug)]
struct Sample {
    at: u64,
    connections: Vec<(String, usize)>,
    accepted: u64,
    refused: u64,
    bytes: Bytes,
    outcomes: [u64; Outcome::COUNT],
    handshakes: Counts,
}

/// The names of the outcomes, by their index.
pub(super) fn outcome_names() -> [&'static str; Outcome::COUNT] {
    // All timeouts share one index.
    let timed_out = || Outcome::TimedOut(portcullis::middleware::error::TimeoutPhase::READ);
    Outcome::EACH.map(|outcome| outcome.unwrap_or_else(timed_out).as_str())
}

impl Live {
    /// Takes samples until the future is dropped.
    pub(super) async fn sample(
        self: Arc<Self>,
        view: Arc<View>,
        endings: Arc<Endings>,
        metrics: Metrics,
    ) {
        let mut before = Totals::default();
        let mut bytes = ByteMeter::default();
        let clock = Clock::start();
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let totals = Totals::of(&view.server.status(), &metrics);
            let sample = Sample {
                at: clock.now(),
                connections: connections(&view),
                accepted: totals.accepted - before.accepted,
                refused: totals.refused.saturating_sub(before.refused),
                bytes: block_in_place(|| bytes.measure(&view, &endings)),
                outcomes: difference(&totals.outcomes, &before.outcomes),
                handshakes: difference(&totals.handshakes, &before.handshakes),
            };
            before = totals;
            self.add(sample);
            self.note_standings(&view);
        }
    }

    fn add(&self, sample: Sample) {
        let mut samples = self.lock();
        if samples.len() == KEPT {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    fn note_standings(&self, view: &View) {
        let mut now = HashMap::new();
        let mut known = self.standings();
        for (name, pool) in &view.current().pools {
            for server in pool.servers() {
                let key = (name.clone(), server.key.as_str().to_owned());
                let state = server.state.as_str();
                let since = match known.get(&key) {
                    Some((before, since)) if *before == state => *since,
                    _ => time::now(),
                };
                now.insert(key, (state, since));
            }
        }
        *known = now;
    }

    /// When a server came into this state, to the second. `None` if it is too new for that.
    pub(super) fn since(&self, backend: &str, server: &str, state: &str) -> Option<u64> {
        let key = (backend.to_owned(), server.to_owned());
        let found = self.standings().get(&key).copied();
        found
            .filter(|(known, _)| *known == state)
            .map(|(_, since)| since)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn standings(&self) -> MutexGuard<'_, Standings> {
        self.standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Unix time that never goes back, although the clock of the system may be set.
struct Clock {
    started: u64,
    since: Instant,
}

impl Clock {
    fn start() -> Self {
        Self {
            started: time::now(),
            since: Instant::now(),
        }
    }

    /// In milliseconds.
    fn now(&self) -> u64 {
        self.started + self.since.elapsed().as_millis() as u64
    }
}

/// Ten minutes.
const KEPT: usize = 600;

const INTERVAL: Duration = Duration::from_secs(1);

/// Counts since the start.
#[derive(Default)]
struct Totals {
    accepted: u64,
    refused: u64,
    outcomes: [u64; Outcome::COUNT],
    handshakes: Counts,
}

impl Totals {
    fn of(status: &Status, metrics: &Metrics) -> Self {
        let mut outcomes = [0; Outcome::COUNT];
        for (outcome, count) in &status.outcomes {
            outcomes[outcome.index()] += count;
        }
        Self {
            accepted: status.accepted,
            refused: status.refused,
            outcomes,
            handshakes: metrics.handshakes(),
        }
    }
}

fn difference<const N: usize>(now: &[u64; N], before: &[u64; N]) -> [u64; N] {
    std::array::from_fn(|index| now[index].saturating_sub(before[index]))
}

fn connections(view: &View) -> Vec<(String, usize)> {
    let current = view.current();
    let listeners = current
        .listeners
        .iter()
        .filter(|listener| !listener.is_gone());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for listener in listeners {
        let sockets = listener.sockets.iter();
        let count: usize = sockets.map(|socket| socket.handle.status().active).sum();
        *counts.entry(&listener.name).or_default() += count;
    }
    counts
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

/// Measures the bytes since the last time, with those of connections that are still open.
#[derive(Default)]
struct ByteMeter {
    total: Bytes,
    /// Walks of the table that are left out, so that they take no more than a hundredth of one core.
    skip: u32,
    /// Seconds since the last walk.
    passed: u64,
    /// Bytes per second between the last two walks, which the seconds without a walk repeat.
    rate: Bytes,
}

impl ByteMeter {
    fn measure(&mut self, view: &View, endings: &Endings) -> Bytes {
        self.passed += 1;
        if self.skip > 0 {
            self.skip -= 1;
            return self.rate;
        }
        let begun = Instant::now();
        // In this order a connection that ends meanwhile is missing until the next time, and never counts twice.
        let mut total = endings.bytes();
        for info in view.server.connections() {
            total.add(&info);
        }
        self.skip = (begun.elapsed().as_secs_f64() * 100.0) as u32;
        self.advance(total)
    }

    fn advance(&mut self, total: Bytes) -> Bytes {
        let more = Bytes {
            read: total.read.saturating_sub(self.total.read),
            written: total.written.saturating_sub(self.total.written),
        };
        self.total.read += more.read;
        self.total.written += more.written;
        let seconds = std::mem::take(&mut self.passed).max(1);
        self.rate = Bytes {
            read: more.read / seconds,
            written: more.written / seconds,
        };
        self.rate
    }
}

pub(super) fn show(call: &Call<'_>) -> Result<Reply, Refusal> {
    let since = call.query(&["since"])?.number("since", 0..=u64::MAX)?;
    let since = since.unwrap_or(0);
    let samples: Vec<_> = {
        let samples = call.interface.live.lock();
        let begin = samples.partition_point(|sample| sample.at <= since);
        samples.range(begin..).cloned().collect()
    };
    Ok(reply::ok(&columns(&samples)))
}

/// One array for each line of a plot, as uPlot wants them.
fn columns(samples: &[Sample]) -> Value {
    let each = |value: &dyn Fn(&Sample) -> Value| samples.iter().map(value).collect::<Value>();
    let listeners: BTreeSet<_> = samples
        .iter()
        .flat_map(|sample| sample.connections.iter().map(|(name, _)| name))
        .collect();
    let connections: Map<_, _> = listeners
        .into_iter()
        .map(|listener| {
            let count = |sample: &Sample| {
                let mut counts = sample.connections.iter();
                let found = counts.find(|(name, _)| name == listener);
                found.map_or(0, |(_, count)| *count).into()
            };
            (listener.clone(), each(&count))
        })
        .collect();
    let outcomes: Map<_, _> = outcome_names()
        .into_iter()
        .enumerate()
        .map(|(index, name)| {
            (
                name.to_owned(),
                each(&|sample| sample.outcomes[index].into()),
            )
        })
        .collect();
    let quantile =
        |share: f64| each(&|sample| histogram::quantile(&sample.handshakes, share).into());
    json!({
        "interval": INTERVAL.as_secs_f64(),
        "at": each(&|sample| sample.at.into()),
        "connections": connections,
        "accepted": each(&|sample| sample.accepted.into()),
        "refused": each(&|sample| sample.refused.into()),
        "bytes_in": each(&|sample| sample.bytes.read.into()),
        "bytes_out": each(&|sample| sample.bytes.written.into()),
        "outcomes": outcomes,
        "handshakes": {
            "bounds": histogram::BOUNDS,
            "counts": each(&|sample| sample.handshakes.to_vec().into()),
            "p50": quantile(0.5),
            "p99": quantile(0.99),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: u64, listener: &str) -> Sample {
        let mut handshakes = Counts::default();
        handshakes[0] = at;
        Sample {
            at,
            connections: vec![(listener.to_owned(), 7)],
            accepted: 1,
            refused: 0,
            bytes: Bytes::default(),
            outcomes: [0; Outcome::COUNT],
            handshakes,
        }
    }

    #[test]
    fn ten_minutes_are_kept() {
        let live = Live::default();
        for at in 0..1_000 {
            live.add(sample(at, "a"));
        }
        let samples = live.lock();
        assert_eq!((samples.len(), samples[0].at), (600, 400));
    }

    #[test]
    fn each_column_has_a_value_for_each_sample() {
        let columns = columns(&[sample(0, "old"), sample(1, "new")]);
        assert_eq!(
            columns["connections"],
            json!({ "old": [7, 0], "new": [0, 7] })
        );
        assert_eq!(
            columns["outcomes"].as_object().map(Map::len),
            Some(Outcome::COUNT)
        );
        assert_eq!(columns["outcomes"]["timed_out"], json!([0, 0]));
        assert_eq!(columns["handshakes"]["p50"][0], Value::Null);
        assert!(columns["handshakes"]["p50"][1].is_f64());
        assert_eq!(
            columns["handshakes"]["counts"][1].as_array().map(Vec::len),
            Some(17)
        );
    }

    #[test]
    fn a_connection_that_ends_between_two_sums_is_neither_lost_nor_counted_twice() {
        let bytes = |read| Bytes { read, written: 0 };
        let mut meter = ByteMeter::default();
        let measured = [100, 30, 120].map(|total| meter.advance(bytes(total)).read);
        assert_eq!(measured, [100, 0, 20]);
    }

    #[test]
    fn bytes_of_several_seconds_are_a_rate() {
        let bytes = |read| Bytes { read, written: 0 };
        let mut meter = ByteMeter::default();
        assert_eq!(meter.advance(bytes(100)).read, 100);
        meter.passed = 4;
        assert_eq!(meter.advance(bytes(500)).read, 100);
        meter.passed = 1;
        assert_eq!(meter.advance(bytes(530)).read, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_without_a_walk_repeats_the_rate() {
        let view = View::new(
            portcullis::Server::new()
                .until_stopped()
                .spawn()
                .expect("it starts"),
            None,
        );
        let mut meter = ByteMeter {
            skip: 2,
            rate: Bytes {
                read: 70,
                written: 7,
            },
            ..ByteMeter::default()
        };
        let endings = Endings::new(1);
        let rates: Vec<_> = (0..3)
            .map(|_| meter.measure(&view, &endings).read)
            .collect();
        assert_eq!((rates, meter.passed), (vec![70, 70, 0], 0));
        view.server.stop_at_once();
    }

    #[tokio::test(start_paused = true)]
    async fn the_times_of_samples_increase_with_the_time_that_passes() {
        let clock = Clock::start();
        let first = clock.now();
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(clock.now() - first, 3_000);
    }
}
