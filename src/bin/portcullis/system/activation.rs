//! Sockets that systemd opened before the start: `sd_listen_fds(3)`.

use listenfd::ListenFd;
use std::{env, os::fd::OwnedFd};

/// The listening stream sockets that were passed to this process, with their names.
///
/// Call it before other threads start, because it removes the variables that child processes must not see.
pub(super) fn sockets() -> Vec<(String, OwnedFd)> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut passed = ListenFd::from_env();
    let count = passed.len();
    let mut take = |index| {
        let tcp = passed.take_tcp_listener(index).ok().flatten();
        let tcp = tcp.map(OwnedFd::from);
        tcp.or_else(|| {
            let unix = passed.take_unix_listener(index).ok().flatten();
            unix.map(OwnedFd::from)
        })
    };
    let mut names = names.split(':');
    (0..count)
        .filter_map(|index| {
            // Without names systemd calls them so, too.
            let name = names.next().unwrap_or("unknown").to_owned();
            Some((name, take(index)?))
        })
        .collect()
}
