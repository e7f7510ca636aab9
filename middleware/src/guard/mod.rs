//! What the guard layers share: how they reject a connection, and how they observe instead.
//!
//! The guards are [`AclLayer`](crate::access::AclLayer), [`KeyedLimitLayer`](crate::limit::KeyedLimitLayer) and
//! [`RateLimitLayer`](crate::limit::RateLimitLayer). Each admits a connection or rejects it by a [`Refusal`],
//! which [`ConnectionLimitLayer`](crate::limit::ConnectionLimitLayer) uses too. With `with_observe(true)`, a
//! guard only counts and logs the connections that it would have rejected, so that a new rule can be tried on
//! live traffic.

mod admission;
mod future;
mod refusal;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use self::refusal::MAX_ANSWERING;
pub(crate) use self::{
    admission::Guard,
    refusal::{Held, Refusing},
};
pub use self::{future::GuardFuture, refusal::Refusal};
