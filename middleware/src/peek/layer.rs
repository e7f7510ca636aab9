//! The layer and its settings.

use super::{Peek, ProtocolDetector};
use crate::guard::Observer;
use std::{sync::Arc, time::Duration};
use tower::Layer;

/// Layer for [`Peek`]; see the [module docs](super).
#[derive(Clone, Debug)]
pub struct PeekLayer<D = ProtocolDetector> {
    pub(super) detector: D,
    pub(super) bounds: Bounds,
    /// Shared by all clones.
    pub(super) observer: Arc<Observer>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) max_len: usize,
    pub(super) timeout: Option<Duration>,
    pub(super) observe: bool,
}

impl PeekLayer {
    /// The reason of a [`Refused`](crate::error::Refused) whose first bytes are too many to decide.
    pub const TOO_LONG: &'static str = "its first bytes exceed the limit";
    /// The reason of a [`Refused`](crate::error::Refused) whose first bytes are invalid. The source says why.
    pub const INVALID: &'static str = "its first bytes are invalid";
    pub(super) const NAME: &'static str = "peek";

    /// Detects the [`Protocol`](super::Protocol).
    pub fn new() -> Self {
        Self::with_detector(ProtocolDetector::new())
    }
}

impl Default for PeekLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<D> PeekLayer<D> {
    /// Examines the first bytes with `detector`, a clone for each connection.
    pub fn with_detector(detector: D) -> Self {
        Self {
            detector,
            bounds: Bounds {
                max_len: DEFAULT_MAX_LEN,
                timeout: Some(DEFAULT_TIMEOUT),
                observe: false,
            },
            observer: Arc::new(Observer::new(PeekLayer::NAME)),
        }
    }

    /// Limits the bytes that a decision may take; 16 KiB by default.
    ///
    /// # Panics
    ///
    /// If `max_len` is zero or exceeds 64 KiB.
    #[must_use]
    pub const fn with_max_len(mut self, max_len: usize) -> Self {
        assert!(
            max_len > 0 && max_len <= MAX_LEN,
            "the first bytes are 1 to 65536"
        );
        self.bounds.max_len = max_len;
        self
    }

    /// Limits the time that a decision may take, counted from the call; 5 s by default.
    ///
    /// `None` disables the timeout. Once the server has stopped accepting, half a second remains.
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.bounds.timeout = timeout.into();
        self
    }

    /// Passes on connections that it would reject, without a result, and counts, logs and notes them; off by default.
    #[must_use]
    pub const fn with_observe(mut self, observe: bool) -> Self {
        self.bounds.observe = observe;
        self
    }

    /// Number of connections that were passed on only because the layer [observes](Self::with_observe).
    pub fn observed(&self) -> u64 {
        self.observer.observed()
    }
}

impl<S, D: Clone> Layer<S> for PeekLayer<D> {
    type Service = Peek<S, D>;

    fn layer(&self, inner: S) -> Peek<S, D> {
        Peek::new(inner, self.clone())
    }
}

const DEFAULT_MAX_LEN: usize = 16 << 10;
const MAX_LEN: usize = 64 << 10;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
