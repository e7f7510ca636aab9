//! Reloads a store when its files change.

#[cfg(feature = "watch")]
use super::changes::Changes;
use super::{CertStore, Kept};
use crate::log_text::{Causes, Escaped};
use std::{
    fmt,
    panic::resume_unwind,
    path::PathBuf,
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
    let mut checked = SystemTime::now();
    loop {
        let now = SystemTime::now();
        if warned.elapsed() >= WARN_AGAIN_AFTER {
            store.warn();
            warned = Instant::now();
        } else {
            let mut crls = store.crls();
            crls.retain(|crl| !crl.is_outdated(checked));
            crls.iter().for_each(|crl| crl.warn(now));
        }
        checked = now;
        let compared = store.clone();
        let comparing = spawn_blocking(move || {
            // First, so that no change falls between the two.
            changes.follow(&compared);
            (compared.changed(SystemTime::now()), changes)
        });
        let changed = match comparing.await {
            Ok((changed, returned)) => {
                changes = returned;
                changed
            }
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime shuts down.
                Err(_) => return,
            },
        };
        if let Some(files) = changed {
            reload(&store, files).await;
        }
        tokio::select! {
            () = sleep(POLL) => {}
            () = changes.next() => sleep(DEBOUNCE).await,
        }
    }
}

async fn reload(store: &CertStore, mut files: Vec<PathBuf>) {
    let used_by = store.0.used_by.as_deref();
    let reloaded = match store.reload().await {
        Ok(reloaded) => reloaded,
        Err(_) => {
            let (reloaded, kept) = store.renew().await;
            for Kept { name, problem, .. } in &kept {
                let error = Escaped(Causes(problem));
                match name {
                    Some(name) => tracing::error!(
                        certificate = &**name,
                        used_by,
                        %error,
                        "a certificate is not renewed, and the previous one stays in use"
                    ),
                    None => tracing::error!(used_by, %error, "what was read before stays in use"),
                }
            }
            files.retain(|file| !kept.iter().any(|kept| kept.files.contains(file)));
            if reloaded.replaced == 0 && files.is_empty() && !kept.is_empty() {
                return;
            }
            reloaded
        }
    };
    let file = (!files.is_empty()).then(|| tracing::field::display(Files(&files)));
    match reloaded.replaced {
        0 => tracing::info!(
            used_by,
            file,
            "files were reloaded, and no certificate changed"
        ),
        changed => tracing::info!(
            used_by,
            file,
            "certificates were reloaded, {changed} changed"
        ),
    }
}

/// Paths, separated by commas.
struct Files<'a>(&'a [PathBuf]);

impl fmt::Display for Files<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, path) in self.0.iter().enumerate() {
            let before = if index == 0 { "" } else { ", " };
            write!(f, "{before}{path:?}")?;
        }
        Ok(())
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

    const fn follow(&mut self, _: &CertStore) {}

    async fn next(&mut self) {
        std::future::pending().await
    }
}
