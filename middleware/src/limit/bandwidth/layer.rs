//! The layer and its service.

use super::{
    Bandwidth, BandwidthIo, SharedBandwidth,
    io::{DirectionBandwidth, Observing},
};
use crate::{Connection, ConnectionInfo, guard::Observer};
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tower::{Layer, Service};

/// Layer for [`BandwidthLimit`]; see the [module docs](super).
#[derive(Clone, Debug, Default)]
pub struct BandwidthLayer {
    read: BandwidthSettings,
    write: BandwidthSettings,
    /// `None` if the limits apply.
    observer: Option<Arc<Observer>>,
}

#[derive(Clone, Debug, Default)]
struct BandwidthSettings {
    own: Option<Bandwidth>,
    shared: Option<SharedBandwidth>,
}

impl BandwidthSettings {
    fn start(&self, observing: Option<Box<Observing>>) -> DirectionBandwidth {
        DirectionBandwidth::new(self.own, self.shared.clone(), observing)
    }
}

impl BandwidthLayer {
    /// What is noted where a read would have waited and the layer only [observes](Self::with_observe).
    pub const READ: &'static str = "bandwidth of reads exceeded";
    /// What is noted where a write would have waited.
    pub const WRITE: &'static str = "bandwidth of writes exceeded";
    const NAME: &'static str = "bandwidth";

    /// Without any limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the bytes read from each connection; `None` disables the limit.
    #[must_use]
    pub fn with_read(mut self, limit: impl Into<Option<Bandwidth>>) -> Self {
        self.read.own = limit.into();
        self
    }

    /// Limits the bytes written to each connection; `None` disables the limit.
    #[must_use]
    pub fn with_write(mut self, limit: impl Into<Option<Bandwidth>>) -> Self {
        self.write.own = limit.into();
        self
    }

    /// Limits the bytes read from all connections together; `None` disables the limit.
    #[must_use]
    pub fn with_shared_read(mut self, limit: impl Into<Option<SharedBandwidth>>) -> Self {
        self.read.shared = limit.into();
        self
    }

    /// Limits the bytes written to all connections together; `None` disables the limit.
    #[must_use]
    pub fn with_shared_write(mut self, limit: impl Into<Option<SharedBandwidth>>) -> Self {
        self.write.shared = limit.into();
        self
    }

    /// Lets all bytes pass without a wait, and counts, logs and notes the connections that would have waited, once per
    /// direction; off by default.
    ///
    /// The log has up to five lines per second, at INFO. Clones made afterwards share the count.
    #[must_use]
    pub fn with_observe(mut self, observe: bool) -> Self {
        self.observer = observe.then(|| Arc::new(Observer::new(Self::NAME)));
        self
    }

    /// Number of connections that were not slowed down only because the layer [observes](Self::with_observe). Reads
    /// and writes of a connection count apart.
    pub fn observed(&self) -> u64 {
        let observer = self.observer.as_ref();
        observer.map_or(0, |observer| observer.observed())
    }

    fn start(&self, info: &ConnectionInfo) -> [DirectionBandwidth; 2] {
        let directions = [(&self.read, Self::READ), (&self.write, Self::WRITE)];
        directions.map(|(settings, reason)| {
            let observing = self.observer.as_ref().map(|observer| {
                Box::new(Observing {
                    observer: observer.clone(),
                    info: info.clone(),
                    reason,
                    noted: false,
                })
            });
            settings.start(observing)
        })
    }
}

impl<S> Layer<S> for BandwidthLayer {
    type Service = BandwidthLimit<S>;

    fn layer(&self, inner: S) -> BandwidthLimit<S> {
        let layer = self.clone();
        BandwidthLimit { inner, layer }
    }
}

/// Calls the inner service with a [`BandwidthIo`] inside each connection.
#[derive(Clone, Debug)]
pub struct BandwidthLimit<S> {
    inner: S,
    layer: BandwidthLayer,
}

impl<S, IO> Service<Connection<IO>> for BandwidthLimit<S>
where
    S: Service<Connection<BandwidthIo<IO>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, connection: Connection<IO>) -> Self::Future {
        let [read, write] = self.layer.start(connection.info());
        let limited = connection.map_io(|io| BandwidthIo::new(io, read, write));
        self.inner.call(limited)
    }
}
