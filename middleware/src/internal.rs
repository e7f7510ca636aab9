//! Items for the package `portcullis`. They are outside of the API and change at any time.

pub use crate::{
    connection::guards::{Slot, Slots},
    log_text::{Causes, Escaped},
};
