//! What pools log on the thread of a test.

use std::{
    io,
    sync::{Arc, Mutex},
};
use tracing::subscriber::{DefaultGuard, set_default};

#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Contains what is logged until the guard is dropped.
    pub(super) fn capture() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        (log, set_default(subscriber.finish()))
    }

    /// How often it contains `text`.
    pub(super) fn count(&self, text: &str) -> usize {
        let written = self.0.lock().unwrap();
        str::from_utf8(&written).unwrap().matches(text).count()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
