//! Reloads a store when its files change.

#[cfg(feature = "watch")]
use super::changes::Changes;
use super::{CertStore, Kept};
use crate::log_text::{Causes, Escaped};
use std::{
    panic::resume_unwind,
    time::{Duration, SystemTime},
};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep},
};

/// Reloads a [`CertStore`] when its files change; see [`CertStore::watch`]. Dropping it stops that.
#[derive(Debug)]
#[must_use = "dropping it stops the reloads"]
pub struct Watch(JoinHandle<()>);

impl Watch {
    pub(super) fn start(store: CertStore) -> Self {
        // Before this returns, so that a later change is reported.
        let mut changes = Changes::new(&store);
        changes.follow(&store);
        Self(tokio::spawn(run(store, changes)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(store: CertStore, mut changes: Changes) {
    // The store has just warned, and a reload warns too.
    let mut warned = Instant::now();
    loop {
        if warned.elapsed() >= WARN_AGAIN_AFTER {
            store.snapshot().warn_about_expiry();
            warned = Instant::now();
        }
        let compared = store.clone();
        let comparing = spawn_blocking(move || {
            // First, so that no change falls between the two.
            changes.follow(&compared);
            (compared.has_changed(SystemTime::now()), changes)
        });
        let has_changed = match comparing.await {
            Ok((has_changed, returned)) => {
                changes = returned;
                has_changed
            }
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime shuts down.
                Err(_) => return,
            },
        };
        if has_changed {
            reload(&store).await;
        }
        tokio::select! {
            () = sleep(POLL) => {}
            () = changes.next() => sleep(DEBOUNCE).await,
        }
    }
}

async fn reload(store: &CertStore) {
    let reloaded = match store.reload().await {
        Ok(reloaded) => reloaded,
        Err(_) => {
            let (reloaded, kept) = store.renew().await;
            for Kept { name, problem } in &kept {
                let error = Escaped(Causes(problem));
                match name {
                    Some(name) => tracing::error!(
                        certificate = &**name,
                        %error,
                        "a certificate is not renewed, and the previous one stays in use"
                    ),
                    None => tracing::error!(%error, "what was read before stays in use"),
                }
            }
            if reloaded.replaced == 0 && !kept.is_empty() {
                return;
            }
            reloaded
        }
    };
    tracing::info!("certificates were reloaded, {} changed", reloaded.replaced);
}

const POLL: Duration = Duration::from_secs(60);
/// A certificate that expires soon is mentioned daily.
const WARN_AGAIN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
const DEBOUNCE: Duration = Duration::from_secs(1);

/// Without reports of the operating system.
#[cfg(not(feature = "watch"))]
struct Changes;

#[cfg(not(feature = "watch"))]
impl Changes {
    const fn new(_: &CertStore) -> Self {
        Self
    }

    const fn follow(&mut self, _: &CertStore) {}

    async fn next(&mut self) {
        std::future::pending().await
    }
}
