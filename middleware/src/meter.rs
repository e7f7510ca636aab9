//! The metrics of single layers, by the facade `metrics`. Without the feature `metrics` they are empty.
//!
//! They are registered when their layer is created. The page of `observe::metrics` lists them.

/// A registered counter.
#[derive(Clone)]
pub(crate) struct Counter(#[cfg(feature = "metrics")] ::metrics::Counter);

/// Registers a metric, with the feature.
macro_rules! register {
    ($kind:ident!($name:literal, $($label:literal => $value:expr),*)) => {{
        $(let _ = $value;)*
        Self(
            #[cfg(feature = "metrics")]
            ::metrics::$kind!($name, $($label => $value.to_owned()),*),
        )
    }};
}

impl Counter {
    /// Times that an alarm was raised.
    pub(crate) fn alarms(listener: &str, alarm: &'static str) -> Self {
        register!(counter!("portcullis_alarms_total", "listener" => listener, "alarm" => alarm))
    }

    /// Connections that `guard` let through only because it observes.
    pub(crate) fn observed(guard: &'static str) -> Self {
        register!(counter!("portcullis_observed_total", "guard" => guard))
    }

    #[inline]
    pub(crate) fn increment(&self) {
        #[cfg(feature = "metrics")]
        self.0.increment(1);
    }
}

macro_rules! debug {
    ($($metric:ident),*) => {$(
        impl std::fmt::Debug for $metric {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($metric))
            }
        }
    )*};
}
debug!(Counter);
