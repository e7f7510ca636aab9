//! portcullis with more and more layers, each of which wraps the stream.

use super::portcullis::{ours, serve};
use crate::{
    echo::echo,
    entry::{Entry, Job},
};
use ::portcullis::{Connection, ServiceBuilderExt, middleware::observe::ByteCounter};
use tower::ServiceBuilder;

/// A byte count for each of the numbers, one around the other.
macro_rules! layers {
    ($setup:ident, $($number:literal)+) => {{
        let stack = ServiceBuilder::new().peer_addr();
        $(
            let _ = $number;
            let stack = stack.count_bytes(ByteCounter::new());
        )+
        serve(&$setup, stack.service_fn(|io: Connection<_>| echo(io)))
    }};
}

pub(super) const ENTRIES: &[Entry] = &[
    ours("portcullis-layers-1", Job::Echo, |setup| layers!(setup, 1)),
    ours(
        "portcullis-layers-2",
        Job::Echo,
        |setup| layers!(setup, 1 2),
    ),
    ours(
        "portcullis-layers-4",
        Job::Echo,
        |setup| layers!(setup, 1 2 3 4),
    ),
    ours(
        "portcullis-layers-8",
        Job::Echo,
        |setup| layers!(setup, 1 2 3 4 5 6 7 8),
    ),
    ours(
        "portcullis-layers-12",
        Job::Echo,
        |setup| layers!(setup, 1 2 3 4 5 6 7 8 9 10 11 12),
    ),
];
