//! Reports of the operating system that files have changed.

use super::CertStore;
use crate::log_text::Escaped;
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
    recommended_watcher,
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::{Notify, watch};

/// Reports of the operating system about the folders of the files.
pub(super) struct Changes {
    changed: Arc<Notify>,
    profile_added: watch::Receiver<()>,
    /// Stops with its drop. `None` if the system offers no reports.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

impl Changes {
    pub(super) fn new(store: &CertStore) -> Self {
        let changed = Arc::new(Notify::new());
        let notify = changed.clone();
        let watcher = recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| is_change(&event.kind)) {
                notify.notify_one();
            }
        });
        Self {
            changed,
            profile_added: store.0.profile_added.subscribe(),
            watcher: watcher.map_err(|error| warn(&error)).ok(),
            folders: BTreeSet::new(),
        }
    }

    /// Watches the folders that the files are in now.
    pub(super) fn follow(&mut self, store: &CertStore) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let folders = folders(store);
        for gone in self.folders.difference(&folders) {
            // It may have been removed, which ends the watch as well.
            let _ = watcher.unwatch(gone);
        }
        let mut watch = |folder: &PathBuf| {
            let watched = watcher.watch(folder, RecursiveMode::NonRecursive);
            watched.map_err(|error| warn(&error)).is_ok()
        };
        // A folder that cannot be watched now may appear later, so it is tried again.
        let is_watched = |folder: &PathBuf| self.folders.contains(folder) || watch(folder);
        self.folders = folders.into_iter().filter(is_watched).collect();
    }

    /// Waits for a change of a folder, or of the set of folders.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            () = self.changed.notified() => {}
            // The store is alive, because the watch holds it.
            _ = self.profile_added.changed() => {}
        }
    }
}

/// Folders and not files, because a renewal replaces the files, or a symbolic link beside them (`..data` in
/// Kubernetes).
fn folders(store: &CertStore) -> BTreeSet<PathBuf> {
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
    folders
}

fn warn(error: &notify::Error) {
    tracing::warn!(
        error = %Escaped(error),
        "the system does not report changed certificates, so they are compared every 60 s"
    );
}

/// Reads, such as our own, are none.
const fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}
