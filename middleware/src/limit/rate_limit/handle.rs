use super::{Rate, layer::RateLimitPolicy};
use crate::ConnectionInfo;

/// Reads the rate per key and changes it at run time; clones share the rate.
#[derive(Clone, Debug)]
pub struct RateLimitHandle(RateLimitPolicy);

impl RateLimitHandle {
    pub(super) const fn new(policy: RateLimitPolicy) -> Self {
        Self(policy)
    }

    /// The rate of each key.
    pub fn rate(&self) -> Rate {
        self.0.rates.rate()
    }

    /// Changes the rate for all further connections. Keys keep the time at which their burst is complete
    /// again, or that of one burst at the new rate if it is earlier.
    pub fn set_rate(&self, rate: Rate) {
        self.0.rates.set_rate(rate);
    }

    /// Whether another connection like this one would be within the rate now.
    pub fn admits(&self, info: &ConnectionInfo) -> bool {
        self.0.admits(info)
    }

    /// Number of keys in the table.
    ///
    /// A key is unused once its burst is complete again. Unused keys are removed when the table is full.
    pub fn keys(&self) -> usize {
        self.0.rates.table.len()
    }

    /// Maximum number of keys in the table.
    pub fn capacity(&self) -> usize {
        self.0.rates.table.capacity()
    }

    /// Number of connections rejected so far.
    pub fn refused(&self) -> u64 {
        self.0.guard.refused()
    }

    /// Number of connections that were admitted only because the layer
    /// [observes](super::RateLimitLayer::with_observe).
    pub fn observed(&self) -> u64 {
        self.0.guard.observed()
    }

    /// Number of connections that were admitted without a limit because the table was full.
    pub fn unlimited(&self) -> u64 {
        self.0.table_full.admitted()
    }
}
