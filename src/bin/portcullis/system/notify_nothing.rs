//! Systems without systemd.

use crate::running::Remaining;

#[derive(Debug, Default)]
pub(crate) struct Notifier;

impl Notifier {
    pub(crate) fn from_env() -> Self {
        Self
    }

    pub(crate) fn ready(&self, _: &str) {}

    pub(crate) fn reloading(&self) {}

    pub(crate) fn stopping(&self, _: &Remaining) {}

    pub(crate) fn start_watchdog(&mut self) {}
}
