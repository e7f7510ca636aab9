//! The metrics of single layers, by the facade `metrics`. Without the feature `metrics` they are empty.
//!
//! They are registered when their layer is created. The page of `observe::metrics` lists them.

/// A registered counter.
#[derive(Clone)]
pub(crate) struct Counter(#[cfg(feature = "metrics")] ::metrics::Counter);

/// Registers a counter, with the feature.
macro_rules! counter {
    ($name:literal, $($label:literal => $value:expr),*) => {{
        $(let _ = $value;)*
        Counter(
            #[cfg(feature = "metrics")]
            ::metrics::counter!($name, $($label => $value.to_owned()),*),
        )
    }};
}

impl Counter {
    /// Times that an alarm was raised.
    pub(crate) fn alarms(listener: &str, alarm: &'static str) -> Self {
        counter!("portcullis_alarms_total", "listener" => listener, "alarm" => alarm)
    }

    #[inline]
    #[cfg_attr(
        not(feature = "metrics"),
        expect(clippy::unused_self, reason = "it is empty without the feature")
    )]
    pub(crate) fn increment(&self) {
        #[cfg(feature = "metrics")]
        self.0.increment(1);
    }
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counter")
    }
}
