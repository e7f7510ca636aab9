//! What the program has to do with the system: sockets from outside, upgrades, and the limits of the process.

#[cfg(unix)]
mod activation;
mod buffers;
mod descriptors;
mod events;
mod handed_over;
#[cfg(unix)]
mod notify;
#[cfg(not(unix))]
#[path = "notify_nothing.rs"]
mod notify;
mod sockets;
#[cfg(unix)]
pub(crate) mod upgrade;
mod watch;

#[cfg(unix)]
pub(crate) use self::buffers::set_buffers;
pub(crate) use self::{
    buffers::check_buffers,
    descriptors::{check_descriptors, raise_descriptors},
    events::{Event, Events},
    notify::Notifier,
    sockets::{Bound, CannotListen, Sockets, check_paths},
    watch::ConfigWatch,
};
