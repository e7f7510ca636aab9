//! Takes servers out of use for a time after connects have failed.

use super::{
    events,
    member::{Member, MemberState},
    pool::Shared,
};
use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

/// When and for how long a server is ejected after failed connects.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ejection {
    pub(super) failures: u32,
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

impl Shared {
    /// Records a connect.
    pub(super) fn succeeded(&self, member: &Member) {
        let state = &member.state;
        state.connects.fetch_add(1, Ordering::Relaxed);
        if state.was_reached() && !state.has_failed() || !self.is_at_its_address(member) {
            return;
        }
        state.set_reached();
        if state.has_failed() {
            self.forget_failures(state);
            self.show(state);
            // It may be what a connection waits for.
            self.serve_queue();
        }
    }

    /// Records a failed connect, and ejects the server if there were too many in a row.
    ///
    /// The failures are still counted after an ejection, so the next one ejects it again, and for longer. One success
    /// forgets them.
    pub(super) fn failed(&self, member: &Member) {
        let state = &member.state;
        state.connect_failures.fetch_add(1, Ordering::Relaxed);
        state.meters.connect_failures.increment();
        if !self.is_at_its_address(member) {
            return;
        }
        state.failures_in_a_row.fetch_add(1, Ordering::Relaxed);
        if self.has_failed_enough(state).is_some()
            && let Some(time) = self.eject(member)
        {
            events::ejected(self, member, time);
        }
    }

    /// Forgets failed connects and what followed from them, also of a connect that ejects the server meanwhile.
    pub(super) fn forget_failures(&self, state: &MemberState) {
        let _one = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        state.forget_failures(self.clock.now());
    }

    /// Uses the server again, also if a connect ejects it meanwhile by settings that were replaced.
    pub(super) fn end_ejections(&self, state: &MemberState) {
        let _one = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        state.end_ejections(self.clock.now());
    }

    /// The settings by which the server has to be ejected.
    fn has_failed_enough(&self, state: &MemberState) -> Option<Ejection> {
        let in_a_row = state.failures_in_a_row.load(Ordering::Relaxed);
        let ejection = self.settings().ejection;
        ejection.filter(|ejection| in_a_row >= ejection.failures)
    }

    /// Ejects the server, unless half of the pool is already ejected.
    fn eject(&self, member: &Member) -> Option<Duration> {
        let _one = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        // Another connect may have succeeded meanwhile, or the settings have changed.
        let ejection = self.has_failed_enough(&member.state)?;
        let (now, members) = (self.clock.now(), self.members());
        let standing = &member.state.standing;
        let is_ejected = |member: &Member| member.state.standing.is_ejected(now);
        let ejected = members.iter().filter(|member| is_ejected(member)).count();
        let is_removed = !members.iter().any(|each| each.key == member.key);
        if is_removed || is_ejected(member) || (ejected + 1) * 2 > members.len() {
            return None;
        }
        let before = member.state.ejections.fetch_add(1, Ordering::Relaxed);
        let doubled = 2_u32.saturating_pow(before);
        let time = ejection.first.saturating_mul(doubled).min(ejection.longest);
        standing.eject(now.after(time));
        self.show_ejected(&member.state, time);
        Some(time)
    }

    /// Whether the server still has the address of `member`. What connects to another one found is outdated.
    fn is_at_its_address(&self, member: &Member) -> bool {
        let current = self.member_of(&member.state);
        current.is_none_or(|current| current.server.address() == member.server.address())
    }

    /// Ends the ejections that end first, until at most half of the servers are ejected. Called after servers have
    /// been removed.
    pub(super) fn limit_ejections(&self) {
        let _one = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, members) = (self.clock.now(), self.members());
        let standings = members.iter().map(|member| &member.state.standing);
        let mut ejected: Vec<_> = standings.filter(|each| each.is_ejected(now)).collect();
        ejected.sort_by_key(|standing| standing.ejected_until());
        let surplus = ejected.len().saturating_sub(members.len() / 2);
        for standing in ejected.into_iter().take(surplus) {
            standing.end_ejection(now);
        }
    }
}
