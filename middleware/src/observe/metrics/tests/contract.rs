//! The table of metrics is that of the code.

use crate::{
    meter,
    observe::{AlarmLayer, MetricsLayer},
};
use ::metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Mutex,
};

/// The kind and the labels of each metric.
type Table = BTreeMap<String, (String, Vec<String>)>;

#[derive(Default)]
struct Registered(Mutex<Table>);

impl Registered {
    fn add(&self, kind: &str, key: &Key) {
        let labels = key.labels().map(|label| label.key().to_owned()).collect();
        let entry = (kind.to_owned(), labels);
        let mut table = self.0.lock().unwrap();
        let before = table.insert(key.name().to_owned(), entry.clone());
        assert!(before.is_none_or(|before| before == entry), "{key}");
    }
}

impl Recorder for Registered {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.add("counter", key);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.add("gauge", key);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.add("histogram", key);
        Histogram::noop()
    }
}

/// The rows of the page.
fn documented() -> Table {
    let page = include_str!("../mod.rs");
    let words = |cell: &str| -> Vec<String> {
        let names = cell.split(',').map(|name| name.trim().trim_matches('`'));
        names.map(str::to_owned).collect()
    };
    let rows = page
        .lines()
        .filter(|line| line.starts_with("//! | `portcullis_"));
    let row = |line: &str| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`').to_owned();
        (name, (cells[2].to_owned(), words(cells[3])))
    };
    rows.map(row).collect()
}

#[test]
fn the_page_lists_each_metric_with_its_kind_and_labels() {
    let registered = Registered::default();
    with_local_recorder(&registered, || {
        MetricsLayer::new("web").refuse_one();
        drop(AlarmLayer::new("web"));
        meter::Counter::observed("gate");
        meter::Counter::table_full("gate");
        meter::Gauge::table_entries("gate");
        meter::Gauge::backend_servers("db", "10.0.0.7:5432");
        meter::Gauge::backend_up("db", "10.0.0.7:5432");
        meter::Gauge::backend_connections("db", "10.0.0.7:5432");
        meter::Gauge::backend_ejected("db", "10.0.0.7:5432");
        meter::Gauge::backend_certificate_not_after("db", "10.0.0.7:5432");
        meter::Histogram::backend_connect_duration("db", "10.0.0.7:5432");
        meter::Counter::backend_connect_failures("db", "10.0.0.7:5432");
        #[cfg(feature = "tls")]
        {
            meter::Counter::handshakes("completed");
            meter::Histogram::handshake_duration("full");
        }
        #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
        {
            meter::Gauge::certificate_not_after("a.example");
            meter::Counter::reloads("completed");
        }
    });
    let mut documented = documented();
    let mut leave_out = |of: &str| documented.retain(|name, _| !name.contains(of));
    if cfg!(not(feature = "tls")) {
        leave_out("handshake");
    }
    if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
        leave_out("certificate");
        leave_out("reload");
    }
    assert_eq!(*registered.0.lock().unwrap(), documented);
}

#[test]
fn the_page_lists_each_name_in_the_sources() {
    let mut found = BTreeSet::new();
    let sources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    for folder in [sources.to_owned(), sources.join("../../src")] {
        if folder.exists() {
            find(&folder, &mut found);
        }
    }
    let listed: BTreeSet<_> = documented().into_keys().collect();
    assert_eq!(found, listed);
}

/// Adds the names of metrics in literals below `folder`, without tests and the program, which has more of its own.
fn find(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // The program has metrics of its own.
        if path
            .file_stem()
            .is_some_and(|name| name == "tests" || name == "bin")
        {
            continue;
        } else if path.is_dir() {
            find(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let code = source.lines().filter(|line| !line.trim().starts_with("//"));
            for line in code {
                for rest in line.split("\"portcullis_").skip(1) {
                    let name = rest.split('"').next().unwrap();
                    // The name of the package, as in targets of events.
                    if !name.starts_with("middleware") {
                        found.insert(format!("portcullis_{name}"));
                    }
                }
            }
        }
    }
}

impl MetricsLayer {
    /// Registers the counter of a refusal.
    fn refuse_one(&self) {
        self.handles.refused("gate", "shut").increment(1);
    }
}
