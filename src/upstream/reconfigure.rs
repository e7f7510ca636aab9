//! Replaces the settings of a pool that is in use.

use super::{Pool, PoolBuilder, builder::Settings, pool::Shared, standing::Health};
use std::sync::{Arc, PoisonError};

impl Pool {
    /// Replaces the settings by those of `builder`.
    ///
    /// The pool keeps its name, its connector and its DNS. Servers keep their connections, their counters, and what was
    /// [requested](Self::drain) for them. Connects that have begun keep the settings that they began with, and so do
    /// servers that were removed.
    ///
    /// Another health check begins immediately and counts its results anew. A server stays up or down until enough of
    /// them are different. If it [closes connections](super::OnDown::Close), those of servers that are down already are
    /// closed, too. Without health checks, all servers are used. Ejected servers come back if there are no
    /// [ejections](PoolBuilder::with_ejection) any more.
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
        self.0.reconfigure(builder.into_settings());
    }
}

impl Shared {
    fn reconfigure(self: &Arc<Self>, mut new: Settings) {
        // So that a server that is added meanwhile is checked as the others are.
        let configured = self.configured();
        let judging = self.judging.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.settings();
        new.name.clone_from(&old.name);
        #[cfg(feature = "dns")]
        new.dns.clone_from(&old.dns);
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
        self.set_settings(new);
        if is_switched {
            self.forget_checks();
        }
        for member in self.members().iter() {
            let state = &member.state;
            if !is_same {
                state.stop_checks();
                state.checks.count_anew();
                self.start_checks(state);
            }
            if !has_ejections {
                state.standing.end_ejection(self.clock.now());
            }
            if state.standing.health() == Health::Down {
                self.went_down(member, "its server has failed its health checks");
            }
        }
        drop((judging, configured));
        self.standing_changed();
    }

    /// As if no server had been checked ever.
    fn forget_checks(&self) {
        let mut had_up = self.had_up.lock().unwrap_or_else(PoisonError::into_inner);
        *had_up = false;
        for member in self.members().iter() {
            member.state.checks.clear();
            member.state.standing.set_health(Health::Unknown);
        }
    }
}
