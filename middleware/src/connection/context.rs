//! Passes the acceptor's metadata of a connection through layers that only handle its stream.
//!
//! The request at the edge of a stack is a raw stream: `Service<TcpStream>`. The acceptor's other data (peer
//! address, drain signal, registry entry) is in a thread-local while `call` runs, and
//! [`PeerAddrLayer`](crate::peer_addr::PeerAddrLayer) takes it from there. Until then it is also set during
//! each poll of the future, so that a layer outside of `PeerAddrLayer` may call its inner service later.
//! Usually `call` takes it, and polls cost nothing.
//!
//! A context belongs to one stream. Another stream that a layer wraps at the same time, such as a pipe, does
//! not receive it. A layer outside of `PeerAddrLayer` may wrap the stream in a type that forwards
//! [`Transport::descriptor`].
//!
//! A layer outside of `PeerAddrLayer` that calls its inner service in another task, like tower's `Buffer`,
//! loses the context. Place such a layer inside.

use super::{ConnectionInfo, Guards, Phase, Slot, Transport};
use std::{any::TypeId, cell::Cell, fmt};

/// The data that an acceptor attaches to the connection of a call.
///
/// ```
/// use portcullis_middleware::{
///     Connection, ConnectionInfo,
///     connection::{Address, ConnectionContext},
/// };
///
/// let (ours, _theirs) = tokio::io::duplex(64);
/// let info = ConnectionInfo::new(Address::Unknown, Address::Unknown);
/// let id = info.id();
/// let mut context = Some(ConnectionContext::new(&ours, info));
///
/// // Usually a stack is called here instead of `accept`.
/// let connection = ConnectionContext::enter(&mut context, || Connection::accept(ours));
/// assert_eq!(connection.id(), id);
/// assert!(context.is_none());
/// ```
pub struct ConnectionContext {
    pub(super) info: ConnectionInfo,
    pub(super) guards: Guards,
    stream: StreamId,
}

impl ConnectionContext {
    /// A context for `io`, without guards.
    pub fn new<Io: Transport>(io: &Io, info: ConnectionInfo) -> Self {
        Self {
            info,
            guards: Guards::new(),
            stream: StreamId::of(io),
        }
    }

    /// The connection's information.
    pub const fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Adds a guard to the connection, like [`Connection::hold`](super::Connection::hold).
    pub fn hold(&mut self, guard: impl Send + Sync + 'static) {
        self.guards.push(guard);
    }

    /// Adds a slot to the connection, like [`Connection::hold_slot`](super::Connection::hold_slot).
    #[doc(hidden)]
    pub fn hold_slot(&mut self, slot: Slot) {
        self.guards.push_slot(slot);
    }

    /// Marks the connection as closed.
    ///
    /// For a context that was not taken because the stack served the raw stream.
    pub fn close(self) {
        self.info.set_phase(Phase::Closed);
    }

    /// Runs `run`, a call or a poll of a stack, with `context` set.
    ///
    /// Afterwards `context` is `None` if [`Connection::accept`](super::Connection::accept) took it.
    ///
    /// # Panics
    ///
    /// If `run` panics. A context that was not taken is back in `context` then, too.
    pub fn enter<T>(context: &mut Option<Self>, run: impl FnOnce() -> T) -> T {
        let before = CONTEXT.replace(context.take());
        let _entered = EnteredContext { context, before };
        run()
    }

    /// Takes the context of `io` from the surrounding [`enter`](Self::enter), if there is one.
    pub(super) fn take<Io: Transport>(io: &Io) -> Option<Self> {
        let context = CONTEXT.take()?;
        if context.stream == StreamId::of(io) {
            return Some(context);
        }
        CONTEXT.set(Some(context));
        None
    }
}

impl fmt::Debug for ConnectionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionContext")
            .field("info", &self.info)
            .field("guards", &self.guards)
            .finish_non_exhaustive()
    }
}

thread_local! {
    static CONTEXT: Cell<Option<ConnectionContext>> = const { Cell::new(None) };
}

/// Returns an untaken context and restores the previous one, also after a panic.
struct EnteredContext<'a> {
    context: &'a mut Option<ConnectionContext>,
    before: Option<ConnectionContext>,
}

impl Drop for EnteredContext<'_> {
    fn drop(&mut self) {
        *self.context = CONTEXT.replace(self.before.take());
    }
}

/// Identifies a stream by its file descriptor, which survives wrapping, or else by its type.
#[derive(Clone, Copy)]
enum StreamId {
    Descriptor(u64),
    /// Stored as the function that returns it, which is half as large.
    Type(fn() -> TypeId),
}

impl StreamId {
    fn of<Io: Transport>(io: &Io) -> Self {
        io.descriptor()
            .map_or(Self::Type(TypeId::of::<Io>), Self::Descriptor)
    }
}

impl PartialEq for StreamId {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Descriptor(one), Self::Descriptor(other)) => one == other,
            (Self::Type(one), Self::Type(other)) => one() == other(),
            (Self::Descriptor(_), Self::Type(_)) | (Self::Type(_), Self::Descriptor(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Peer, info};
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::Arc,
    };
    use tokio::{
        io::{DuplexStream, duplex},
        net::{TcpListener, TcpStream},
    };

    fn context<Io: Transport>(io: &Io) -> Option<ConnectionContext> {
        Some(ConnectionContext::new(io, info()))
    }

    fn pipe() -> DuplexStream {
        duplex(1).0
    }

    #[test]
    fn the_context_is_taken_once_and_only_inside() {
        let io = pipe();
        let mut context = context(&io);
        let id = context.as_ref().unwrap().info().id();
        let taken = ConnectionContext::enter(&mut context, || {
            [(); 2].map(|()| ConnectionContext::take(&io))
        });
        assert_eq!(taken[0].as_ref().unwrap().info().id(), id);
        assert!(taken[1].is_none() && context.is_none());
        assert!(ConnectionContext::take(&io).is_none());
    }

    #[test]
    fn a_context_that_was_not_taken_may_be_entered_again() {
        let io = pipe();
        let mut context = context(&io);
        ConnectionContext::enter(&mut context, || ());
        assert!(context.is_some());
        assert!(ConnectionContext::take(&io).is_none());
        let taken = ConnectionContext::enter(&mut context, || ConnectionContext::take(&io));
        assert!(taken.is_some() && context.is_none());
    }

    #[test]
    fn a_panic_takes_no_context_along_and_leaves_none_behind() {
        let io = pipe();
        let mut context = context(&io);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            ConnectionContext::enter(&mut context, || panic!("in call"));
        }));
        assert!(panicked.is_err() && context.is_some());
        assert!(ConnectionContext::take(&io).is_none());
    }

    #[test]
    fn one_context_inside_of_another_hides_it_and_no_more() {
        let io = pipe();
        let [mut outer, mut inner] = [context(&io), context(&io)];
        let ids = [&outer, &inner].map(|context| context.as_ref().unwrap().info().id());
        let taken = ConnectionContext::enter(&mut outer, || {
            let inside = || ConnectionContext::take(&io);
            let inside = ConnectionContext::enter(&mut inner, inside);
            [ConnectionContext::take(&io), inside]
        });
        assert_eq!(taken.map(|context| context.unwrap().info().id()), ids);
    }

    #[test]
    fn a_stream_of_another_type_does_not_get_the_context() {
        let held = Arc::new(());
        let io = pipe();
        let other = Peer::new().io();
        let mut context = context(&io);
        context.as_mut().unwrap().hold(held.clone());
        assert!(
            ConnectionContext::enter(&mut context, || ConnectionContext::take(&other)).is_none()
        );
        assert_eq!(Arc::strong_count(&held), 2);
        drop(context);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    /// A stream that a layer at the edge has wrapped.
    #[cfg(unix)]
    #[tokio::test]
    async fn of_two_streams_of_a_type_the_descriptor_tells_whose_the_context_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut streams = Vec::new();
        for _ in 0..2 {
            streams.push(TcpStream::connect(address).await.unwrap());
        }
        let mut context = context(&streams[1]);
        let taken = ConnectionContext::enter(&mut context, || {
            [0, 1].map(|stream| ConnectionContext::take(&streams[stream]).is_some())
        });
        assert_eq!(taken, [false, true]);

        let stream = streams.remove(0);
        let mut context = self::context(&stream);
        let wrapped = super::super::AnyStream::from(stream);
        assert!(
            ConnectionContext::enter(&mut context, || ConnectionContext::take(&wrapped)).is_some()
        );
    }
}
