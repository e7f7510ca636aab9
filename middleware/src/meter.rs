//! The metrics of single layers, by the facade `metrics`. Without the feature `metrics` they are empty.
//!
//! They are registered when their layer is created. The page of `observe::metrics` lists them.

/// A registered counter.
#[derive(Clone)]
pub struct Counter(#[cfg(feature = "metrics")] ::metrics::Counter);

/// A registered gauge.
#[derive(Clone)]
pub struct Gauge(#[cfg(feature = "metrics")] ::metrics::Gauge);

/// A registered histogram of seconds.
#[derive(Clone)]
pub struct Histogram(#[cfg(feature = "metrics")] ::metrics::Histogram);

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

    /// Connections whose key did not fit into the table.
    pub(crate) fn table_full(table: &'static str) -> Self {
        register!(counter!("portcullis_table_full_total", "table" => table))
    }

    /// TLS handshakes of servers.
    #[cfg(feature = "tls")]
    pub(crate) fn handshakes(result: &'static str) -> Self {
        register!(counter!("portcullis_handshakes_total", "result" => result))
    }

    /// Reloads of certificates.
    #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
    pub(crate) fn reloads(result: &'static str) -> Self {
        register!(counter!("portcullis_reloads_total", "of" => "certificates", "result" => result))
    }

    /// Connects to a server of a pool that failed.
    pub fn backend_connect_failures(backend: &str, server: &str) -> Self {
        register!(
            counter!("portcullis_backend_connect_failures_total", "backend" => backend, "server" => server)
        )
    }

    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        #[cfg(feature = "metrics")]
        self.0.increment(1);
    }
}

impl Gauge {
    /// Keys in a table.
    pub(crate) fn table_entries(table: &'static str) -> Self {
        register!(gauge!("portcullis_table_entries", "table" => table))
    }

    /// The end of the validity of a certificate.
    #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
    pub(crate) fn certificate_not_after(name: &str) -> Self {
        register!(gauge!("portcullis_certificate_not_after_seconds", "name" => name))
    }

    /// Whether a server is one of a pool.
    pub fn backend_servers(backend: &str, server: &str) -> Self {
        register!(gauge!("portcullis_backend_servers", "backend" => backend, "server" => server))
    }

    /// Whether a server of a pool is up.
    pub fn backend_up(backend: &str, server: &str) -> Self {
        register!(gauge!("portcullis_backend_up", "backend" => backend, "server" => server))
    }

    /// Whether a server of a pool is ejected.
    pub fn backend_ejected(backend: &str, server: &str) -> Self {
        register!(gauge!("portcullis_backend_ejected", "backend" => backend, "server" => server))
    }

    /// The end of the certificate of a server of a pool.
    pub fn backend_certificate_not_after(backend: &str, server: &str) -> Self {
        register!(
            gauge!("portcullis_backend_certificate_not_after_seconds", "backend" => backend, "server" => server)
        )
    }

    /// Connections to a server of a pool.
    pub fn backend_connections(backend: &str, server: &str) -> Self {
        register!(
            gauge!("portcullis_backend_connections", "backend" => backend, "server" => server)
        )
    }

    /// Adds `change`, which may be negative.
    #[inline]
    pub fn add(&self, change: f64) {
        #[cfg(feature = "metrics")]
        self.0.increment(change);
        #[cfg(not(feature = "metrics"))]
        let _ = change;
    }

    #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
    pub(crate) fn set(&self, value: f64) {
        #[cfg(feature = "metrics")]
        self.0.set(value);
        #[cfg(not(feature = "metrics"))]
        let _ = value;
    }
}

impl Histogram {
    /// Durations of connects to a server of a pool that succeeded.
    pub fn backend_connect_duration(backend: &str, server: &str) -> Self {
        register!(
            histogram!("portcullis_backend_connect_duration_seconds", "backend" => backend, "server" => server)
        )
    }

    /// Durations of completed TLS handshakes of servers.
    #[cfg(feature = "tls")]
    pub(crate) fn handshake_duration(kind: &'static str) -> Self {
        register!(histogram!("portcullis_handshake_duration_seconds", "kind" => kind))
    }

    /// Adds a sample.
    pub fn record(&self, duration: std::time::Duration) {
        #[cfg(feature = "metrics")]
        self.0.record(duration.as_secs_f64());
        #[cfg(not(feature = "metrics"))]
        let _ = duration;
    }
}

/// One that nothing reads.
impl Default for Gauge {
    fn default() -> Self {
        Self(
            #[cfg(feature = "metrics")]
            ::metrics::Gauge::noop(),
        )
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
debug!(Counter, Gauge, Histogram);
