//! The metrics of one kind, by name and labels.

use metrics::Key;
use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[derive(Debug)]
pub(super) struct Registry<M>(Mutex<BTreeMap<String, Family<M>>>);

/// By the labels as they are written.
type Family<M> = BTreeMap<String, Arc<M>>;

impl<M> Registry<M> {
    /// The metric of `key`, which is one with those of an equal key.
    pub(super) fn register(&self, key: &Key, new: impl FnOnce() -> M) -> Arc<M> {
        let mut families = self.lock();
        let family = families.entry(key.name().to_owned()).or_default();
        let metric = family.entry(labels(key));
        metric.or_insert_with(|| Arc::new(new())).clone()
    }

    /// Calls `each` with the metrics of a name.
    pub(super) fn each(&self, name: &str, each: impl FnMut(&M)) {
        let families = self.lock();
        let metrics = families.get(name).into_iter().flat_map(BTreeMap::values);
        metrics.map(|metric| &**metric).for_each(each);
    }

    /// Adds them to the text for Prometheus. `write` adds the lines of one metric, by its name and its labels.
    pub(super) fn render(
        &self,
        text: &mut String,
        kind: &str,
        descriptions: &[(&str, &str)],
        write: impl Fn(&mut String, &str, &str, &M) -> fmt::Result,
    ) {
        for (name, family) in &*self.lock() {
            let known = descriptions.iter().find(|(known, _)| known == name);
            let help = known.map_or("", |(_, help)| help);
            // A String takes all that is written.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, metric) in family {
                let _ = write(text, name, labels, metric);
            }
            text.push('\n');
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Family<M>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Default for Registry<M> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// Between braces, if there are any.
pub(super) fn braced(labels: &str) -> String {
    match labels {
        "" => String::new(),
        labels => format!("{{{labels}}}"),
    }
}

fn labels(key: &Key) -> String {
    let labels = key.labels().map(|label| {
        let value = label.value();
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("{}=\"{}\"", label.key(), value.replace('\n', "\\n"))
    });
    labels.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics::Label;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn metrics_of_an_equal_key_are_one_and_their_labels_are_escaped() {
        let registry = Registry::<AtomicU64>::default();
        let key = |labels: Vec<Label>| Key::from_parts("a_total", labels);
        let named = || vec![Label::new("listener", "a\"\\\n")];
        for labels in [named(), vec![], named()] {
            let count = registry.register(&key(labels), AtomicU64::default);
            count.fetch_add(1, Ordering::Relaxed);
        }
        let mut text = String::new();
        let write = |text: &mut String, name: &str, labels: &str, count: &AtomicU64| {
            let count = count.load(Ordering::Relaxed);
            writeln!(text, "{name}{} {count}", braced(labels))
        };
        registry.render(&mut text, "counter", &[("a_total", "Some.")], write);
        assert_eq!(
            text,
            "# HELP a_total Some.\n# TYPE a_total counter\na_total 1\na_total{listener=\"a\\\"\\\\\\n\"} 2\n\n"
        );
    }
}
