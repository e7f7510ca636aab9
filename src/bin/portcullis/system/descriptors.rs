//! The limit of file descriptors.

/// Raises the soft limit, because each forwarded connection takes two file descriptors and the usual limit is 1024.
#[cfg(unix)]
pub(crate) fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of file descriptors cannot be raised");
        }
    }
}

#[cfg(not(unix))]
pub(crate) fn raise_descriptors() {}
