//! Reloads a store when its files change.

use super::CertStore;
#[cfg(feature = "watch")]
use super::changes::Changes;
use crate::log_text::{Causes, Escaped};
use std::time::Duration;
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
        let changes = Changes::new(&store);
        Self(tokio::spawn(run(store, changes)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(store: CertStore, changes: Changes) {
    // The store has just warned, and a reload warns too.
    let mut warned = Instant::now();
    loop {
        if warned.elapsed() >= WARN_AGAIN_AFTER {
            store.snapshot().warn_about_expiry();
            warned = Instant::now();
        }
        let compared = store.clone();
        let has_changed = spawn_blocking(move || compared.has_changed()).await;
        if has_changed.unwrap_or(false) {
            reload(&store).await;
        }
        tokio::select! {
            () = sleep(POLL) => {}
            () = changes.next() => sleep(DEBOUNCE).await,
        }
    }
}

async fn reload(store: &CertStore) {
    match store.reload().await {
        Ok(reloaded) => tracing::info!("certificates were reloaded, {} changed", reloaded.replaced),
        Err(error) => tracing::error!(
            error = %Escaped(Causes(&error)),
            "the previous certificates stay in use"
        ),
    }
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

    async fn next(&self) {
        std::future::pending().await
    }
}
