//! Closes open connections that would not be admitted now, for listeners with `recheck`.
//!
//! A handshake or an access list decides once, and a connection may last for days. All connections are judged again
//! after a reload and when roots or revocation lists have changed, and those whose client's certificate has ended each
//! second.

use crate::{
    build::{Rules, has_certificate},
    config::Listener,
    view::{Current, View},
};
use portcullis::ConnectionInfo;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{task::spawn_blocking, time::interval};

/// Rechecks while the program runs.
pub(crate) async fn run(view: Arc<View>) {
    let mut seconds = interval(Duration::from_secs(1));
    let mut last = Last::default();
    loop {
        seconds.tick().await;
        let current = view.current();
        if !current.config.listeners.iter().any(|it| it.recheck) {
            continue;
        }
        // A verification takes the time of a signature.
        let pass = spawn_blocking(move || {
            last.pass(&current);
            last
        });
        match pass.await {
            Ok(state) => last = state,
            // The runtime shuts down, or a verifier has panicked, which the log says.
            Err(_) => return,
        }
    }
}

/// What all connections were judged by.
#[derive(Default)]
struct Last {
    loaded: Option<SystemTime>,
    generations: HashMap<String, u64>,
    /// Passes in which all are judged once more, because some were on their way through the old rules.
    again: u32,
}

impl Last {
    fn pass(&mut self, current: &Current) {
        let mut changed = self.loaded != Some(current.loaded);
        self.loaded = Some(current.loaded);
        let rechecked = current.config.listeners.iter().filter(|it| it.recheck);
        let rechecked: Vec<_> = rechecked
            .filter_map(|listener| Some((listener, current.rules.get(&listener.name.value)?)))
            .collect();
        for (listener, rules) in &rechecked {
            let name = listener.name.value.clone();
            let generation = rules.generation();
            changed |= self.generations.insert(name, generation) != Some(generation);
        }
        self.again = match changed {
            true => AGAIN,
            false => self.again.saturating_sub(1),
        };
        let is_full = changed || self.again == 1;
        for (listener, rules) in rechecked {
            close(current, listener, rules, is_full);
        }
    }
}

/// In seconds. Handshakes that began before have ended by then.
const AGAIN: u32 = 15;

fn close(current: &Current, listener: &Listener, rules: &Rules, is_full: bool) {
    let name = &listener.name.value;
    let sockets = current.listeners.iter().filter(|it| it.name == *name);
    let sockets = sockets.flat_map(|listener| &listener.sockets);
    let open = sockets.flat_map(|socket| socket.handle.connections());
    let now = SystemTime::now();
    let judged = open.filter(|info| is_full || may_have_ended(info, now));
    let observe = listener.guards.access.observe;
    let mut closed = 0;
    for info in judged.filter(|info| !info.is_forced()) {
        if let Err(reason) = rules.still_admit(&info, observe) {
            tracing::info!(listener = name, id = %info.id(), peer = %info.peer(), reason, "closed by recheck");
            info.force_close();
            closed += 1;
        }
    }
    if closed > 0 {
        tracing::warn!(
            listener = name,
            closed,
            "closed connections that would not be admitted now"
        );
    }
}

/// Whether the client's certificate may no longer be valid, so that it has to be verified again.
fn may_have_ended(info: &ConnectionInfo, now: SystemTime) -> bool {
    match info.peer_certificate() {
        Some(certificate) => certificate.not_after < now,
        // It is damaged, and its end is unknown here.
        None => has_certificate(info),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis::{
        connection::{Address, CertificateFacts, TlsInfo},
        middleware::internal,
    };

    fn presenting(certificate: Option<CertificateFacts>, der: &[&[u8]]) -> ConnectionInfo {
        let info = ConnectionInfo::new(Address::Unknown, Address::Unknown);
        let mut tls = TlsInfo::new();
        tls.peer_certificates = der.iter().map(|der| der.to_vec()).collect();
        tls.peer_certificate = certificate.map(Box::new);
        internal::describe(&info, None, Some(tls));
        info
    }

    #[test]
    fn a_certificate_is_verified_again_after_its_end_and_always_if_its_end_is_unknown() {
        let second = Duration::from_secs(1);
        let now = SystemTime::UNIX_EPOCH + 1_000 * second;
        let until = |end| Some(CertificateFacts::new(SystemTime::UNIX_EPOCH, end));
        assert!(may_have_ended(
            &presenting(until(now - second), &[b"one"]),
            now
        ));
        assert!(!may_have_ended(&presenting(until(now), &[b"one"]), now));
        assert!(may_have_ended(&presenting(None, &[b"damaged"]), now));
        assert!(!may_have_ended(&presenting(None, &[]), now));
    }
}
