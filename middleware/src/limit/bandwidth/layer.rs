//! The layer and its service.

use super::{Bandwidth, BandwidthIo, SharedBandwidth, io::DirectionBandwidth};
use crate::Connection;
use std::task::{Context, Poll};
use tower::{Layer, Service};

/// Layer for [`BandwidthLimit`]; see the [module docs](super).
#[derive(Clone, Debug, Default)]
pub struct BandwidthLayer {
    read: BandwidthSettings,
    write: BandwidthSettings,
}

#[derive(Clone, Debug, Default)]
struct BandwidthSettings {
    own: Option<Bandwidth>,
    shared: Option<SharedBandwidth>,
}

impl BandwidthSettings {
    fn start(&self) -> DirectionBandwidth {
        DirectionBandwidth::new(self.own, self.shared.clone())
    }
}

impl BandwidthLayer {
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
        let (read, write) = (self.layer.read.start(), self.layer.write.start());
        let limited = connection.map_io(|io| BandwidthIo::new(io, read, write));
        self.inner.call(limited)
    }
}
