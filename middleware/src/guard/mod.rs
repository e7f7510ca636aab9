//! What the guard layers share: how they reject a connection, and how they observe instead.
//!
//! The guards are [`AclLayer`](crate::access::AclLayer), [`KeyedLimitLayer`](crate::limit::KeyedLimitLayer) and
//! [`RateLimitLayer`](crate::limit::RateLimitLayer). Each admits a connection or rejects it by a [`Refusal`],
//! which [`ConnectionLimitLayer`](crate::limit::ConnectionLimitLayer) uses too.
//!
//! With `with_observe(true)`, a guard lets all connections pass and only counts and logs those that it would have
//! rejected, so that a new rule can be tried on live traffic. It also adds a [`Note`](crate::connection::Note) to each,
//! which [`TraceLayer`](crate::observe::TraceLayer) shows when the connection is closed, and increments the metric
//! `portcullis_observed_total`. [`PeekLayer`](crate::peek::PeekLayer),
//! [`BandwidthLayer`](crate::limit::BandwidthLayer) and
//! [`ConnectionTimeoutLayer`](crate::timeout::ConnectionTimeoutLayer) can observe in the same way.

mod admission;
mod future;
mod observer;
mod refusal;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use self::refusal::MAX_ANSWERING;
pub(crate) use self::{
    admission::Guard,
    observer::Observer,
    refusal::{Held, Refusing},
};
pub use self::{future::GuardFuture, refusal::Refusal};
