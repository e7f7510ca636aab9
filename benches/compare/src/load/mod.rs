//! The clients.

pub(crate) mod bulk;
mod client;
pub(crate) mod closed;
pub(crate) mod idle;
pub(crate) mod open;
mod outcome;

pub(crate) use self::{client::Client, outcome::Outcome};
