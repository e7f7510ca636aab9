//! Lends a stream to the inner service and keeps the guards meanwhile.
//!
//! The lender (the future of `OnError`) and the borrower ([`Lent`], inside the inner service's connection)
//! share a [`LentState`]. While the stream is lent, the state holds the guards, so that the last of the two
//! releases them. The borrowed connection has a [`LentGuard`], through which a `detach` releases them.

use super::Lent;
use crate::{
    BoxError, Connection, ConnectionInfo, Extensions,
    connection::{Guards, Parts, Phase},
    log_text::{Causes, Escaped},
};
use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Lends the stream of `connection`; returns a connection for the inner service and the lender.
pub(super) fn lend<IO: Send + 'static>(
    connection: Connection<IO>,
) -> (Connection<Lent<IO>>, Lender<IO>) {
    let (io, parts) = connection.into_parts();
    let state = Arc::new(LentState {
        info: parts.info,
        location: Mutex::new(Location::Out(parts.guards)),
    });
    let mut borrowed = Parts::new(state.info.clone()).with_io(Lent::new(io, state.clone()));
    *borrowed.extensions_mut() = parts.extensions.clone();
    borrowed.hold(LentGuard(state.clone()));
    let extensions = parts.extensions;
    (borrowed, Lender { state, extensions })
}

/// The side that waits for the stream.
///
/// Dropping it closes a stream that has returned; otherwise the borrower keeps the stream.
pub(super) struct Lender<IO> {
    state: Arc<LentState<IO>>,
    extensions: Extensions,
}

impl<IO> Lender<IO> {
    /// Returns the connection as it was lent, if the stream has returned.
    ///
    /// Logs `error`, because the handler may replace it.
    pub(super) fn take_back(mut self, error: &BoxError) -> Option<Connection<IO>> {
        let returned = self.state.end();
        tracing::debug!(
            connection.id = self.state.info.id().get(),
            error = %Escaped(Causes(&**error)),
            returned = returned.is_some(),
            "service failed, calling the error handler",
        );
        let (io, guards) = returned?;
        let parts = Parts {
            info: self.state.info.clone(),
            extensions: mem::take(&mut self.extensions),
            guards,
        };
        Some(parts.with_io(io))
    }
}

impl<IO> Drop for Lender<IO> {
    fn drop(&mut self) {
        drop(self.state.end());
    }
}

/// What lender and borrower share.
pub(super) struct LentState<IO> {
    info: ConnectionInfo,
    location: Mutex<Location<IO>>,
}

/// Where the stream is.
enum Location<IO> {
    /// At the borrower, while the lender waits for it.
    Out(Guards),
    /// At the borrower permanently, because the lender was dropped.
    Kept(Guards),
    /// Returned. The stream drops before the guards.
    Back(IO, Guards),
    /// Closed, detached, or taken by the lender.
    Over,
}

// Streams and guards are dropped after unlocking, because their drop may panic or enter the state again.
impl<IO> LentState<IO> {
    pub(super) fn give_back(&self, io: IO) {
        // An aborted connection is unusable, so it is closed immediately.
        let is_ended = self.info.is_ended();
        let mut location = self.location();
        let guards = match mem::replace(&mut *location, Location::Over) {
            Location::Out(guards) if !is_ended => {
                self.info.set_returned(true);
                *location = Location::Back(io, guards);
                return;
            }
            Location::Out(guards) => guards,
            // The last of `Lent` and `LentGuard` releases them, like the guards of any connection.
            kept => {
                *location = kept;
                Guards::new()
            }
        };
        drop(location);
        drop(io);
        drop(guards);
    }

    /// Ends the wait for the stream, and returns the stream if it has returned.
    fn end(&self) -> Option<(IO, Guards)> {
        let mut location = self.location();
        match mem::replace(&mut *location, Location::Over) {
            Location::Back(io, guards) => {
                self.info.set_returned(false);
                return Some((io, guards));
            }
            Location::Out(guards) | Location::Kept(guards) => *location = Location::Kept(guards),
            Location::Over => {}
        }
        None
    }

    /// Releases the guards of a lent stream.
    fn detach(&self) {
        let mut location = self.location();
        let guards = match mem::replace(&mut *location, Location::Over) {
            Location::Out(guards) | Location::Kept(guards) => guards,
            other => {
                *location = other;
                return;
            }
        };
        drop(location);
        drop(guards);
    }

    fn location(&self) -> MutexGuard<'_, Location<IO>> {
        // The state is consistent at every possible panic, so poisoning can be ignored.
        self.location.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Guard of the borrowed connection, in place of the guards in the state.
struct LentGuard<IO>(Arc<LentState<IO>>);

impl<IO> Drop for LentGuard<IO> {
    fn drop(&mut self) {
        if self.0.info.phase() == Phase::Detached {
            self.0.detach();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{observe::trace::tests::log::Log, testing::connection};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn the_first_error_is_in_the_trace_on_one_line() {
        let (borrowed, lender) = lend(connection(()));
        let id = borrowed.id();
        drop(borrowed);
        let log = Log::of_lines(tracing::Level::DEBUG);
        lender.take_back(&"peer said \"\n\x1b[2J".into()).unwrap();
        let [line] = log.lines().try_into().ok().unwrap();
        assert_eq!(line.fields["connection.id"], id.to_string());
        assert_eq!(line.fields["error"], r#"peer said "\n\u{1b}[2J"#);
        assert_eq!(line.fields["returned"], "true");
    }

    #[test]
    fn a_panic_in_a_drop_leaves_the_loan_usable() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                if !std::thread::panicking() {
                    panic!("in drop");
                }
            }
        }
        // The stream of an aborted connection is dropped when it returns.
        let (borrowed, lender) = lend(connection(Bomb));
        assert!(catch_unwind(AssertUnwindSafe(|| borrowed.abort())).is_err());
        assert!(lender.take_back(&"no".into()).is_none());
        // The guards of a detached connection are dropped from the state.
        let mut guarded = connection(());
        guarded.hold(Bomb);
        let (borrowed, lender) = lend(guarded);
        assert!(catch_unwind(AssertUnwindSafe(|| drop(borrowed.detach()))).is_err());
        assert!(lender.take_back(&"no".into()).is_none());
    }

    #[test]
    fn it_does_not_matter_who_lets_go_first() {
        for lender_first in [false, true] {
            let held = Arc::new(());
            let mut connection = connection(held.clone());
            connection.hold(held.clone());
            let (borrowed, lender) = lend(connection);
            if lender_first {
                drop(lender);
                assert_eq!(Arc::strong_count(&held), 3);
                drop(borrowed);
            } else {
                drop(borrowed);
                assert_eq!(Arc::strong_count(&held), 3);
                drop(lender);
            }
            assert_eq!(Arc::strong_count(&held), 1);
        }
    }

    #[test]
    fn a_race_between_both_ends_leaves_nothing_behind() {
        for _ in 0..500 {
            let held = Arc::new(());
            let mut connection = connection(held.clone());
            connection.hold(held.clone());
            let (borrowed, lender) = lend(connection);
            std::thread::scope(|scope| {
                scope.spawn(|| drop(borrowed));
                if let Some(back) = lender.take_back(&"no".into()) {
                    assert!(Arc::strong_count(&held) >= 3, "stream and guard, as lent");
                    drop(back);
                }
            });
            assert_eq!(Arc::strong_count(&held), 1);
        }
    }
}
