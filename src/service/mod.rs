//! Innermost services of a stack, which take the connections, and [`Reload`] around a whole one.

pub mod forward;
pub mod hand_off;
#[cfg(feature = "http")]
pub mod http;
mod linger_io;
pub mod reload;

pub use self::forward::ForwardService;
pub use self::hand_off::{HandOff, HandOffError, Incoming, hand_off};
#[cfg(feature = "http")]
pub use self::http::HttpService;
pub use self::{
    linger_io::LingerIo,
    reload::{Reload, ReloadHandle},
};
