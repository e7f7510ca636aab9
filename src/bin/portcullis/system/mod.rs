//! What the program has to do with the system: sockets from outside, upgrades, and the limits of the process.

mod descriptors;
mod events;
mod sockets;
#[cfg(unix)]
pub(crate) mod upgrade;

pub(crate) use self::{
    descriptors::raise_descriptors,
    events::{Event, Events},
    sockets::{Bound, CannotListen, Sockets},
};
