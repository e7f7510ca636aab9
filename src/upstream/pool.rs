//! The pool, and what its connects and tasks share.

use super::{
    PoolBuilder, Server, ServerKey,
    balance::{Balancer, hash_of},
    builder::Settings,
    dial::Dialer,
    endpoints::{Configured, Leaving},
    events,
    member::{Member, MemberState, Now, Reservation},
    presented::Ends,
    queue::Queue,
    standing::{Clock, Health, ServerRequest},
    task::Task,
};
use portcullis_middleware::ConnectionInfo;
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::Notify;

/// Servers that connections are forwarded to; see the [module docs](super).
///
/// Clones share the servers, their state and their tasks. The tasks end when the last clone is dropped; connections
/// stay open.
#[derive(Clone)]
pub struct Pool(pub(super) Arc<Shared>);

impl Pool {
    /// A pool of these servers with the default of each setting, without health checks.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime if a server has a host name, which a task resolves repeatedly.
    pub fn new<S: Into<Server>>(servers: impl IntoIterator<Item = S>) -> Self {
        Self::builder().build(servers)
    }

    /// Starts with the default of each setting.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    /// Whether both are clones of one pool.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The name for logs, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.0.name()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name())
            .field("balance", &self.0.settings().balance)
            .field("servers", &self.0.members())
            .finish_non_exhaustive()
    }
}

/// The servers of a pool, in their order. It is replaced as a whole.
pub(super) type Members = Arc<[Arc<Member>]>;

pub(super) struct Shared {
    pub(super) name: Option<Arc<str>>,
    /// They are replaced as a whole.
    settings: RwLock<Arc<Settings>>,
    pub(super) dialer: Dialer,
    pub(super) clock: Clock,
    pub(super) configured: Mutex<Vec<Configured>>,
    /// Reads the stream of changes, if there is one.
    pub(super) changes: OnceLock<Task>,
    members: RwLock<Members>,
    /// Servers that were removed and still have connections.
    leaving: Mutex<Vec<Leaving>>,
    /// Whether servers are still to be found, for the first time.
    is_pending: AtomicBool,
    /// Whether another pool of the same name has taken over.
    pub(super) is_retired: AtomicBool,
    /// Whether servers are used before they are checked: until the first has passed a check, and while all are new.
    unchecked_is_up: AtomicBool,
    /// Whether a server has ever passed a check. Held while that is noted, so that the latest change counts.
    pub(super) had_up: Mutex<bool>,
    balancer: Balancer,
    /// Held while servers are ejected, so that the limit is exact.
    pub(super) ejecting: Mutex<()>,
    /// Held while the result of a check is used, so that it is none of a check that has been replaced.
    pub(super) judging: Mutex<()>,
    pub(super) queue: Queue,
    /// The ends of certificates in metrics.
    pub(super) ends: Ends,
    /// Names are resolved again when their interval changes.
    pub(super) interval_changed: Arc<Notify>,
}

impl Shared {
    pub(super) fn new(settings: Settings, dialer: Dialer) -> Arc<Self> {
        Arc::new(Self {
            clock: Clock::start(),
            configured: Mutex::default(),
            changes: OnceLock::new(),
            members: RwLock::default(),
            leaving: Mutex::default(),
            is_pending: AtomicBool::new(true),
            is_retired: AtomicBool::new(false),
            unchecked_is_up: AtomicBool::new(true),
            had_up: Mutex::new(false),
            balancer: Balancer::default(),
            ejecting: Mutex::new(()),
            judging: Mutex::new(()),
            queue: Queue::default(),
            ends: Ends::default(),
            interval_changed: Arc::default(),
            name: settings.name.clone(),
            settings: RwLock::new(Arc::new(settings)),
            dialer,
        })
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        let settings = self.settings.read();
        settings.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_settings(&self, settings: Settings) {
        let mut current = self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(settings);
    }

    pub(super) fn members(&self) -> Members {
        let members = self.members.read();
        members.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The servers, and whether names of others are still to be found; both at the same time.
    fn members_or_pending(&self) -> (Members, bool) {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        (members.clone(), self.is_pending.load(Ordering::Relaxed))
    }

    /// Removed servers that still have connections.
    pub(super) fn leaving(&self) -> MutexGuard<'_, Vec<Leaving>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self, settings: &Settings) -> Now {
        Now {
            millis: self.clock.now(),
            slow_start: settings.slow_start,
            balance: settings.balance,
        }
    }

    /// Reserves a connection to the best server now.
    pub(super) fn reserve(&self, wish: &Wish) -> Result<Reservation, Unavailable> {
        let ((members, is_pending), settings) = (self.members_or_pending(), self.settings());
        let now = self.now(&settings);
        let mut is_full = false;
        for tier in Tier::EACH {
            // Full servers are waited for, unless another one of their kind is only suspected.
            if is_full && tier != Tier::Failing {
                continue;
            }
            let is_usable = |member: &Member| {
                self.tier(member, wish, &settings, now) == Some(tier)
                    && !wish.tried.contains(&member.key)
            };
            let is_eligible = |member: &Member| is_usable(member) && !member.is_full();
            let reserved = self
                .balancer
                .reserve(&members, wish.client, now, is_eligible);
            if let Some(reserved) = reserved {
                return Ok(reserved);
            }
            is_full |= members.iter().any(|member| is_usable(member));
        }
        if is_full && members.iter().any(|member| member.state.is_gone()) {
            // The servers have been replaced meanwhile.
            return self.reserve(wish);
        }
        if is_full {
            return Err(Unavailable::Full);
        }
        match is_pending {
            true => Err(Unavailable::Pending),
            false => Err(Unavailable::NoneUsable),
        }
    }

    /// The servers of which one would be chosen now, without a choice that changes later ones.
    pub(super) fn candidates(&self, client: &ConnectionInfo) -> Vec<Arc<Member>> {
        let (members, settings) = (self.members(), self.settings());
        let (now, wish) = (self.now(&settings), Wish::new(client, &settings));
        let is_in = |member: &Member, tier| self.tier(member, &wish, &settings, now) == Some(tier);
        // Full servers are waited for, as in `reserve`.
        let mut tiers = Tier::EACH.into_iter();
        let first = tiers.find(|tier| members.iter().any(|member| is_in(member, *tier)));
        let Some(tier) = first else {
            return Vec::new();
        };
        let is_eligible = |member: &Member| is_in(member, tier) && !member.is_full();
        let candidates = self
            .balancer
            .candidates(&members, wish.client, now, is_eligible);
        candidates.into_iter().cloned().collect()
    }

    fn tier(&self, member: &Member, wish: &Wish, settings: &Settings, now: Now) -> Option<Tier> {
        let standing = &member.state.standing;
        if standing.request() != ServerRequest::Auto || member.server.weight() == 0 {
            return None;
        }
        let is_checked = settings.health.is_some();
        match standing.health() {
            Health::Unknown if is_checked && !self.unchecked_is_up.load(Ordering::Relaxed) => None,
            Health::Down => settings.try_all.then_some(Tier::Unhealthy),
            _ if standing.is_ejected(now.millis) => Some(Tier::Ejected),
            // The time and the attempts that are left are worth more at other servers.
            _ if !wish.tried.is_empty() && member.state.has_failed() => Some(Tier::Failing),
            _ if member.server.is_backup() => Some(Tier::Backup),
            _ => Some(Tier::Primary),
        }
    }

    /// Called after a connection was released and `left` others of the server remain.
    pub(super) fn released(&self, state: &MemberState, left: usize) {
        if left == 0 {
            self.last_released(state);
        }
        self.serve_queue();
    }

    /// Notes that a server that gets no new connections has lost its last one.
    fn last_released(&self, state: &MemberState) {
        let is_this = |member: &Member| std::ptr::eq(&*member.state, state);
        let mut leaving = self.leaving();
        let gone = leaving.iter().position(|leaving| is_this(&leaving.member));
        // Otherwise another connection has begun meanwhile, and is now the last one.
        let gone = gone.filter(|_| state.go());
        let gone = gone.map(|index| leaving.remove(index).member);
        drop(leaving);
        let is_draining = state.standing.request() == ServerRequest::Drain;
        let drained = || {
            self.members()
                .iter()
                .find(|member| is_this(member))
                .cloned()
        };
        if let Some(member) = gone.or_else(|| is_draining.then(drained).flatten()) {
            events::drained(self, &member);
        }
    }

    /// Replaces the list of servers.
    pub(super) fn set_members(&self, members: Members, is_pending: bool) {
        {
            let mut current = self.members.write().unwrap_or_else(PoisonError::into_inner);
            self.balancer.set_members(&members);
            *current = members;
            self.is_pending.store(is_pending, Ordering::Relaxed);
        }
        self.limit_ejections();
        self.standing_changed();
    }

    /// Forgets what is known of servers that become unknown.
    ///
    /// They are used until `standing_changed` decides about that, so that a connect between finds a server.
    pub(super) fn become_unknown(&self, forget: impl FnOnce(&mut bool)) {
        let mut had_up = self.had_up.lock().unwrap_or_else(PoisonError::into_inner);
        self.unchecked_is_up.store(true, Ordering::Relaxed);
        forget(&mut had_up);
    }

    /// Called after any change that may make a server usable.
    pub(super) fn standing_changed(&self) {
        let mut had_up = self.had_up.lock().unwrap_or_else(PoisonError::into_inner);
        let members = self.members();
        let has = |health| {
            members
                .iter()
                .any(|member| member.state.standing.health() == health)
        };
        *had_up |= has(Health::Up);
        let all_new = !has(Health::Up) && !has(Health::Down);
        self.unchecked_is_up
            .store(all_new || !*had_up, Ordering::Relaxed);
        drop(had_up);
        for member in members.iter() {
            self.show(&member.state);
        }
        self.serve_queue();
    }
}

/// What a connection needs.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// The hash of the client.
    client: u64,
    /// The servers that have failed.
    pub(super) tried: Vec<ServerKey>,
}

impl Wish {
    pub(super) fn new(client: &ConnectionInfo, settings: &Settings) -> Self {
        Self {
            client: hash_of(client, settings.balance),
            tried: Vec::new(),
        }
    }
}

/// Why no connection can be reserved now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unavailable {
    /// Each server that can be used has as many connections as allowed.
    Full,
    /// The first servers are still to be found.
    Pending,
    NoneUsable,
}

/// Servers of a tier are used while none of those before can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tier {
    Primary,
    Backup,
    /// Its last connect failed. It comes behind the others once a connect has failed elsewhere.
    Failing,
    /// An ejected server is better than none.
    Ejected,
    Unhealthy,
}

impl Tier {
    const EACH: [Self; 5] = [
        Self::Primary,
        Self::Backup,
        Self::Failing,
        Self::Ejected,
        Self::Unhealthy,
    ];
}
