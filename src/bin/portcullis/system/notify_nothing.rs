//! Systems without systemd.

#[derive(Debug, Default)]
pub(crate) struct Notifier;

impl Notifier {
    pub(crate) fn from_env() -> Self {
        Self
    }

    pub(crate) fn ready(&self, _: &str) {}

    pub(crate) fn reloading(&self) {}

    pub(crate) fn stopping(&self) {}

    pub(crate) fn start_watchdog(&mut self) {}
}
