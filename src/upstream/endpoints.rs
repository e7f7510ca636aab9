//! Which servers a pool has: a list, the addresses of names, or a stream of changes.

use super::{
    Server, ServerKey, events,
    jitter::around,
    member::{Member, MemberState},
    pool::{Members, Shared},
    task::Task,
};
use futures_core::Stream;
use portcullis_middleware::BoxError;
use std::{
    collections::HashMap,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::time::{sleep, timeout};
use tower::discover::Change;

/// A server as it was given to the pool, and the servers that result from it.
pub(super) struct Configured {
    key: ServerKey,
    server: Server,
    /// Itself, or one for each address of its name; `None` until the name is resolved.
    servers: Option<Vec<Arc<Server>>>,
    addresses: Vec<SocketAddr>,
    /// Resolves the name.
    _resolver: Option<Task>,
}

impl Shared {
    fn configured(&self) -> MutexGuard<'_, Vec<Configured>> {
        self.configured
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces all servers. Those that stay keep their state.
    pub(super) fn replace(self: &Arc<Self>, servers: impl IntoIterator<Item = Server>) {
        let mut configured = self.configured();
        let mut before = std::mem::take(&mut *configured);
        for server in servers {
            self.configure(&mut configured, &mut before, server);
        }
        self.rebuild(&configured);
    }

    /// Adds a server, or replaces one of the same name.
    fn insert(self: &Arc<Self>, server: Server) {
        let mut configured = self.configured();
        self.configure(&mut configured, &mut [], server);
        self.rebuild(&configured);
    }

    fn remove(self: &Arc<Self>, key: &ServerKey) {
        let mut configured = self.configured();
        configured.retain(|each| each.key != *key);
        self.rebuild(&configured);
    }

    fn configure(
        self: &Arc<Self>,
        configured: &mut Vec<Configured>,
        before: &mut [Configured],
        server: Server,
    ) {
        let key = server.key();
        let same = |each: &Configured| each.key == key;
        let index = configured.iter().position(same);
        let known = match index {
            Some(index) => Some(&mut configured[index]),
            None => before.iter_mut().find(|each| same(each)),
        };
        // A name keeps its addresses until it is resolved again.
        let addresses = known.map(|known| std::mem::take(&mut known.addresses));
        let is_name = server.address().unresolved().is_some();
        let addresses = addresses.filter(|found| is_name && !found.is_empty());
        let servers = match (&addresses, is_name) {
            (_, false) => Some(vec![Arc::new(server.clone())]),
            (Some(found), true) => Some(at_each(&server, found, &[])),
            (None, true) => None,
        };
        let resolver = is_name.then(|| Task::spawn(follow(Arc::downgrade(self), server.clone())));
        let added = Configured {
            key,
            server,
            servers,
            addresses: addresses.unwrap_or_default(),
            _resolver: resolver,
        };
        match index {
            Some(index) => configured[index] = added,
            None => configured.push(added),
        }
    }

    /// The name `key` has these addresses now.
    fn resolved(self: &Arc<Self>, key: &ServerKey, mut addresses: Vec<SocketAddr>) {
        // Name servers rotate them.
        addresses.sort_unstable();
        addresses.dedup();
        let mut configured = self.configured();
        let Some(known) = configured.iter_mut().find(|each| each.key == *key) else {
            return;
        };
        if known.servers.is_some() && known.addresses == addresses {
            return;
        }
        let before = known.servers.take().unwrap_or_default();
        known.servers = Some(at_each(&known.server, &addresses, &before));
        known.addresses = addresses;
        self.rebuild(&configured);
    }

    /// The name `key` could not be resolved.
    fn unresolved(self: &Arc<Self>, key: &ServerKey) {
        let mut configured = self.configured();
        if let Some(known) = configured.iter_mut().find(|each| each.key == *key)
            && known.servers.is_none()
        {
            // Connects no longer wait for it.
            known.servers = Some(Vec::new());
            self.rebuild(&configured);
        }
    }

    /// Makes the members from the configured servers.
    fn rebuild(self: &Arc<Self>, configured: &[Configured]) {
        let before = self.members();
        let mut leaving = self.leaving();
        let mut known: HashMap<_, Arc<Member>> = leaving
            .drain(..)
            .map(|leaving| leaving.member)
            .chain(before.iter().cloned())
            .map(|member| (member.key.clone(), member))
            .collect();
        let servers = configured.iter().filter_map(|each| each.servers.as_ref());
        let members: Members = servers
            .flatten()
            .map(|server| match known.remove(&server.key()) {
                Some(member) if Arc::ptr_eq(&member.server, server) => member,
                Some(member) => {
                    member.stop_checks();
                    self.member(server, member.state.clone())
                }
                None => self.member(server, MemberState::new(Arc::downgrade(self))),
            })
            .collect();
        leaving.extend(known.into_values().filter_map(|gone| self.leave(gone)));
        drop(leaving);
        let is_pending = configured.iter().any(|each| each.servers.is_none());
        self.set_members(members, is_pending);
    }

    /// Keeps a removed server until its connections have ended.
    fn leave(&self, member: Arc<Member>) -> Option<Leaving> {
        member.stop_checks();
        if member.state.count() == 0 {
            events::drained(self, &member);
            return None;
        }
        let state = Arc::downgrade(&member.state);
        let timer = self.settings.drain_timeout.and_then(|drain_timeout| {
            let close = async move {
                sleep(drain_timeout).await;
                if let Some(state) = state.upgrade() {
                    state.close_all();
                }
            };
            Task::try_spawn(close)
        });
        Some(Leaving {
            member,
            _timer: timer,
        })
    }

    fn member(self: &Arc<Self>, server: &Arc<Server>, state: Arc<MemberState>) -> Arc<Member> {
        let member = Arc::new(Member::new(server.clone(), state));
        self.start_checks(&member);
        member
    }
}

/// A removed server that still has connections.
pub(super) struct Leaving {
    pub(super) member: Arc<Member>,
    /// Closes them in the end.
    _timer: Option<Task>,
}

/// The server at each address. Those of `before` with the same address are kept.
fn at_each(server: &Server, addresses: &[SocketAddr], before: &[Arc<Server>]) -> Vec<Arc<Server>> {
    let at = |address: &SocketAddr| {
        let server = server.at(*address);
        let known = before
            .iter()
            .find(|known| known.address() == server.address());
        known.cloned().unwrap_or_else(|| Arc::new(server))
    };
    addresses.iter().map(at).collect()
}

/// Resolves the name of `server` again and again.
async fn follow(pool: Weak<Shared>, server: Server) {
    let key = server.key();
    let Some(target) = server.address().unresolved() else {
        return;
    };
    let mut is_failing = false;
    loop {
        let Some(shared) = pool.upgrade() else {
            return;
        };
        let (connector, interval) = (
            shared.dialer.connector().clone(),
            shared.settings.resolve_interval,
        );
        // The task must not keep the pool while it waits.
        drop(shared);
        let found = match timeout(RESOLVE_TIMEOUT, connector.resolve(target)).await {
            Ok(Ok(found)) if found.is_empty() => {
                Err(io::Error::from(io::ErrorKind::NotFound).into())
            }
            Ok(found) => found.map_err(BoxError::from),
            Err(elapsed) => Err(elapsed.into()),
        };
        let Some(shared) = pool.upgrade() else {
            return;
        };
        let failed = match found {
            Ok(addresses) => {
                shared.resolved(&key, addresses);
                None
            }
            Err(error) => Some(error),
        };
        if let Some(error) = &failed {
            shared.unresolved(&key);
            if !is_failing {
                events::unresolved(&shared, &key, &**error);
            }
        }
        is_failing = failed.is_some();
        let pause = if is_failing {
            interval.min(RETRY)
        } else {
            interval
        };
        drop((shared, failed));
        sleep(around(pause)).await;
    }
}

/// Applies the changes of a stream, which are those of tower's load balancers.
pub(super) async fn apply<S>(pool: Weak<Shared>, changes: S)
where
    S: Stream<Item = Result<Change<ServerKey, Server>, BoxError>>,
{
    let mut changes = pin!(changes);
    while let Some(change) = next(changes.as_mut()).await {
        let Some(pool) = pool.upgrade() else {
            return;
        };
        match change {
            Ok(Change::Insert(key, server)) => pool.insert(server.with_name(key)),
            Ok(Change::Remove(key)) => pool.remove(&key),
            Err(error) => events::changes_failed(&pool, &*error),
        }
    }
    if let Some(pool) = pool.upgrade() {
        // Connects no longer wait for the first server.
        pool.rebuild(&pool.configured());
    }
}

async fn next<S: Stream>(mut stream: Pin<&mut S>) -> Option<S::Item> {
    poll_fn(|cx| stream.as_mut().poll_next(cx)).await
}

/// For one answer of the resolver.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// After an answer that failed.
const RETRY: Duration = Duration::from_secs(5);
