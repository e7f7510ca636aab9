//! Carries what an acceptor knows of a connection past the layers that know only its stream.
//!
//! The request at the edge of a stack is a bare stream: `Service<TcpStream>`. What the acceptor
//! knows besides (the peer's address, the drain, its registry entry) lies in a thread-local for the
//! duration of `call`, and [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer) takes it from there.
//! Nothing is polled inside that scope, so it costs two moves per connection and nothing per poll.
//!
//! A layer outside `PeerAddrLayer` that calls its inner service later, in another task (tower's
//! `Buffer`), leaves the context behind: put such a layer inside.

use super::{ConnectionInfo, Guards};
use std::cell::Cell;

/// What an acceptor hands to the connection that it calls a stack with.
#[derive(Debug)]
pub struct ConnectionContext {
    /// What is known of the connection.
    pub info: ConnectionInfo,
    /// What the connection holds while it lives.
    pub guards: Guards,
}

impl ConnectionContext {
    /// A context without guards.
    pub const fn new(info: ConnectionInfo) -> Self {
        Self {
            info,
            guards: Guards::new(),
        }
    }

    /// Runs `call` with this context in reach; returns what `call` returned, and the context if
    /// nobody took it.
    ///
    /// # Panics
    ///
    /// When `call` does. The context is dropped then.
    pub fn enter<T>(self, call: impl FnOnce() -> T) -> (T, Option<Self>) {
        let _cleared = Cleared(CONTEXT.replace(Some(self)));
        let result = call();
        (result, CONTEXT.take())
    }

    /// Takes the context out of the surrounding [`enter`](Self::enter), if there is one.
    pub fn take() -> Option<Self> {
        CONTEXT.take()
    }
}

thread_local! {
    static CONTEXT: Cell<Option<ConnectionContext>> = const { Cell::new(None) };
}

/// Puts back what was there before, also when `call` panics.
struct Cleared(Option<ConnectionContext>);

impl Drop for Cleared {
    fn drop(&mut self) {
        CONTEXT.set(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Address;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn context() -> ConnectionContext {
        ConnectionContext::new(ConnectionInfo::new(Address::Unknown, Address::Unknown))
    }

    #[test]
    fn the_context_is_taken_once_and_only_inside_the_call() {
        let context = context();
        let id = context.info.id();
        let (taken, left) =
            context.enter(|| (ConnectionContext::take(), ConnectionContext::take()));
        assert_eq!(taken.0.unwrap().info.id(), id);
        assert!(taken.1.is_none() && left.is_none());
        assert!(ConnectionContext::take().is_none());
    }

    #[test]
    fn a_context_that_nobody_takes_comes_back() {
        let ((), left) = context().enter(|| ());
        assert!(left.is_some());
    }

    #[test]
    fn a_panic_leaves_no_context_behind() {
        let panicked = catch_unwind(AssertUnwindSafe(|| context().enter(|| panic!("in call"))));
        assert!(panicked.is_err());
        assert!(ConnectionContext::take().is_none());
    }
}
