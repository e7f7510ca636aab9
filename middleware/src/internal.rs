//! Items that the package `portcullis` needs beyond the public API. They may change at any time.

pub use crate::{
    connection::guards::{Slot, Slots},
    log_text::{Causes, Escaped},
    when_ready::take_ready,
};
