//! What the package `portcullis` shares with this one. It is no part of the API and changes at any time.

pub use crate::{
    connection::guards::{Slot, Slots},
    log_text::{Causes, Escaped},
    when_ready::take_ready,
};
