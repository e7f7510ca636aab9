//! Notices changes of the configuration's files.

use crate::config::Config;
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::AccessKind,
    event::AccessMode, recommended_watcher,
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{sleep, timeout},
};

/// The file of a configuration, with those that it includes.
pub(crate) struct ConfigWatch {
    file: PathBuf,
    /// The hash of the texts that were seen last.
    seen: Option<String>,
    changed: Arc<Notify>,
    /// Whether something was reported that was not looked at.
    is_reported: bool,
    /// `None` if the system offers no reports.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

impl ConfigWatch {
    /// Watches `file`, which was read as `config`.
    pub(crate) fn new(file: &Path, config: &Config) -> Self {
        let changed = Arc::new(Notify::new());
        let notify = changed.clone();
        let watcher = recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| is_change(event.kind)) {
                notify.notify_one();
            }
        });
        let warn = |error: &notify::Error| {
            tracing::warn!(%error, "the system does not report changes, so files are compared every {POLL:?}");
        };
        let mut watch = Self {
            file: file.into(),
            seen: config.hash.clone(),
            changed,
            // The files may have changed since they were read.
            is_reported: true,
            watcher: watcher.inspect_err(warn).ok(),
            folders: BTreeSet::new(),
        };
        watch.follow(&config.files);
        watch
    }

    /// Resolves when the text of the files has changed.
    ///
    /// # Cancel safety
    ///
    /// A change that was reported is looked at by the next call.
    pub(crate) async fn changed(&mut self) {
        loop {
            if !self.is_reported {
                let _ = timeout(POLL, self.changed.notified()).await;
                self.is_reported = true;
            }
            // Files are often written in several steps.
            sleep(DEBOUNCE).await;
            while timeout(DEBOUNCE, self.changed.notified()).await.is_ok() {}
            let file = self.file.clone();
            let read = spawn_blocking(move || Config::load(&file).0).await;
            self.is_reported = false;
            let Ok(config) = read else { continue };
            // While a file is replaced it may be missing.
            if config.files.is_empty() {
                continue;
            }
            self.follow(&config.files);
            if config.hash != self.seen {
                self.seen = config.hash;
                return;
            }
        }
    }

    /// Watches the folders that the files are in now, and those that links lead to.
    ///
    /// Folders and not files, because editors replace files, and Kubernetes a symbolic link beside them (`..data`).
    fn follow(&mut self, files: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let targets = files.iter().filter_map(|file| file.canonicalize().ok());
        let all = files.iter().cloned().chain(targets);
        let folders: BTreeSet<_> = all.filter_map(|file| folder_of(&file)).collect();
        for gone in self.folders.difference(&folders) {
            // It may have been removed, which ends the watch as well.
            let _ = watcher.unwatch(gone);
        }
        let mut watch = |folder: &PathBuf| {
            let watched = watcher.watch(folder, RecursiveMode::NonRecursive);
            watched.is_ok()
        };
        // One that cannot be watched now is tried again.
        let is_watched = |folder: &PathBuf| self.folders.contains(folder) || watch(folder);
        self.folders = folders.into_iter().filter(is_watched).collect();
    }
}

fn folder_of(file: &Path) -> Option<PathBuf> {
    let folder = file.parent()?;
    Some(match folder.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => folder.to_owned(),
    })
}

/// Reads, such as our own, are none.
const fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

/// Some file systems report nothing, and a folder of included files may be new.
const POLL: Duration = Duration::from_secs(10);
const DEBOUNCE: Duration = Duration::from_millis(200);
