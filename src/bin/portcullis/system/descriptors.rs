//! The limit of file descriptors.

use crate::config::{Config, Problems};

/// Raises the soft limit, because each forwarded connection takes two file descriptors and the usual limit is 1024.
#[cfg(unix)]
pub(crate) fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let before = limit.current;
    limit.current = limit.maximum;
    let mut raised = setrlimit(Resource::Nofile, limit);
    // macOS rejects more than OPEN_MAX, also where the hard limit is none.
    if raised.is_err() && before.is_some_and(|before| before < OPEN_MAX) {
        limit.current = Some(
            limit
                .maximum
                .map_or(OPEN_MAX, |maximum| maximum.min(OPEN_MAX)),
        );
        raised = setrlimit(Resource::Nofile, limit);
    }
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of file descriptors cannot be raised");
    }
}

/// That of macOS.
#[cfg(unix)]
const OPEN_MAX: u64 = 10_240;

#[cfg(not(unix))]
pub(crate) fn raise_descriptors() {}

/// Notes at the first listener that all connections together do not fit. Errors come first.
pub(crate) fn check_descriptors(config: &Config, problems: &mut Problems) {
    let Some(limit) = hard_limit().filter(|_| problems.errors() == 0) else {
        return;
    };
    let connections = config
        .listeners
        .iter()
        .map(|it| it.guards.limits.connections);
    // Listeners without a limit take what there is.
    let connections = connections.flatten().fold(0_usize, usize::saturating_add);
    let needed = (connections as u64).saturating_mul(2).saturating_add(OWN);
    if let Some(listener) = config.listeners.first().filter(|_| needed > limit) {
        problems.note(
            listener.name.place.clone(),
            format!(
                "{connections} connections (`limits.connections` of all listeners) take {needed} file descriptors, and this \
                 process may have {limit}; raise the limit (LimitNOFILE= of systemd, or ulimit -Hn) or lower the limits"
            ),
        );
    }
}

/// For listeners, the log, certificates, health checks and the admin interface.
const OWN: u64 = 256;

/// `None` without a limit.
#[cfg(unix)]
fn hard_limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).maximum
}

#[cfg(not(unix))]
fn hard_limit() -> Option<u64> {
    None
}
