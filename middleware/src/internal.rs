//! Items that the package `portcullis` needs beyond the public API. They may change at any time.

pub use crate::{
    connection::guards::{Slot, Slots},
    log_text::{Causes, Escaped},
    when_ready::take_ready,
};
use std::time::Duration;

/// How long idle connections stay open after the server stops accepting.
///
/// It is long enough for a client's first bytes, and short for a shutdown.
pub const IDLE_GRACE_PERIOD: Duration = Duration::from_millis(500);
