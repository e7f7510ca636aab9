//! Which servers a pool has: a list, the addresses of names, or a stream of changes.

use super::{
    Server, ServerAddress, ServerKey,
    events::{self, InUse},
    jitter::{around, no_sooner_than},
    member::{Member, MemberState},
    meters::Meters,
    pool::{Members, Shared},
    resolve::{Answer, Found, Resolver},
    standing::ServerRequest,
    task::{Task, catch},
};
use futures_core::Stream;
use portcullis_middleware::{
    BoxError,
    internal::{Causes, Escaped},
};
use std::{
    collections::HashMap,
    error::Error,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{Arc, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};
use tower::discover::Change;

/// A server as it was given to the pool, and the servers that result from it.
pub(super) struct Configured {
    key: ServerKey,
    server: Server,
    /// Itself, or one for each address of its name; `None` until the name is resolved.
    servers: Option<Vec<Arc<Server>>>,
    found: Vec<Found>,
    /// Whether those are all that there are.
    is_complete: bool,
    /// Why the name was not resolved the last time.
    failure: Option<Arc<str>>,
    /// What was requested for it, or for servers at addresses of its name, which may vanish and return.
    requests: HashMap<ServerKey, ServerRequest>,
    /// Resolves the name.
    resolver: Option<Task>,
}

impl Configured {
    fn has(&self, key: &ServerKey) -> bool {
        let has_server = match &self.servers {
            Some(servers) => servers.iter().any(|server| server.key() == *key),
            None => key.is_at(&self.key),
        };
        self.key == *key || self.requests.contains_key(key) || has_server
    }

    /// Whether its name is still being resolved, also after the runtime in which that began.
    fn is_resolving(&self) -> bool {
        let resolver = self.resolver.as_ref();
        resolver.is_some_and(|task| !task.is_finished())
    }

    /// Why it has no server: its name was never resolved.
    fn unresolved(&self) -> Option<&Arc<str>> {
        let is_empty = self.servers.as_ref().is_some_and(Vec::is_empty);
        self.failure.as_ref().filter(|_| is_empty)
    }

    /// What was requested for one of its servers.
    fn requested(&self, key: &ServerKey) -> ServerRequest {
        let requests = &self.requests;
        let request = requests.get(key).or_else(|| requests.get(&self.key));
        request.copied().unwrap_or(ServerRequest::Auto)
    }
}

impl Shared {
    pub(super) fn configured(&self) -> MutexGuard<'_, Vec<Configured>> {
        self.configured
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The servers as they were given to the pool.
    #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
    pub(super) fn configured_servers(&self) -> Vec<Server> {
        let configured = self.configured();
        configured.iter().map(|each| each.server.clone()).collect()
    }

    /// Replaces all servers. Those that stay keep their state.
    pub(super) fn replace(self: &Arc<Self>, servers: Vec<Server>) {
        self.replace_in(&mut self.configured(), servers);
    }

    pub(super) fn replace_in(
        self: &Arc<Self>,
        configured: &mut Vec<Configured>,
        servers: Vec<Server>,
    ) {
        let mut names = servers.iter().filter(|server| server.address().is_name());
        let is_to_resolve = |server: &Server| {
            let name = (server.key(), server.address().clone());
            find(configured, &name).is_none_or(|known| !known.is_resolving())
        };
        if names.any(is_to_resolve) {
            // Outside of a runtime it panics here, before anything has changed.
            Handle::current();
        }
        let known = configured.drain(..).map(|each| (each.key.clone(), each));
        let mut known: HashMap<_, _> = known.collect();
        // Of several with one name, the last one is used in the place of the first.
        let (mut order, mut last) = (Vec::new(), HashMap::new());
        for server in servers {
            let key = server.key();
            if last.insert(key.clone(), server).is_none() {
                order.push(key);
            }
        }
        let servers = order.into_iter().filter_map(|key| last.remove_entry(&key));
        configured.extend(servers.map(|(key, server)| self.configure(server, known.remove(&key))));
        self.rebuild(configured);
    }

    /// Adds a server, or replaces one of the same name.
    fn insert(self: &Arc<Self>, server: Server) {
        let mut configured = self.configured();
        let key = server.key();
        let index = configured.iter().position(|each| each.key == key);
        let known = index.map(|index| configured.remove(index));
        let added = self.configure(server, known);
        let index = index.unwrap_or(configured.len());
        configured.insert(index, added);
        self.rebuild(&configured);
    }

    fn remove(self: &Arc<Self>, key: &ServerKey) {
        let mut configured = self.configured();
        configured.retain(|each| each.key != *key);
        self.rebuild(&configured);
    }

    /// Configures a server, of which `known` is what was configured before.
    fn configure(self: &Arc<Self>, server: Server, mut known: Option<Configured>) -> Configured {
        let key = server.key();
        let requests = known.as_mut();
        let requests = requests.map(|known| std::mem::take(&mut known.requests));
        // A name that stays keeps its addresses, and its resolver goes on.
        let known = known.filter(|known| known.server.address() == server.address());
        let is_name = server.address().is_name();
        let is_complete = known.as_ref().is_some_and(|known| known.is_complete);
        let failure = known.as_ref().and_then(|known| known.failure.clone());
        let resolve = || {
            // The resolver outlives reloads, so it must not keep the server with its TLS settings.
            let name = (key.clone(), server.address().clone());
            Task::spawn(follow(Arc::downgrade(self), name))
        };
        let (servers, found, resolver) = match known {
            _ if !is_name => (Some(vec![Arc::new(server.clone())]), Vec::new(), None),
            Some(known) => {
                let is_resolving = known.is_resolving();
                let is_resolved = known.servers.is_some();
                let servers = is_resolved.then(|| at_each(&server, &known.found, &[]));
                let resolver = known.resolver.filter(|_| is_resolving);
                let resolver = resolver.unwrap_or_else(resolve);
                (servers, known.found, Some(resolver))
            }
            None => (None, Vec::new(), Some(resolve())),
        };
        Configured {
            key,
            server,
            servers,
            found,
            is_complete,
            failure,
            requests: requests.unwrap_or_default(),
            resolver,
        }
    }

    /// Keeps what is requested for a server, or for all addresses of a name, and returns the members concerned.
    ///
    /// `None` if there is no such server.
    pub(super) fn note_request(
        &self,
        key: &ServerKey,
        request: ServerRequest,
    ) -> Option<Vec<Arc<Member>>> {
        let mut configured = self.configured();
        let known = configured.iter_mut().find(|known| known.has(key))?;
        if known.key == *key {
            known.requests.clear();
        }
        known.requests.insert(key.clone(), request);
        let mut members = self.members().to_vec();
        members.retain(|member| member.key == *key || member.server.resolved_name() == Some(key));
        for member in &members {
            member.state.standing.set_request(request, self.clock.now());
        }
        Some(members)
    }

    /// Forgets that a server is drained, or all addresses of a name. False if there is no such server.
    pub(super) fn undrain(&self, key: &ServerKey) -> bool {
        let drain = ServerRequest::Drain;
        let mut configured = self.configured();
        let Some(known) = configured.iter_mut().find(|known| known.has(key)) else {
            return false;
        };
        let is_name = known.key == *key;
        known
            .requests
            .retain(|each, request| *request != drain || !(is_name || each == key));
        if known.requested(key) == drain {
            // Its name is drained, and its other addresses stay so.
            known.requests.insert(key.clone(), ServerRequest::Auto);
        }
        for member in self.members().iter() {
            let is_meant = member.key == *key || member.server.resolved_name() == Some(key);
            let standing = &member.state.standing;
            if is_meant && standing.request() == drain {
                standing.set_request(known.requested(&member.key), self.clock.now());
            }
        }
        true
    }

    /// All that is requested. What is requested for a name comes before that for its addresses, which it replaces.
    pub(super) fn requests(&self) -> Vec<(ServerKey, ServerRequest)> {
        let mut requests = Vec::new();
        for known in self.configured().iter() {
            let own = known.requests.get(&known.key).copied();
            let own = own.filter(|request| *request != ServerRequest::Auto);
            requests.extend(own.map(|request| (known.key.clone(), request)));
            let others = known.requests.iter().filter(|it| *it.0 != known.key);
            requests.extend(others.map(|(key, request)| (key.clone(), *request)));
        }
        requests
    }

    /// A name has these addresses now, and others that are unknown unless `is_complete`. Returns whether they are used.
    fn resolved(self: &Arc<Self>, name: &Name, mut found: Vec<Found>, is_complete: bool) -> bool {
        // Name servers rotate them. Of an address that is listed twice, a primary server stays.
        found.sort_unstable();
        found.dedup_by_key(|found| found.address);
        let mut configured = self.configured();
        let Some(known) = find(&mut configured, name) else {
            return false;
        };
        // What is unknown now is not taken for removed.
        if known.is_complete && !is_complete {
            return false;
        }
        known.is_complete = is_complete;
        known.failure = None;
        if known.servers.is_some() && known.found == found {
            return true;
        }
        let before = known.servers.take().unwrap_or_default();
        known.servers = Some(at_each(&known.server, &found, &before));
        known.found = found;
        self.rebuild(&configured);
        true
    }

    /// A name could not be resolved. Returns whether it was before.
    fn unresolved(self: &Arc<Self>, name: &Name, error: &(dyn Error + 'static)) -> bool {
        let mut configured = self.configured();
        let Some(known) = find(&mut configured, name) else {
            return false;
        };
        known.failure = Some(Escaped(Causes(error)).to_string().into());
        if known.servers.is_none() {
            // Connects no longer wait for it.
            known.servers = Some(Vec::new());
            self.rebuild(&configured);
            return false;
        }
        known.servers.as_ref().is_some_and(|them| !them.is_empty())
    }

    /// Servers whose names were never resolved, with what was requested for them, and why there is no address.
    pub(super) fn never_resolved(&self) -> Vec<(Server, ServerRequest, Arc<str>)> {
        let configured = self.configured();
        let unresolved = configured.iter().filter_map(|each| {
            let error = each.unresolved()?.clone();
            Some((each.server.clone(), each.requested(&each.key), error))
        });
        unresolved.collect()
    }

    /// Makes the members from the configured servers.
    fn rebuild(self: &Arc<Self>, configured: &[Configured]) {
        // So that no check of an address that changes has a result in between.
        let judging = self.judging.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.members();
        let mut leaving = self.leaving();
        let mut known: HashMap<_, Arc<Member>> = leaving
            .iter()
            .map(|leaving| &leaving.member)
            .chain(before.iter())
            .map(|member| (member.key.clone(), member.clone()))
            .collect();
        let servers = configured.iter().flat_map(|each| {
            let servers = each.servers.iter().flatten();
            servers.map(move |server| (each, server))
        });
        let members: Members = servers
            .map(|(each, server)| {
                let key = server.key();
                let member = match known.remove(&key) {
                    Some(member) => self.keep(member, server),
                    None => {
                        // By the configured name, so that the number of series is bounded.
                        let meters = Meters::new(self.name(), each.key.as_str());
                        let state = MemberState::new(Arc::downgrade(self), meters);
                        Arc::new(Member::new(server.clone(), state))
                    }
                };
                let standing = &member.state.standing;
                standing.set_request(each.requested(&key), self.clock.now());
                member
            })
            .collect();
        // Those that have left before go on.
        leaving.retain(|leaving| known.remove(&leaving.member.key).is_some());
        drop(leaving);
        let is_pending = configured.iter().any(|each| each.servers.is_none());
        self.set_members(members.clone(), is_pending);
        drop(judging);
        // Now, so that a choice that meets one that is gone finds the others.
        let mut leaving = self.leaving();
        leaving.extend(known.into_values().filter_map(|gone| self.leave(gone)));
        drop(leaving);
        for member in members.iter() {
            self.start_checks(&member.state);
        }
        self.show_certificates();
    }

    /// Keeps the state of a server that may have changed.
    fn keep(&self, member: Arc<Member>, server: &Arc<Server>) -> Arc<Member> {
        member.state.set_closing(false);
        member.state.meters.set_hidden(false);
        if member.server.address() != server.address() {
            member.state.stop_checks();
            self.become_unknown(|_| member.state.start_again(self.clock.now()));
        }
        match Arc::ptr_eq(&member.server, server) {
            true => member,
            false => Arc::new(Member::new(server.clone(), member.state.clone())),
        }
    }

    /// Keeps a removed server until its connections have ended.
    fn leave(self: &Arc<Self>, member: Arc<Member>) -> Option<Leaving> {
        member.state.stop_checks();
        member.state.meters.set_hidden(true);
        if member.state.go() {
            events::drained(self, &member);
            return None;
        }
        let (pool, state) = (Arc::downgrade(self), Arc::downgrade(&member.state));
        let timer = self.settings().drain_timeout.and_then(|drain_timeout| {
            let close = async move {
                sleep(drain_timeout).await;
                if let Some((pool, state)) = pool.upgrade().zip(state.upgrade()) {
                    pool.close_removed(&state);
                }
            };
            Task::try_spawn(close)
        });
        Some(Leaving {
            member,
            _timer: timer,
        })
    }

    /// Closes the connections of a removed server, unless it has returned.
    fn close_removed(&self, state: &Arc<MemberState>) {
        let leaving = self.leaving();
        let is_this = |leaving: &Leaving| Arc::ptr_eq(&leaving.member.state, state);
        if leaving.iter().any(is_this) {
            state.set_closing(true);
            drop(leaving);
            state.close_all_because("its server was removed");
        }
    }
}

/// What is resolved: the name of a configured server and its address.
type Name = (ServerKey, ServerAddress);

/// The configured server of this name and address.
fn find<'a>(configured: &'a mut [Configured], (key, address): &Name) -> Option<&'a mut Configured> {
    let is_this = |each: &&mut Configured| each.key == *key && each.server.address() == address;
    configured.iter_mut().find(is_this)
}

/// A removed server that still has connections.
pub(super) struct Leaving {
    pub(super) member: Arc<Member>,
    /// Closes them in the end.
    _timer: Option<Task>,
}

/// The server at each address. Those of `before` that are the same are kept.
fn at_each(server: &Server, found: &[Found], before: &[Arc<Server>]) -> Vec<Arc<Server>> {
    let at = |found: &Found| {
        let server = server.at(found);
        let facts = |server: &Server| (server.weight(), server.is_backup());
        let known = before
            .iter()
            .find(|known| known.address() == server.address() && facts(known) == facts(&server));
        known.cloned().unwrap_or_else(|| Arc::new(server))
    };
    found.iter().map(at).collect()
}

/// Resolves a name again and again.
async fn follow(pool: Weak<Shared>, name: Name) {
    let mut is_failing = false;
    loop {
        let Some(shared) = pool.upgrade() else {
            return;
        };
        let resolver = Resolver {
            connector: shared.dialer.connector().clone(),
            #[cfg(feature = "dns")]
            dns: shared.settings().dns.clone(),
        };
        let interval_changed = shared.interval_changed.clone();
        let interval_changed = interval_changed.notified();
        let interval = shared.settings().resolve_interval;
        // The task must not keep the pool while it waits.
        drop(shared);
        let resolving = resolve(&resolver, &name.1);
        let answer: Result<_, BoxError> = match timeout(RESOLVE_TIMEOUT, resolving).await {
            Ok(Ok(answer)) if answer.found.is_empty() => Err(answer
                .failure
                .unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound).into())),
            Ok(answer) => answer,
            Err(elapsed) => Err(elapsed.into()),
        };
        let Some(shared) = pool.upgrade() else {
            return;
        };
        let mut in_use = InUse::Previous;
        let (failure, pause) = match answer {
            Ok(answer) => {
                if shared.resolved(&name, answer.found, answer.failure.is_none()) {
                    in_use = InUse::Known;
                }
                let pause = match answer.valid_for {
                    Some(time) => no_sooner_than(time.clamp(SHORTEST, LONGEST)),
                    None => around(interval),
                };
                (answer.failure, pause)
            }
            Err(error) => {
                if !shared.unresolved(&name, &*error) {
                    in_use = InUse::None;
                }
                (Some(error), RETRY)
            }
        };
        let pause = match failure {
            None => pause,
            Some(_) => around(interval.min(RETRY)).min(pause),
        };
        if let Some(error) = failure.as_ref().filter(|_| !is_failing) {
            events::unresolved(&shared, &name.0, &**error, in_use);
        }
        is_failing = failure.is_some();
        drop(shared);
        let _first = timeout(pause, interval_changed).await;
    }
}

/// A panic of a custom resolver is a failure.
async fn resolve(resolver: &Resolver, name: &ServerAddress) -> Result<Answer, BoxError> {
    catch(resolver.resolve(name)).await?
}

/// Applies the changes of a stream, which are those of tower's load balancers.
pub(super) async fn apply<S>(pool: Weak<Shared>, changes: S)
where
    S: Stream<Item = Result<Change<ServerKey, Server>, BoxError>>,
{
    let mut changes = pin!(changes);
    loop {
        let next = catch(next(changes.as_mut())).await;
        let Some(pool) = pool.upgrade() else {
            return;
        };
        match next {
            Ok(Some(Ok(Change::Insert(key, server)))) => pool.insert(server.with_name(key)),
            Ok(Some(Ok(Change::Remove(key)))) => pool.remove(&key),
            Ok(Some(Err(error))) => events::changes_failed(&pool, &*error),
            Ok(None) => break,
            Err(panicked) => {
                events::changes_failed(&pool, &panicked);
                break;
            }
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
/// The shortest time to live.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest time to live, as in other resolvers.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// After an answer that failed.
const RETRY: Duration = Duration::from_secs(5);
