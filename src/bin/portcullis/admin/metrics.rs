//! `/metrics`: the recorder of the process, and its text.

use super::{
    histogram::{BOUNDS, Buckets, Counts},
    registry::{Registry, braced},
    reply::{self, Refusal, Reply},
    router::Call,
};
use crate::{log, view::Current};
use http::{HeaderMap, header::ACCEPT};
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    atomics::AtomicU64,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::Ordering},
};

/// The metrics of the process. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(Arc<Registries>);

#[derive(Debug, Default)]
struct Registries {
    counters: Registry<AtomicU64>,
    /// The bits of `f64`.
    gauges: Registry<AtomicU64>,
    histograms: Registry<Buckets>,
    /// The listeners whose open connections were shown last.
    active: Mutex<BTreeSet<String>>,
}

impl Metrics {
    /// The recorder of the process, which is installed by the first call.
    ///
    /// What was registered before stays silent, so this comes before the layers are built.
    pub(crate) fn install() -> Self {
        static INSTALLED: OnceLock<Metrics> = OnceLock::new();
        INSTALLED.get_or_init(Self::new).clone()
    }

    fn new() -> Self {
        let metrics = Self::default();
        if metrics::set_global_recorder(metrics.clone()).is_err() {
            tracing::warn!("another recorder of metrics is installed; /metrics stays empty");
        }
        // At zero, so that the first one is seen as an increase.
        for result in ["completed", "failed"] {
            count_reloads(result, 0);
        }
        metrics::gauge!("portcullis_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        metrics
    }

    /// The durations of TLS handshakes since the start, for the page.
    pub(super) fn handshakes(&self) -> Counts {
        let mut sum = Counts::default();
        self.0.histograms.each(HANDSHAKES, |durations| {
            for (sum, count) in sum.iter_mut().zip(durations.counts()) {
                *sum += count;
            }
        });
        sum
    }

    /// Sets how many connections each listener has, also those that are older than the interface and not counted by it.
    fn show_active(&self, current: &Current) {
        let mut counts = BTreeMap::new();
        for listener in &current.listeners {
            let sockets = listener.sockets.iter();
            let count: usize = sockets.map(|it| it.handle.status().active).sum();
            // One that was removed may still drain beside a new one of its name.
            *counts.entry(&listener.name).or_insert(0) += count;
        }
        let mut shown = self.0.active.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = shown.iter().filter(|name| !counts.contains_key(name));
        let gauge = |name: &str| metrics::gauge!(ACTIVE, "listener" => name.to_owned());
        gone.for_each(|name| gauge(name).set(0.0));
        for (name, count) in &counts {
            gauge(name).set(*count as f64);
        }
        *shown = counts.into_keys().cloned().collect();
    }

    fn render(&self) -> String {
        metrics::counter!("portcullis_log_lines_dropped_total").absolute(log::dropped());
        let mut text = String::new();
        let Registries {
            counters,
            gauges,
            histograms,
            ..
        } = &*self.0;
        counters.render(
            &mut text,
            "counter",
            &COUNTERS,
            |text, name, labels, count| {
                let count = count.load(Ordering::Relaxed);
                writeln!(text, "{name}{} {count}", braced(labels))
            },
        );
        gauges.render(&mut text, "gauge", &GAUGES, |text, name, labels, value| {
            let value = f64::from_bits(value.load(Ordering::Relaxed));
            match value == f64::INFINITY {
                true => writeln!(text, "{name}{} +Inf", braced(labels)),
                false => writeln!(text, "{name}{} {value}", braced(labels)),
            }
        });
        histograms.render(
            &mut text,
            "histogram",
            &HISTOGRAMS,
            |text, name, labels, durations| durations.write(text, name, labels),
        );
        text
    }
}

impl Recorder for Metrics {
    // `COUNTERS`, `GAUGES` and `HISTOGRAMS` describe them.
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.0.counters.register(key, || AtomicU64::new(0)))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.0.gauges.register(key, || AtomicU64::new(0)))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let bounds = match key.name() {
            "portcullis_connections_duration_seconds" => &LIFETIMES[..],
            _ => &BOUNDS,
        };
        let histogram = self.0.histograms.register(key, || Buckets::new(bounds));
        Histogram::from_arc(histogram)
    }
}

/// Counts a reload of the configuration.
pub(crate) fn count_reload(result: &'static str) {
    count_reloads(result, 1);
}

/// Shows how many connections a listener may have; none of a listener that was removed.
pub(crate) fn show_limit(listener: &str, limit: usize) {
    let limit = match limit {
        usize::MAX => f64::INFINITY,
        limit => limit as f64,
    };
    metrics::gauge!("portcullis_connections_limit", "listener" => listener.to_owned()).set(limit);
}

/// Counts open connections that `recheck` has closed.
pub(crate) fn count_rechecked(listener: &str, closed: u64) {
    metrics::counter!("portcullis_recheck_closed_total", "listener" => listener.to_owned())
        .increment(closed);
}

fn count_reloads(result: &'static str, count: u64) {
    metrics::counter!("portcullis_reloads_total", "of" => "configuration", "result" => result)
        .increment(count);
}

pub(super) fn show(call: &Call<'_>) -> Result<Reply, Refusal> {
    call.query(&[])?;
    let metrics = &call.interface.metrics;
    metrics.show_active(&call.interface.view.current());
    let text = metrics.render();
    Ok(if prefers_open_metrics(&call.parts.headers) {
        reply::text(
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            open_metrics(&text),
        )
    } else {
        reply::text("text/plain; version=0.0.4; charset=utf-8", text)
    })
}

/// Of connections, in seconds.
const LIFETIMES: [f64; 12] = [
    0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 43_200.0,
];

const ACTIVE: &str = "portcullis_connections_active";

const HANDSHAKES: &str = "portcullis_handshake_duration_seconds";

/// Those of the library, then those of the program.
const COUNTERS: [(&str, &str); 12] = [
    (
        "portcullis_connections_accepted_total",
        "Accepted connections.",
    ),
    (
        "portcullis_connections_refused_total",
        "Connections that a guard rejected.",
    ),
    (
        "portcullis_connections_closed_total",
        "Ended connections, by outcome.",
    ),
    (
        "portcullis_connections_bytes_total",
        "Bytes of ended connections, from the client (in) and to it (out).",
    ),
    ("portcullis_alarms_total", "Alarms that were raised."),
    (
        "portcullis_observed_total",
        "Connections that a guard let through only because it observes.",
    ),
    (
        "portcullis_table_full_total",
        "Connections whose client did not fit into a table.",
    ),
    (
        "portcullis_backend_connect_failures_total",
        "Failed connects to a server, health checks not included.",
    ),
    (
        "portcullis_handshakes_total",
        "Ended TLS handshakes, by result; those of the admin interface are among them.",
    ),
    (
        "portcullis_reloads_total",
        "Reloads of the configuration and of certificates, by result.",
    ),
    (
        "portcullis_recheck_closed_total",
        "Open connections that were closed because they would be rejected now.",
    ),
    (
        "portcullis_log_lines_dropped_total",
        "Lines of the log that were not written.",
    ),
];

const GAUGES: [(&str, &str); 10] = [
    (ACTIVE, "Open connections."),
    (
        "portcullis_connections_limit",
        "The most connections that a listener has at once.",
    ),
    (
        "portcullis_backend_servers",
        "1 while a server belongs to its backend; of a host name, its addresses.",
    ),
    (
        "portcullis_table_entries",
        "Clients in the tables of limits.",
    ),
    (
        "portcullis_backend_up",
        "1 while a server is up; of a host name, those of its addresses.",
    ),
    (
        "portcullis_backend_connections",
        "Open connections of a server.",
    ),
    (
        "portcullis_backend_ejected",
        "1 while a server is out of use after failed connects.",
    ),
    (
        "portcullis_backend_certificate_not_after_seconds",
        "End of the validity of the certificate that a server presented last, in Unix time.",
    ),
    (
        "portcullis_certificate_not_after_seconds",
        "End of the validity of a certificate, in Unix time.",
    ),
    (
        "portcullis_build_info",
        "The running version; the value is 1.",
    ),
];

const HISTOGRAMS: [(&str, &str); 3] = [
    (
        "portcullis_connections_duration_seconds",
        "Time from the accept of a connection to its end.",
    ),
    (
        "portcullis_backend_connect_duration_seconds",
        "Time of connects to a server.",
    ),
    (HANDSHAKES, "Time of completed TLS handshakes."),
];

/// Whether the first type of `Accept` that is known is that of OpenMetrics, as Prometheus sends it.
fn prefers_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).into_iter();
    let accepted = accepted.filter_map(|value| value.to_str().ok());
    let mut types = accepted.flat_map(|value| value.split(','));
    let known = types.find_map(|accepted| {
        let name = accepted.split(';').next().unwrap_or_default().trim();
        let is_open = name.eq_ignore_ascii_case("application/openmetrics-text");
        let is_plain = ["text/plain", "text/*", "*/*"].contains(&name);
        (is_open || is_plain).then_some(is_open)
    });
    known.unwrap_or(false)
}

/// The same text in OpenMetrics 1.0, which names counters without their suffix and marks the end.
fn open_metrics(text: &str) -> String {
    let mut open = String::with_capacity(text.len() + 8);
    let mut counters = Vec::new();
    for line in text.lines() {
        if let Some(name) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.strip_suffix("_total counter"))
        {
            counters.push(name);
        }
    }
    for line in text.lines().filter(|line| !line.is_empty()) {
        let metadata = line.strip_prefix("# ").and_then(|rest| {
            let (kind, rest) = rest.split_once(' ')?;
            let (name, rest) = rest.split_once(' ')?;
            let counter = name.strip_suffix("_total")?;
            counters.contains(&counter).then_some((kind, counter, rest))
        });
        match metadata {
            Some((kind, counter, rest)) => open += &format!("# {kind} {counter} {rest}\n"),
            None => {
                open += line;
                open.push('\n');
            }
        }
    }
    open + "# EOF\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn open_metrics_names_families_without_total_and_ends_with_eof() {
        let text = "# HELP a_total Some.\n# TYPE a_total counter\na_total{x=\"y\"} 1\n\n\
                    # TYPE b gauge\nb 2\n\n";
        assert_eq!(
            open_metrics(text),
            "# HELP a Some.\n# TYPE a counter\na_total{x=\"y\"} 1\n# TYPE b gauge\nb 2\n# EOF\n"
        );
    }

    #[test]
    fn each_metric_of_the_library_is_described() {
        const PAGE: &str = include_str!("../../../../middleware/src/observe/metrics/mod.rs");
        let described = |kind: &str| match kind {
            "counter" => &COUNTERS[..],
            "gauge" => &GAUGES,
            _ => &HISTOGRAMS,
        };
        let rows = PAGE
            .lines()
            .filter_map(|line| line.strip_prefix("//! | `portcullis_"));
        let mut count = 0;
        for row in rows {
            let mut cells = row.split(" | ");
            let name = cells.next().expect("a name").trim_end_matches('`');
            let kind = cells.next().expect("a kind");
            let name = format!("portcullis_{name}");
            assert!(
                described(kind).iter().any(|(known, _)| *known == name),
                "{name}"
            );
            count += 1;
        }
        assert!(count > 10);
    }

    #[test]
    fn the_first_known_type_of_accept_decides() {
        let accepts = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(text));
            prefers_open_metrics(&headers)
        };
        assert!(accepts(
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2"
        ));
        assert!(!accepts(
            "text/plain;version=0.0.4, application/openmetrics-text"
        ));
        assert!(!accepts("text/html") && !prefers_open_metrics(&HeaderMap::new()));
    }
}
