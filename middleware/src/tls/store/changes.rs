//! Reports of the operating system that files have changed.

use super::CertStore;
use crate::log_text::Escaped;
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
    recommended_watcher,
};
use std::{collections::BTreeSet, path::Path, sync::Arc};
use tokio::sync::Notify;

/// Reports of the operating system about the folders of the files.
pub(super) struct Changes {
    changed: Arc<Notify>,
    /// Stops with its drop.
    _watcher: Option<RecommendedWatcher>,
}

impl Changes {
    /// Watches folders and not files, because a renewal replaces the files, or a symbolic link beside them
    /// (`..data` in Kubernetes).
    pub(super) fn new(store: &CertStore) -> Self {
        let changed = Arc::new(Notify::new());
        let mut folders = BTreeSet::new();
        store.each_path(|path| {
            let target = path.canonicalize().ok();
            let paths = [Some(path), target.as_deref()];
            let parents = paths.iter().flatten().filter_map(|path| path.parent());
            folders.extend(parents.map(|folder| match folder.as_os_str().is_empty() {
                true => Path::new(".").to_owned(),
                false => folder.to_owned(),
            }));
        });
        let notify = changed.clone();
        let watcher = recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| is_change(&event.kind)) {
                notify.notify_one();
            }
        })
        .and_then(|mut watcher| {
            for folder in &folders {
                watcher.watch(folder, RecursiveMode::NonRecursive)?;
            }
            Ok(watcher)
        });
        let watcher = watcher.map_err(|error| {
            tracing::warn!(
                error = %Escaped(&error),
                "the system does not report changed certificates, so they are compared every 60 s"
            );
        });
        Self {
            changed,
            _watcher: watcher.ok(),
        }
    }

    pub(super) async fn next(&self) {
        self.changed.notified().await;
    }
}

/// Reads, such as our own, are none.
const fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}
