//! Log events of pools.

use super::{ServerKey, member::Member, pool::Shared};
use portcullis_middleware::internal::{Causes, Escaped};
use std::{error::Error, time::Duration};

/// A server is used from now on.
pub(super) fn up(pool: &Shared, member: &Member) {
    tracing::info!(
        pool = pool.name(),
        server = %Escaped(&member.key),
        "server is up"
    );
}

/// A server is no longer used, because its checks fail with `error`.
pub(super) fn down(pool: &Shared, member: &Member, error: &str) {
    tracing::warn!(
        pool = pool.name(),
        server = %Escaped(&member.key),
        error = %Escaped(error),
        "server is down"
    );
}

/// The last connection of a server that gets no new ones has ended.
pub(super) fn drained(pool: &Shared, member: &Member) {
    tracing::info!(
        pool = pool.name(),
        server = %Escaped(&member.key),
        "server is drained"
    );
}

/// The addresses of a name that is resolved in part, or at a failure.
#[derive(Clone, Copy)]
pub(super) enum InUse {
    Previous,
    /// What was found now.
    Known,
    None,
}

/// The host name of a server cannot be resolved completely.
pub(super) fn unresolved(
    pool: &Shared,
    server: &ServerKey,
    error: &(dyn Error + 'static),
    in_use: InUse,
) {
    let follows = match in_use {
        InUse::Previous => "its previous addresses stay in use",
        InUse::Known => "those of its addresses that are known are used",
        InUse::None => "it has no address yet",
    };
    tracing::warn!(
        pool = pool.name(),
        server = %Escaped(server),
        error = %Escaped(Causes(error)),
        "host name of a server cannot be resolved, and {follows}"
    );
}

/// A stream of changes has failed.
pub(super) fn changes_failed(pool: &Shared, error: &(dyn Error + 'static)) {
    tracing::warn!(
        pool = pool.name(),
        error = %Escaped(Causes(error)),
        "servers may have changed, but the changes are unavailable"
    );
}

/// The certificate that a check has seen is valid for `left`.
pub(super) fn certificate_expires(pool: &Shared, member: &Member, left: Duration) {
    let days = left.as_secs() / (24 * 60 * 60);
    tracing::warn!(
        pool = pool.name(),
        server = %Escaped(&member.key),
        "the certificate of a server expires in {days} days"
    );
}

/// A server is not used for `time` after failed connects.
pub(super) fn ejected(pool: &Shared, member: &Member, time: Duration) {
    tracing::warn!(
        pool = pool.name(),
        server = %Escaped(&member.key),
        "server is ejected for {time:?} after failed connects"
    );
}
