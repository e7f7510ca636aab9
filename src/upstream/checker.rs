//! Checks the servers of a pool again and again.

use super::{
    CheckReport, HealthCheck, OnDown, Server, events,
    jitter::around,
    local::is_local,
    member::{Member, MemberState},
    pool::Shared,
    probe::{self, Found},
    standing::{Health, ServerRequest},
    task::{Task, catch},
};
use crate::connect::phase;
use portcullis_middleware::{
    BoxError,
    error::Elapsed,
    internal::{Causes, Escaped},
};
use std::{
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};

/// The results of a server's checks.
#[derive(Debug, Default)]
pub(super) struct Checks(Mutex<Results>);

#[derive(Debug, Default)]
struct Results {
    /// The last results that are equal, and what they are.
    in_a_row: u32,
    passed: bool,
    last: Option<LastCheck>,
    /// Whether a check has ever passed, or was replaced by another one.
    has_started: bool,
    /// When it was logged that the certificate expires soon.
    warned: Option<Instant>,
}

#[derive(Clone, Debug)]
struct LastCheck {
    passed: bool,
    text: String,
    took: Duration,
    ended: Instant,
}

impl Checks {
    pub(super) fn last(&self) -> Option<CheckReport> {
        let results = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = results.last.as_ref()?;
        Some(CheckReport {
            passed: last.passed,
            text: last.text.clone(),
            took: last.took,
            age: last.ended.elapsed(),
        })
    }

    /// The last results that are equal: how many, and whether they passed.
    pub(super) fn in_a_row(&self) -> (u32, bool) {
        let results = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (results.in_a_row, results.passed)
    }

    /// How long to wait for the next check.
    ///
    /// A server that has never passed one may just have been started, so the first pauses are short.
    fn pause(&self, interval: Duration) -> Duration {
        let results = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if results.has_started {
            return interval;
        }
        let doubled = results.in_a_row.saturating_sub(1);
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doubled));
        pause.min(interval)
    }

    /// Whether a certificate that expires soon has to be logged now.
    fn is_due_to_warn(&self) -> bool {
        let mut results = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = results
            .warned
            .is_none_or(|at| at.elapsed() >= WARN_AGAIN_AFTER);
        if is_due {
            results.warned = Some(Instant::now());
        }
        is_due
    }

    /// Forgets the results.
    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Results::default();
    }

    /// Counts anew, because the next results are those of another check.
    pub(super) fn count_anew(&self) {
        let mut results = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        results.in_a_row = 0;
        results.has_started = true;
    }

    /// Reports a check that says nothing about the server.
    fn note(&self, check: LastCheck) {
        let mut results = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        results.last = Some(check);
    }

    /// Adds a result. Returns how many there are like it, and whether it is the first one that passed.
    fn add(&self, check: LastCheck) -> (u32, bool) {
        let mut results = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = if results.passed == check.passed {
            results.in_a_row
        } else {
            0
        };
        results.in_a_row = before.saturating_add(1);
        results.passed = check.passed;
        let is_first = check.passed && !results.has_started;
        results.has_started |= check.passed;
        results.last = Some(check);
        (results.in_a_row, is_first)
    }
}

impl Shared {
    /// Begins to check a server, if servers are checked and it is not checked already.
    pub(super) fn start_checks(self: &Arc<Self>, state: &Arc<MemberState>) {
        if self.is_checking() {
            let (pool, weak) = (Arc::downgrade(self), Arc::downgrade(state));
            state.check_by(|| Task::spawn(check_repeatedly(pool, weak)));
        }
    }

    /// Whether servers are checked. Those of a pool that is no longer used are if a check may close connections.
    pub(super) fn is_checking(&self) -> bool {
        let is_used = !self.is_retired.load(Ordering::SeqCst);
        self.settings().health.is_some() && (is_used || self.closes_on_down())
    }

    /// The server as it is configured now.
    pub(super) fn member_of(&self, state: &MemberState) -> Option<Arc<Member>> {
        let is_this = |member: &&Arc<Member>| std::ptr::eq(&*member.state, state);
        self.members().iter().find(is_this).cloned()
    }

    fn checked(
        &self,
        check: &Arc<HealthCheck>,
        state: &MemberState,
        server: &Server,
        result: Result<Found, BoxError>,
        begun: Instant,
    ) {
        let _one = self.judging.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.settings().health.clone();
        if !current.is_some_and(|current| Arc::ptr_eq(&current, check)) {
            return;
        }
        let Some(member) = &self.member_of(state) else {
            return;
        };
        if member.server.address() != server.address() {
            return;
        }
        let is_local = result
            .as_ref()
            .is_err_and(|error| is_local(error, &member.state));
        let (passed, text) = match result {
            Ok(found) => {
                member.state.set_reached();
                // At another port, it may be the certificate of another program.
                if check.port.is_none() || !has_tls(&member.server) {
                    self.presented(member, &found.info);
                }
                if let Some(left) = found.expires_in
                    && member.state.checks.is_due_to_warn()
                {
                    events::certificate_expires(self, member, left);
                }
                (true, found.text)
            }
            Err(error) => (false, Escaped(Causes(&*error)).to_string()),
        };
        let ended = Instant::now();
        let last = LastCheck {
            passed,
            text: text.clone(),
            took: ended - begun,
            ended,
        };
        if is_local {
            member.state.checks.note(last);
            return;
        }
        let (in_a_row, is_first) = member.state.checks.add(last);
        let standing = &member.state.standing;
        let (before, is_known) = (standing.health(), standing.health() != Health::Unknown);
        let changes = match (before, passed) {
            (Health::Unknown, _) => true,
            (Health::Up, false) => in_a_row >= check.fall,
            (Health::Down, true) => is_first || in_a_row >= check.rise,
            (Health::Up, true) | (Health::Down, false) => false,
        };
        if !changes {
            return;
        }
        match passed {
            true => {
                if is_known {
                    standing.rise(self.clock.now());
                }
                // What connects found is outdated.
                self.forget_failures(&member.state);
                standing.set_health(Health::Up);
                events::up(self, member);
            }
            false => {
                standing.set_health(Health::Down);
                events::down(self, member, &text);
                self.went_down(member, "its server has failed its health checks");
            }
        }
        self.standing_changed();
    }

    /// Closes the connections of a server that is down, if they are not kept.
    pub(super) fn went_down(&self, member: &Member, reason: &'static str) {
        if self.closes_on_down() {
            member.state.close_all_because(reason);
        }
    }

    /// Whether a connection that was just made to a server has to be closed, because the server went down meanwhile.
    pub(super) fn is_closed_on_down(&self, member: &Member) -> bool {
        let standing = &member.state.standing;
        let is_unhealthy = standing.health() == Health::Down && !self.settings().try_all;
        self.closes_on_down() && (is_unhealthy || standing.request() == ServerRequest::Down)
    }

    pub(super) fn closes_on_down(&self) -> bool {
        let settings = self.settings();
        let health = settings.health.as_ref();
        health.is_some_and(|check| check.on_down == OnDown::Close)
    }
}

/// Whether connections to the server have TLS.
#[cfg(feature = "tls")]
const fn has_tls(server: &Server) -> bool {
    server.tls().is_some()
}

#[cfg(not(feature = "tls"))]
const fn has_tls(_: &Server) -> bool {
    false
}

/// After the first check of a server, if it fails. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// A certificate that expires soon is mentioned daily.
const WARN_AGAIN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

async fn check_repeatedly(pool: Weak<Shared>, state: Weak<MemberState>) {
    loop {
        let Some(shared) = pool.upgrade() else {
            return;
        };
        let checked = state.upgrade().and_then(|it| shared.member_of(&it));
        let Some(server) = checked.map(|it| it.server.clone()) else {
            return;
        };
        let dialer = shared.dialer.clone();
        let Some(check) = shared.settings().health.clone() else {
            return;
        };
        // The task must keep neither of them while it waits.
        drop(shared);
        let begun = Instant::now();
        let checking = catch(probe::check(&dialer, &check, &server));
        let result = match timeout(check.timeout, checking).await {
            Ok(Ok(result)) => result,
            Ok(Err(panicked)) => Err(format!("the check panicked: {}", panicked.message()).into()),
            Err(_) => Err(Elapsed::new(phase::HEALTH_CHECK, check.timeout).into()),
        };
        let Some((shared, state)) = pool.upgrade().zip(state.upgrade()) else {
            return;
        };
        shared.checked(&check, &state, &server, result, begun);
        let pause = state.checks.pause(check.interval);
        drop((shared, state));
        sleep(around(pause)).await;
    }
}
