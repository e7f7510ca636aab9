//! Reads the configuration file again.
//!
//! A reload is a transaction. Everything new is read and opened first. If anything fails, the old configuration
//! goes on, and the log says why. Then stacks are swapped, which concerns new connections; the old ones keep their
//! stack. Pools get new settings and keep their state. Listeners that are gone are drained.

use super::Running;
use crate::{
    admin::{self, Instruments, count_reload},
    build::{self, Before, State},
    config::{Config, Problems},
    log,
    plan::{self, Change, When},
    run::count,
    system::CannotListen,
};
use std::{collections::HashMap, path::Path};

impl Running {
    /// Uses the file as it is now, or goes on with the old configuration.
    ///
    /// A process that ends keeps its configuration. It would open sockets that the next process needs.
    pub(super) fn reload(&mut self) -> Result<(), Vec<String>> {
        if self.is_ending() {
            let reason = "the program shuts down";
            tracing::warn!("the configuration is not reloaded, because {reason}");
            return Err(vec![reason.into()]);
        }
        let Some(file) = self.view.file.clone() else {
            return Err(vec![
                "this configuration has no file that could be read again".into(),
            ]);
        };
        self.notifier.reloading();
        let result = self.try_reload(&file);
        #[cfg(unix)]
        if result.is_err() {
            self.sockets.keep();
        }
        self.notifier.ready(&match &result {
            Ok(()) => self.status(),
            Err(problems) => {
                let first = problems.first().map_or("", |problem| problem);
                format!("the last reload failed: {first}")
            }
        });
        self.view.reloaded(match &result {
            Ok(()) => Ok(()),
            Err(problems) => Err(problems),
        });
        count_reload(if result.is_ok() {
            "completed"
        } else {
            "failed"
        });
        match &result {
            Ok(()) => tracing::info!(file = %file.display(), "the configuration was reloaded"),
            Err(problems) => {
                for problem in problems {
                    tracing::error!("{problem}");
                }
                tracing::error!("the configuration was not reloaded; the old one stays in use");
            }
        }
        result
    }

    /// In words, for systemd.
    pub(super) fn status(&self) -> String {
        format!(
            "serving {} with {}",
            count(self.listeners.len(), "listener"),
            count(self.pools.len(), "backend")
        )
    }

    fn try_reload(&mut self, file: &Path) -> Result<(), Vec<String>> {
        // Reading small files blocks for less time than a connection notices.
        tokio::task::block_in_place(|| {
            let (config, mut problems) = Config::load(file);
            let instruments = self.instruments.clone();
            let instruments = instruments.or_else(|| config.admin.as_ref().map(Instruments::new));
            let before = Before {
                pools: self.pools.clone(),
                states: self.states(),
                listening: self.config.users().map(|it| it.1.value.clone()).collect(),
                instruments: instruments.clone(),
            };
            let parts = build::build(&config, &before, &mut problems);
            self.report_held(&config, &mut problems);
            if problems.errors() > 0 {
                return Err(lines(problems));
            }
            #[cfg(unix)]
            self.pass_sockets_on(&config)?;
            let known = self.listeners.iter();
            let known = known.map(|(name, listener)| (&**name, &*listener.addresses));
            let sockets = self.sockets.open(&config, &known.collect());
            let sockets = sockets.map_err(|error| vec![error.to_string()])?;
            let admin = self.bind_admin(&config).transpose();
            let admin = admin.map_err(|error| vec![error.to_string()])?;
            // Again, also if nothing was changed, because the file may have been rotated.
            let access = log::open(&config.log).map_err(|error| vec![error])?;
            for problem in lines(problems) {
                tracing::warn!("{problem}");
            }
            self.warn_of_restart(&config);
            if self.config.log.level != config.log.level {
                log::set_level(config.log.level.0);
            }
            log::set_format(config.log.format);
            access.commit();
            self.instruments = instruments;
            // First, because a shutdown may close them immediately.
            self.sockets.settle();
            self.sockets.own_files();
            self.commit(config, parts, sockets, admin);
            self.sockets.take_taken();
            Ok(())
        })
    }

    /// Reports addresses that cannot be opened while the sockets of before are open.
    fn report_held(&self, config: &Config, problems: &mut Problems) {
        for (user, listen) in config.users() {
            let address = &listen.value;
            if let Some((holder, other)) = self.config.in_the_way(address, user) {
                let message = format!(
                    "{user}: cannot listen on {address}: {other} is held by {holder} of this process; keep it, or restart"
                );
                problems.error(listen.place.clone(), message);
            }
        }
    }

    /// Opens the new socket of the admin interface, if it has one.
    fn bind_admin(&mut self, config: &Config) -> Option<Result<admin::Bound, CannotListen>> {
        let (old, new) = (self.config.admin.as_ref(), config.admin.as_ref()?);
        let is_new = old.is_none_or(|old| old.listen.value != new.listen.value);
        is_new.then(|| admin::bind(new, &mut self.sockets))
    }

    /// Says which changes wait for the next start.
    fn warn_of_restart(&self, config: &Config) {
        let changes = plan::changes(&self.config, config).into_iter();
        let waits = |change: &Change| change.when == When::Restart;
        for change in changes.filter(waits) {
            tracing::warn!(
                "the change of {} takes effect when the program is started again",
                change.key
            );
        }
    }

    fn states(&self) -> HashMap<String, State> {
        let states = self.listeners.iter();
        states
            .map(|(name, listener)| (name.clone(), listener.state.clone()))
            .collect()
    }

    /// Opens the file of access lines again, after its rotation.
    #[cfg(unix)]
    pub(super) fn reopen_log(&self) {
        match log::open(&self.config.log) {
            Ok(opened) => opened.commit(),
            Err(error) => tracing::error!("{error}; access lines go where they went before"),
        }
    }
}

fn lines(problems: Problems) -> Vec<String> {
    let problems = problems.sorted().into_iter();
    problems.map(|problem| problem.to_string()).collect()
}
