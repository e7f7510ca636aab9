//! Notices changes of the configuration's files.

use crate::config::Config;
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
    recommended_watcher,
};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{sleep, timeout},
};

/// The file of a configuration, with those that it includes and its lists of networks.
pub(crate) struct ConfigWatch {
    file: PathBuf,
    /// The hash of the texts that were seen last.
    seen: Option<String>,
    changed: Arc<Notify>,
    /// The names of the files, without their folders.
    names: Arc<Mutex<BTreeSet<OsString>>>,
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
        let names = Arc::<Mutex<BTreeSet<OsString>>>::default();
        let (notify, known) = (changed.clone(), names.clone());
        let watcher = recommended_watcher(move |event: notify::Result<Event>| {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if event.is_ok_and(|event| is_change(&event, &known)) {
                notify.notify_one();
            }
        });
        let warn = |error: &notify::Error| {
            tracing::warn!(%error, "the system does not report changes, so files are compared every {POLL:?}");
        };
        let mut watch = Self {
            file: file.into(),
            seen: config.hash_with_lists.clone(),
            changed,
            names,
            // The files may have changed since they were read.
            is_reported: true,
            watcher: watcher.inspect_err(warn).ok(),
            folders: BTreeSet::new(),
        };
        watch.follow(&all_files(config));
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
            // Files are often written in several steps. In their folder, others may change all the time.
            sleep(DEBOUNCE).await;
            let settled =
                async { while timeout(DEBOUNCE, self.changed.notified()).await.is_ok() {} };
            let _ = timeout(LONGEST, settled).await;
            let file = self.file.clone();
            let read = spawn_blocking(move || Config::load(&file).0).await;
            self.is_reported = false;
            let Ok(config) = read else { continue };
            // While a file is replaced it may be missing.
            if config.files.is_empty() {
                continue;
            }
            self.follow(&all_files(&config));
            if config.hash_with_lists != self.seen {
                self.seen = config.hash_with_lists;
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
        let all: Vec<_> = files.iter().cloned().chain(targets).collect();
        let names = all.iter().filter_map(|file| file.file_name());
        let names = names.map(OsString::from).collect();
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        let folders: BTreeSet<_> = all.iter().filter_map(|file| folder_of(file)).collect();
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

fn all_files(config: &Config) -> Vec<PathBuf> {
    let files = config.files.iter().chain(&config.lists);
    files.cloned().collect()
}

fn folder_of(file: &Path) -> Option<PathBuf> {
    let folder = file.parent()?;
    Some(match folder.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => folder.to_owned(),
    })
}

/// Whether a file of these names, or a link to one, may have changed.
///
/// Reads, such as our own, are no changes, and neither are lines that are added to a log in the same folder. A file
/// or a link of any name that appears, moves or vanishes is one.
fn is_change(event: &Event, names: &BTreeSet<OsString>) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Modify(ModifyKind::Name(_)) => return true,
        EventKind::Modify(_) => {}
        EventKind::Access(_) => return false,
        _ => return true,
    }
    let is_known = |path: &PathBuf| path.file_name().is_some_and(|name| names.contains(name));
    event.paths.is_empty() || event.paths.iter().any(is_known)
}

/// Some file systems report nothing, and a folder of included files may be new.
const POLL: Duration = Duration::from_secs(10);
const DEBOUNCE: Duration = Duration::from_millis(200);
/// Longer than that, changes do not wait for a pause.
const LONGEST: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, DataChange, RenameMode};

    #[test]
    fn what_is_written_to_other_files_is_no_change() {
        let names = BTreeSet::from(["gate.toml".into()]);
        let counts = |kind, path: &str| {
            let event = Event::new(kind).add_path(path.into());
            is_change(&event, &names)
        };
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let modified = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        for kind in [written, modified] {
            assert!(counts(kind, "/etc/gate.toml"), "{kind:?}");
            assert!(!counts(kind, "/etc/access.log"), "{kind:?}");
        }
        let read = EventKind::Access(AccessKind::Read);
        assert!(!counts(read, "/etc/gate.toml"));
        let moved = EventKind::Modify(ModifyKind::Name(RenameMode::Any));
        for kind in [moved, EventKind::Create(CreateKind::Any)] {
            assert!(counts(kind, "/etc/..data"), "{kind:?}");
        }
        assert!(is_change(&Event::new(modified), &names));
    }
}
