//! Who has the IO, and who holds the guards meanwhile.
//!
//! The lender (the future of `OnError`) and the borrower ([`Lent`], inside the inner service's
//! connection) share a [`Loan`]. The guards stay in it while the IO is out, so that they end with
//! the last of the two. [`Tie`] is the one guard of the borrowed connection: it lets a `detach` there
//! release them.

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

/// Lends the IO of `connection`: a connection for the inner service, and the way to get it back.
pub(super) fn lend<IO: Send + 'static>(
    connection: Connection<IO>,
) -> (Connection<Lent<IO>>, Lender<IO>) {
    let (io, parts) = connection.into_parts();
    let loan = Arc::new(Loan {
        info: parts.info,
        home: Mutex::new(Home::Out(parts.guards)),
    });
    let mut borrowed = Parts::new(loan.info.clone()).with_io(Lent::new(io, loan.clone()));
    *borrowed.extensions_mut() = parts.extensions.clone();
    borrowed.hold(Tie(loan.clone()));
    let extensions = parts.extensions;
    (borrowed, Lender { loan, extensions })
}

/// The side that waits for the IO.
///
/// Dropping it closes what has come back, and lets the borrower keep what has not.
pub(super) struct Lender<IO> {
    loan: Arc<Loan<IO>>,
    extensions: Extensions,
}

impl<IO> Lender<IO> {
    /// The connection as it was lent, if the IO has come back by now.
    ///
    /// Leaves `error` in the trace: from here on it is the handler's.
    pub(super) fn take_back(mut self, error: &BoxError) -> Option<Connection<IO>> {
        let returned = self.loan.end();
        tracing::debug!(
            connection = %self.loan.info.id(),
            error = %Escaped(Causes(&**error)),
            returned = returned.is_some(),
            "service failed, calling the error handler",
        );
        let (io, guards) = returned?;
        let parts = Parts {
            info: self.loan.info.clone(),
            extensions: mem::take(&mut self.extensions),
            guards,
        };
        Some(parts.with_io(io))
    }
}

impl<IO> Drop for Lender<IO> {
    fn drop(&mut self) {
        drop(self.loan.end());
    }
}

/// What lender and borrower share.
pub(super) struct Loan<IO> {
    info: ConnectionInfo,
    home: Mutex<Home<IO>>,
}

/// Where the IO is.
enum Home<IO> {
    /// With the borrower, and the lender waits for it.
    Out(Guards),
    /// With the borrower for good: the lender is gone.
    Kept(Guards),
    /// Here, for the lender. The IO drops before the guards.
    Back(IO, Guards),
    /// Closed, detached, or taken by the lender.
    Over,
}

// Nothing of the user's is dropped while the lock is held: it may panic, or come back here.
impl<IO> Loan<IO> {
    pub(super) fn give_back(&self, io: IO) {
        // Nobody can say anything on a connection that was aborted: it ends at once.
        let is_ended = self.info.is_ended();
        let mut home = self.home();
        let guards = match mem::replace(&mut *home, Home::Over) {
            Home::Out(guards) if !is_ended => {
                *home = Home::Back(io, guards);
                return;
            }
            Home::Out(guards) => guards,
            // They end with the last of `Lent` and `Tie`, like the guards of any connection.
            kept => {
                *home = kept;
                Guards::new()
            }
        };
        drop(home);
        drop(io);
        drop(guards);
    }

    /// Ends the wait for the IO; returns it if it is back.
    fn end(&self) -> Option<(IO, Guards)> {
        let mut home = self.home();
        match mem::replace(&mut *home, Home::Over) {
            Home::Back(io, guards) => return Some((io, guards)),
            Home::Out(guards) | Home::Kept(guards) => *home = Home::Kept(guards),
            Home::Over => {}
        }
        None
    }

    /// Releases the guards of an IO that is out.
    fn detach(&self) {
        let mut home = self.home();
        let guards = match mem::replace(&mut *home, Home::Over) {
            Home::Out(guards) | Home::Kept(guards) => guards,
            other => {
                *home = other;
                return;
            }
        };
        drop(home);
        drop(guards);
    }

    fn home(&self) -> MutexGuard<'_, Home<IO>> {
        // Nothing in here panics half-way, so a poisoned home is in order.
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Guard of the borrowed connection, in place of all those in the loan.
struct Tie<IO>(Arc<Loan<IO>>);

impl<IO> Drop for Tie<IO> {
    fn drop(&mut self) {
        if self.0.info.phase() == Phase::Detached {
            self.0.detach();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Address;
    use std::{
        io,
        panic::{AssertUnwindSafe, catch_unwind},
    };

    fn connection<IO>(io: IO) -> Connection<IO> {
        let info = ConnectionInfo::new(Address::Unknown, Address::Unknown);
        Connection::new(io, info)
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_first_error_is_in_the_trace_on_one_line() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let (borrowed, lender) = lend(connection(()));
        let id = borrowed.id();
        drop(borrowed);
        tracing::subscriber::with_default(subscriber, || {
            lender.take_back(&"peer said \"\n\x1b[2J".into()).unwrap();
        });
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains(&format!("connection={id} ")), "{log}");
        assert!(
            log.contains(r#"error=peer said "\n\u{1b}[2J returned=true"#),
            "{log}"
        );
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
        // The IO of an aborted connection is dropped on its way back.
        let (borrowed, lender) = lend(connection(Bomb));
        assert!(catch_unwind(AssertUnwindSafe(|| borrowed.abort())).is_err());
        assert!(lender.take_back(&"no".into()).is_none());
        // The guards of a detached one are dropped out of the loan.
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
                    assert!(Arc::strong_count(&held) >= 3, "IO and guard, as lent");
                    drop(back);
                }
            });
            assert_eq!(Arc::strong_count(&held), 1);
        }
    }
}
