//! Replaces the settings of a pool that is in use.

use super::{
    Pool, PoolBuilder, Server, builder::Settings, member::Member, pool::Shared, standing::Health,
};
use std::sync::{Arc, PoisonError};

impl Pool {
    /// Replaces the settings by those of `builder`.
    ///
    /// The pool keeps its name, its connector and its DNS, if it has one. Servers keep their connections, their
    /// counters, and what was [requested](Self::drain) for them. A connect that has begun keeps its timeouts and its
    /// number of attempts; which servers it may use and whether it waits for them depends on the new settings. The
    /// [drain timeout](PoolBuilder::with_drain_timeout) is that of the time at which a server is removed.
    ///
    /// Another health check begins immediately and counts its results anew. A server stays up or down until enough of
    /// them are different. If it [closes connections](super::OnDown::Close) and the one before did not, those of
    /// servers that are out of use already are closed, too. Without health checks, all servers are used; servers whose
    /// checks begin are unknown, as at the start. Names are resolved immediately if their interval is another one.
    /// Ejected servers come back if there are no [ejections](PoolBuilder::with_ejection) any more.
    ///
    /// # Panics
    ///
    /// As [`PoolBuilder::build`].
    ///
    /// ```
    /// use portcullis::upstream::{Balance, HealthCheck, Pool, Server};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), portcullis::connect::ConnectError> {
    /// let server: Server = "127.0.0.1:5432".parse()?;
    /// let pool = Pool::new([server]);
    /// let check = HealthCheck::tcp().with_fall(1);
    /// pool.reconfigure(Pool::builder().with_balance(Balance::First).with_health_check(check));
    /// # Ok(())
    /// # }
    /// ```
    pub fn reconfigure(&self, builder: PoolBuilder) {
        self.0.reconfigure(builder.into_settings(), None);
    }

    /// Replaces the settings and the servers, as [`reconfigure`](Self::reconfigure) and [`replace`](Self::replace) do.
    ///
    /// The first check with the new settings is that of the new servers.
    ///
    /// # Panics
    ///
    /// As [`PoolBuilder::build`].
    ///
    /// ```
    /// use portcullis::upstream::{HealthCheck, Pool, Server};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), portcullis::connect::ConnectError> {
    /// let pool = Pool::new(["127.0.0.1:5432".parse::<Server>()?]);
    /// let checked = Pool::builder().with_health_check(HealthCheck::tcp());
    /// pool.reconfigure_with(checked, ["127.0.0.1:5433".parse::<Server>()?]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn reconfigure_with<S: Into<Server>>(
        &self,
        builder: PoolBuilder,
        servers: impl IntoIterator<Item = S>,
    ) {
        let servers = servers.into_iter().map(Into::into).collect();
        self.0.reconfigure(builder.into_settings(), Some(servers));
    }
}

impl Shared {
    fn reconfigure(self: &Arc<Self>, mut new: Settings, servers: Option<Vec<Server>>) {
        // So that a server that is added meanwhile is checked as the others are.
        let mut configured = self.configured();
        let judging = self.judging.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.settings();
        new.name.clone_from(&old.name);
        #[cfg(feature = "dns")]
        if old.dns.is_some() {
            new.dns.clone_from(&old.dns);
        }
        let is_same = match (&old.health, &new.health) {
            (Some(old), Some(new)) => old.is_same(new),
            (None, None) => true,
            _ => false,
        };
        if is_same {
            new.health.clone_from(&old.health);
        }
        let is_switched = old.health.is_some() != new.health.is_some();
        let has_ejections = new.ejection.is_some();
        let closed_before = self.closes_on_down();
        let interval = new.resolve_interval;
        self.set_settings(new);
        if interval != old.resolve_interval {
            self.interval_changed.notify_waiters();
        }
        if is_switched {
            self.forget_checks();
        }
        for member in self.members_and_leaving() {
            if !is_same {
                member.state.stop_checks();
                member.state.checks.count_anew();
            }
            if !has_ejections {
                self.end_ejections(&member.state);
            }
        }
        drop(judging);
        // Before checks begin, so that they are those of the new servers.
        if let Some(servers) = servers {
            self.replace_in(&mut configured, servers);
        }
        for member in self.members().iter() {
            self.start_checks(&member.state);
            if !closed_before && self.is_closed_on_down(member) {
                member
                    .state
                    .close_all_because("its server is down, and no longer keeps its connections");
            }
        }
        drop(configured);
        self.show_certificates();
        self.standing_changed();
    }

    /// The servers, and those that were removed and may return.
    fn members_and_leaving(&self) -> Vec<Arc<Member>> {
        let mut all = self.members().to_vec();
        all.extend(self.leaving().iter().map(|it| it.member.clone()));
        all
    }

    /// As if no server had been checked ever.
    fn forget_checks(&self) {
        let all = self.members_and_leaving();
        self.become_unknown(|had_up| {
            *had_up = false;
            for member in all {
                member.state.checks.clear();
                member.state.standing.set_health(Health::Unknown);
            }
        });
    }
}
