//! Closes open connections that would not be admitted now, for listeners with `recheck`.
//!
//! A handshake or an access list decides once, and a connection may last for days. All connections are judged again
//! after a reload, when roots or revocation lists have changed and when a list goes out of date, and those whose
//! client's certificate has ended each second. Those that are still on their way to a backend then are judged once they
//! have arrived there.

use crate::{
    admin::count_rechecked,
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
        let mut state = std::mem::take(&mut last);
        // A verification takes the time of a signature.
        let pass = spawn_blocking(move || {
            state.pass(&current);
            state
        });
        match pass.await {
            Ok(state) => last = state,
            // The runtime shuts down.
            Err(error) if error.is_cancelled() => return,
            // The next pass judges all connections, as the first one did.
            Err(error) => tracing::error!(%error, "a recheck has panicked; it is repeated"),
        }
    }
}

/// What connections were judged by.
#[derive(Default)]
struct Last {
    loaded: Option<SystemTime>,
    /// The time of the pass.
    at: Option<SystemTime>,
    listeners: HashMap<String, Judged>,
}

/// The connections of a listener.
#[derive(Default)]
struct Judged {
    generation: u64,
    /// Those on their way through the guards when the rules changed, which may be the old ones.
    underway: Vec<ConnectionInfo>,
}

impl Last {
    fn pass(&mut self, current: &Current) {
        let is_reloaded = self.loaded.replace(current.loaded) != Some(current.loaded);
        let now = SystemTime::now();
        let last_at = self.at.replace(now);
        let mut before = std::mem::take(&mut self.listeners);
        for listener in current.config.listeners.iter().filter(|it| it.recheck) {
            let name = &listener.name.value;
            let Some(rules) = current.rules.get(name) else {
                continue;
            };
            let generation = rules.generation();
            let known = before.remove(name);
            let is_changed = is_reloaded
                || known.as_ref().map(|it| it.generation) != Some(generation)
                || last_at.is_some_and(|last_at| rules.has_list_ended(last_at, now));
            let mut judged = Judged {
                generation,
                ..known.unwrap_or_default()
            };
            let due = if is_changed {
                judged.all(open(current, name))
            } else {
                let mut due = judged.arrived();
                if rules.verifies_clients() {
                    due.extend(open(current, name).filter(|info| may_have_ended(info, now)));
                }
                due
            };
            close(listener, rules, due);
            self.listeners.insert(name.clone(), judged);
        }
    }
}

impl Judged {
    /// Those of `open` that are judged now. The others are noted until they have passed the guards.
    fn all(&mut self, open: impl Iterator<Item = ConnectionInfo>) -> Vec<ConnectionInfo> {
        let (due, underway) = open.partition(has_passed);
        self.underway = underway;
        due
    }

    /// Those that have passed the guards since the last pass.
    fn arrived(&mut self) -> Vec<ConnectionInfo> {
        self.underway.retain(|info| !info.phase().is_end());
        self.underway
            .extract_if(.., |info| has_passed(info))
            .collect()
    }
}

/// Whether all guards have admitted the connection, so that its address and its certificates are known.
fn has_passed(info: &ConnectionInfo) -> bool {
    info.upstream().is_some()
}

fn open(current: &Current, name: &str) -> impl Iterator<Item = ConnectionInfo> {
    let sockets = current.listeners.iter().filter(move |it| it.name == name);
    let sockets = sockets.flat_map(|listener| &listener.sockets);
    sockets.flat_map(|socket| socket.handle.connections())
}

fn close(listener: &Listener, rules: &Rules, due: Vec<ConnectionInfo>) {
    let name = &listener.name.value;
    let observe = listener.guards.access.observe;
    let mut closed = 0;
    for info in due.into_iter().filter(|info| !info.is_forced()) {
        if let Err(reason) = rules.still_admit(&info, observe) {
            tracing::info!(
                listener = name,
                connection.id = info.id().get(),
                peer = %info.peer(),
                reason,
                "closed by recheck"
            );
            info.force_close_because(format!("it would not be admitted now: {reason}"));
            closed += 1;
        }
    }
    count_rechecked(name, closed);
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
        connection::{Address, CertificateFacts, TlsInfo, UpstreamInfo},
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

    #[test]
    fn a_connection_on_its_way_through_the_guards_is_judged_once_it_is_forwarded() {
        let connection = || ConnectionInfo::new(Address::Unknown, Address::Unknown);
        let forward = |info: &ConnectionInfo| {
            assert!(info.set_upstream(UpstreamInfo::new("a", Address::Unknown)));
        };
        let (early, late) = (connection(), connection());
        forward(&early);
        let mut judged = Judged::default();
        let ids = |due: Vec<ConnectionInfo>| due.iter().map(ConnectionInfo::id).collect::<Vec<_>>();

        let due = judged.all([early.clone(), late.clone()].into_iter());
        assert_eq!(ids(due), [early.id()]);
        for _ in 0..60 {
            assert_eq!(ids(judged.arrived()), []);
        }
        forward(&late);
        assert_eq!(ids(judged.arrived()), [late.id()]);
        assert_eq!(ids(judged.arrived()), []);
    }
}
