//! Certificates for several host names, replaced while the server runs.
//!
//! A [`CertStore`] reads certificate chains and keys from PEM and selects one for each client by the requested
//! host name (SNI). [`reload`](CertStore::reload) reads all files again and replaces either everything or
//! nothing; [`watch`](CertStore::watch) replaces each certificate on its own when its files change. A [`TlsProfile`] turns a store into a
//! [`TlsLayer`](super::TlsLayer), with client certificates and tickets that are reloaded together with it. A
//! store is also a `ResolvesServerCert` for a custom rustls configuration.
//!
//! # Selection
//!
//! The certificate is selected by the DNS names that it contains: first by the exact name, then by a wildcard
//! for the first label (`*.example.org` serves `a.example.org`, neither `example.org` nor `a.b.example.org`),
//! then the [default](CertStoreBuilder::as_default). Case and a trailing dot are ignored. Clients that request
//! no name, as clients do that connect to an IP address, get the default. Without a default, the handshake
//! fails with [`UnrecognizedName`](super::UnrecognizedName).
//!
//! A name may have several certificates if their keys are of different types, such as ECDSA and RSA. A client gets the
//! first one that was added whose signatures it supports, so add the one for ECDSA first. The default is a single certificate.
//!
//! # Checks
//!
//! A certificate is served only if the chain parses, the key belongs to it, its own certificate is within its
//! validity, and no other certificate of the store contains the same name for a key of the same type. All problems are
//! reported together, each with its file. A reload with a problem changes nothing, with one exception: a certificate
//! that has expired while it was in use stays in use, so that it does not block the renewal of others.
//!
//! The watch is for renewals, where a certificate that is not usable must not block the others: it stays as it was, and
//! [`StoredCertificate::problem`] has the reason. Of a profile, each file of roots, revocation lists and ticket keys is
//! replaced on its own as well.
//!
//! Files that are written one after the other do not match for a moment. A reload that finds an unusable file
//! tries again three times within three seconds. A certificate that is not valid yet is an error as well, and
//! [`watch`](CertStore::watch) tries again when it becomes valid.
//!
//! The files are regular ones of at most 64 MiB, because a FIFO would block a reload and a device may have no end.
//!
//! A warning is logged if a certificate expires within 14 days, or within a third of its validity if that is
//! shorter, and if a revocation list is out of date; [`watch`](CertStore::watch) repeats it daily.
//!
//! # Cancellation and drop
//!
//! Dropping the future of a reload changes nothing. Connections keep the certificate of their handshake.
//!
//! # Limitations
//!
//! - OCSP responses come from a file. The store does not fetch them.
//!
//! # Performance
//!
//! A handshake takes one atomic load and one or two look-ups in a hash table. It waits for no reload.
//!
//! # Example
//!
//! Two names, client certificates, and files that are read again when they change:
//!
//! ```no_run
//! use portcullis_middleware::tls::{CertStore, ClientAuth, TlsProfile, Trust};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis_middleware::BoxError> {
//! let store = CertStore::builder()
//!     .pem_files("shop.pem", "shop.key")
//!     .pem_files("blog.pem", "blog.key")
//!     .build()?;
//! let tls = TlsProfile::new(&store)
//!     .with_client_auth(ClientAuth::Required(Trust::pem_file("ca.pem")))
//!     .with_alpn(["h2", "http/1.1"])
//!     .build()?;
//! let _watch = store.watch();
//! # drop(tls);
//! # Ok(())
//! # }
//! ```
//!
//! [`TlsProfile`]: super::TlsProfile

mod builder;
#[cfg(feature = "watch")]
mod changes;
mod error;
mod metrics;
mod ocsp;
mod snapshot;
mod source;
mod watch;

#[cfg(test)]
pub(super) use self::ocsp::{StapleFault, valid_until};
pub use self::{
    builder::CertStoreBuilder,
    error::{CertStoreError, CertStoreProblem},
    snapshot::StoredCertificate,
    watch::Watch,
};
pub(super) use self::{error::Fault, snapshot::Snapshot, source::Input};
pub use super::profile::StoredCrl;

use super::{
    profile::{Profile, ProfileState},
    rustls::{
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};
use arc_swap::ArcSwap;
use metrics::StoreMetrics;
use source::{Fingerprints, Source, fingerprints};
use std::{
    fmt,
    panic::resume_unwind,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{task::spawn_blocking, time::sleep};

/// Certificates by host name; see the [module docs](self). Clones are cheap and share the store.
#[derive(Clone)]
pub struct CertStore(Arc<Store>);

struct Store {
    sources: Vec<Source>,
    default: Option<usize>,
    /// For messages.
    used_by: Option<Arc<str>>,
    current: ArcSwap<Snapshot>,
    /// Configurations that contain the current certificates.
    profiles: Mutex<Vec<Weak<Profile>>>,
    /// How often the files have replaced what was in use.
    generation: AtomicU64,
    /// The contents of all files when they were last read, whether they were usable or not.
    read: Mutex<Fingerprints>,
    /// When the files are read again without a change, because a certificate in them is valid from then on.
    read_again: Mutex<Option<SystemTime>>,
    /// Changes with each profile that is added.
    #[cfg(feature = "watch")]
    profile_added: tokio::sync::watch::Sender<()>,
    /// Held during a reload.
    reloading: tokio::sync::Mutex<()>,
    metrics: StoreMetrics,
}

impl CertStore {
    /// Starts to list certificates.
    pub fn builder() -> CertStoreBuilder {
        CertStoreBuilder::default()
    }

    fn load(
        sources: Vec<Source>,
        default: Option<usize>,
        used_by: Option<Arc<str>>,
    ) -> Result<Self, CertStoreError> {
        let read = fingerprints(sources.iter().flat_map(Source::paths));
        let (snapshot, problems) = Snapshot::load(&sources, default, None, SystemTime::now());
        CertStoreError::of(problems)?;
        snapshot.warn_about_expiry();
        let metrics = StoreMetrics::new();
        metrics.show(&snapshot);
        Ok(Self(Arc::new(Store {
            sources,
            default,
            used_by,
            current: ArcSwap::from_pointee(snapshot),
            profiles: Mutex::default(),
            generation: AtomicU64::new(0),
            read: Mutex::new(read),
            read_again: Mutex::default(),
            #[cfg(feature = "watch")]
            profile_added: tokio::sync::watch::Sender::default(),
            reloading: tokio::sync::Mutex::default(),
            metrics,
        })))
    }

    /// Reads all files again, those of the [profiles](super::TlsProfile) of this store included, and replaces
    /// what they contain.
    ///
    /// A second reload waits for the first. The files are read on a thread for blocking tasks.
    ///
    /// # Errors
    ///
    /// [`CertStoreError`] with all problems. Everything stays as it was. If a file was unusable, it has been
    /// tried again three times, one second apart.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn reload(&self) -> Result<Reloaded, CertStoreError> {
        let _reloading = self.0.reloading.lock().await;
        let mut retries = RETRIES;
        loop {
            let store = self.clone();
            let staged =
                spawn_blocking(move || (store.fingerprints(), store.stage(SystemTime::now())))
                    .await;
            let (read, staged) = staged.unwrap_or_else(|error| resume_unwind(error.into_panic()));
            match staged {
                Ok(staged) => {
                    self.was_read(read, None);
                    if let Some(reloaded) = self.install(staged) {
                        return Ok(reloaded);
                    }
                }
                Err(error) if retries > 0 && error.may_pass() => {
                    retries -= 1;
                    sleep(RETRY_AFTER).await;
                }
                Err(error) => {
                    // Not before: if this future is dropped, the watch has to find the change again.
                    self.was_read(read, error.valid_from());
                    self.0.metrics.failed.increment();
                    return Err(error);
                }
            }
        }
    }

    /// The certificates in use, in the order in which they were listed.
    pub fn certificates(&self) -> Vec<StoredCertificate> {
        self.snapshot().certificates()
    }

    /// Number of reloads that have succeeded. It changes once the new files are in use, so that open connections can
    /// be [verified again](super::TlsLayer::verify_again).
    pub fn reloads(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// The revocation lists in use, of the [profiles](super::TlsProfile) of this store.
    pub fn crls(&self) -> Vec<StoredCrl> {
        let profiles = self.live_profiles();
        profiles.iter().flat_map(|profile| profile.crls()).collect()
    }

    /// Why trusted roots, revocation lists and ticket keys could not be read again, if [`watch`](Self::watch) has found
    /// that. What was read before stays in use. Those of certificates are in [`StoredCertificate::problem`].
    pub fn problems(&self) -> Vec<Arc<str>> {
        let profiles = self.live_profiles();
        let problems = profiles.iter().flat_map(|profile| profile.problems());
        problems.collect()
    }

    /// Logs certificates that expire soon, and revocation lists that are out of date.
    fn warn(&self) {
        self.snapshot().warn_about_expiry();
        let now = SystemTime::now();
        self.crls().iter().for_each(|crl| crl.warn(now));
    }

    /// The certificate that a client gets that requests `name`, or none; see the [module docs](self#selection).
    pub fn certificate_for(&self, name: Option<&str>) -> Option<StoredCertificate> {
        self.snapshot().certificate_for(name)
    }

    /// Reloads in the background when a file changes, until the returned value is dropped.
    ///
    /// Each certificate is replaced on its own. One whose files cannot be used stays as it was, which is logged as an
    /// error with its [name](CertStoreBuilder::named) and its file. The reason stays known as long as nothing usable
    /// replaces it ([`StoredCertificate::problem`], [`problems`](Self::problems)).
    ///
    /// The files are compared every 60 s. With the feature `watch`, the operating system also reports changes in
    /// their folders, those of profiles that are built later included. The reload follows one second later, so that it
    /// finds related files complete. A certificate that is not valid yet is loaded within 60 s of its time.
    /// The result is logged.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn watch(&self) -> Watch {
        Watch::start(self.clone())
    }

    /// Whether both are clones of one store.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether both read the same files.
    pub(super) fn has_sources_of(&self, other: &Self) -> bool {
        self.0.sources == other.0.sources && self.0.default == other.0.default
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.0.current.load_full()
    }

    /// Adds a profile that contains the current certificates.
    pub(super) fn attach(&self, profile: &Arc<Profile>) -> Result<(), CertStoreError> {
        let mut profiles = self.profiles();
        let read = fingerprints(profile.paths());
        let (state, problems) = profile.prepare(&self.snapshot());
        CertStoreError::of(problems)?;
        profile.install(state);
        profiles.retain(|profile| profile.strong_count() > 0);
        profiles.push(Arc::downgrade(profile));
        self.last_read().extend(read);
        #[cfg(feature = "watch")]
        self.0.profile_added.send_replace(());
        Ok(())
    }

    /// Reads everything, without a change to what is in use.
    pub(super) fn stage(&self, now: SystemTime) -> Result<Staged, CertStoreError> {
        let profiles = self.live_profiles();
        let before = self.snapshot();
        let (snapshot, mut problems) =
            Snapshot::load(&self.0.sources, self.0.default, Some(&before), now);
        let snapshot = Arc::new(snapshot);
        let mut states = Vec::new();
        for profile in profiles {
            let (state, more) = profile.prepare(&snapshot);
            problems.extend(more);
            states.push((profile, state));
        }
        CertStoreError::of(problems)?;
        Ok(Staged {
            snapshot,
            states,
            is_whole: true,
        })
    }

    /// Replaces everything; `None` if a profile was added after `staged` was read.
    pub(super) fn install(&self, staged: Staged) -> Option<Reloaded> {
        let profiles = self.profiles();
        let mut live = profiles.iter().filter_map(Weak::upgrade);
        let is_staged =
            |live: &Arc<Profile>| staged.states.iter().any(|(old, _)| Arc::ptr_eq(old, live));
        if !live.all(|profile| is_staged(&profile)) {
            return None;
        }
        let reloaded = Reloaded {
            replaced: staged.snapshot.changes(&self.snapshot()),
        };
        staged.snapshot.warn_about_expiry();
        self.0.metrics.show(&staged.snapshot);
        if staged.is_whole || reloaded.replaced > 0 {
            self.0.metrics.reloaded.increment();
        }
        self.0.current.store(staged.snapshot);
        for (profile, state) in staged.states {
            profile.install(state);
        }
        self.0.generation.fetch_add(1, Ordering::Release);
        Some(reloaded)
    }

    /// Replaces what can be used, after a reload that has failed. Everything else stays, and is returned with the reason.
    pub(super) async fn renew(&self) -> (Reloaded, Vec<Kept>) {
        let _reloading = self.0.reloading.lock().await;
        loop {
            let store = self.clone();
            let staged = spawn_blocking(move || store.stage_each(SystemTime::now())).await;
            let (staged, kept) = staged.unwrap_or_else(|error| resume_unwind(error.into_panic()));
            if let Some(reloaded) = self.install(staged) {
                return (reloaded, kept);
            }
        }
    }

    /// Reads everything, and takes what was before in place of what cannot be used.
    fn stage_each(&self, now: SystemTime) -> (Staged, Vec<Kept>) {
        let profiles = self.live_profiles();
        let before = self.snapshot();
        let (snapshot, problems) = Snapshot::renew(&self.0.sources, self.0.default, &before, now);
        let of_certificate = |(number, problem): (usize, _)| {
            let source = &self.0.sources[number];
            Kept {
                name: source.name.clone(),
                files: source.paths().map(Into::into).collect(),
                problem,
            }
        };
        let mut kept: Vec<_> = problems.into_iter().map(of_certificate).collect();
        let snapshot = Arc::new(snapshot);
        let mut states = Vec::new();
        for profile in profiles {
            let (state, problems) = profile.renew(&snapshot);
            kept.extend(problems.into_iter().map(|problem| Kept {
                name: None,
                files: problem.path().map(Into::into).into_iter().collect(),
                problem,
            }));
            states.push((profile, state));
        }
        let staged = Staged {
            snapshot,
            states,
            is_whole: kept.is_empty(),
        };
        (staged, kept)
    }

    fn was_read(&self, read: Fingerprints, read_again: Option<SystemTime>) {
        *self.last_read() = read;
        *self.read_again() = read_again;
    }

    /// Whether a file has changed since it was last read, or a certificate has become valid.
    #[cfg(test)]
    pub(in crate::tls) fn has_changed(&self, now: SystemTime) -> bool {
        self.changed(now).is_some()
    }

    /// The files that have changed since they were last read, none of them if a certificate has become valid; `None` if
    /// there is no reason to read them again.
    fn changed(&self, now: SystemTime) -> Option<Vec<PathBuf>> {
        let is_due = self.read_again().is_some_and(|at| at <= now);
        let mut files = self.fingerprints();
        let read = self.last_read();
        files.retain(|path, contents| read.get(path) != Some(contents));
        (is_due || !files.is_empty()).then(|| files.into_keys().collect())
    }

    fn last_read(&self) -> MutexGuard<'_, Fingerprints> {
        self.0.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_again(&self) -> MutexGuard<'_, Option<SystemTime>> {
        let read_again = self.0.read_again.lock();
        read_again.unwrap_or_else(PoisonError::into_inner)
    }

    fn fingerprints(&self) -> Fingerprints {
        let mut all = fingerprints(self.0.sources.iter().flat_map(Source::paths));
        for profile in self.live_profiles() {
            all.extend(fingerprints(profile.paths()));
        }
        all
    }

    fn live_profiles(&self) -> Vec<Arc<Profile>> {
        self.profiles().iter().filter_map(Weak::upgrade).collect()
    }

    fn profiles(&self) -> MutexGuard<'_, Vec<Weak<Profile>>> {
        let profiles = self.0.profiles.lock();
        profiles.unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `each` with the path of each file.
    #[cfg(feature = "watch")]
    fn each_path(&self, mut each: impl FnMut(&std::path::Path)) {
        self.0
            .sources
            .iter()
            .flat_map(Source::paths)
            .for_each(&mut each);
        for profile in self.live_profiles() {
            profile.paths().for_each(&mut each);
        }
    }
}

impl ResolvesServerCert for CertStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.current.load().resolve(&hello)
    }
}

impl fmt::Debug for CertStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without keys.
        f.debug_struct("CertStore")
            .field("certificates", &self.0.sources.len())
            .finish_non_exhaustive()
    }
}

/// What a reload has read, for a store and its profiles.
pub(super) struct Staged {
    snapshot: Arc<Snapshot>,
    states: Vec<(Arc<Profile>, Option<ProfileState>)>,
    /// Whether nothing stays in place of what could not be used.
    is_whole: bool,
}

/// What a renewal could not replace.
pub(super) struct Kept {
    /// That of the certificate; `None` without one, and for files of a profile.
    name: Option<Arc<str>>,
    /// Those whose contents are not in use.
    files: Vec<PathBuf>,
    problem: CertStoreProblem,
}

/// The result of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// Number of certificates that differ from those before.
    pub replaced: usize,
}

const RETRIES: u32 = 3;
const RETRY_AFTER: Duration = Duration::from_secs(1);
