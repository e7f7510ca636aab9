//! What is known of a connection, for every layer and for the outside.

use super::{
    Address, ListenerInfo, Phase, TlsInfo, Transport,
    control::{Control, Requests},
};
use crate::drain::{DrainSignal, DrainStage};
use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::time::Instant;

/// What is known of one connection; a cheap clone that all who hold it share.
///
/// Some facts are fixed when the connection is accepted (id, time, listener, addresses), some are
/// set once by a layer that learns them ([TLS](Self::tls), the [effective peer](Self::peer)), and
/// some are live (bytes, phase, drain). Layers outside see what layers inside learned. A fact that
/// is missing is `None` or [`Address::Unknown`], never an error.
///
/// It outlives the connection, so that the end can be reported with what was known.
#[derive(Clone)]
pub struct ConnectionInfo(Arc<ConnectionFacts>);

struct ConnectionFacts {
    id: ConnectionId,
    accepted_at: Instant,
    origin: Option<Arc<ListenerInfo>>,
    socket_peer: Address,
    socket_local: Address,
    effective: OnceLock<Box<Effective>>,
    tls: OnceLock<Box<TlsInfo>>,
    read: AtomicU64,
    written: AtomicU64,
    phase: AtomicU8,
    truncated: AtomicBool,
    control: Control,
}

struct Effective {
    peer: Address,
    local: Address,
}

impl ConnectionInfo {
    /// A connection accepted now, between `peer` and `local`.
    pub fn new(peer: impl Into<Address>, local: impl Into<Address>) -> Self {
        Self::build(None, peer.into(), local.into())
    }

    /// A connection accepted now from the listener that `origin` describes.
    pub fn from_listener(
        origin: Arc<ListenerInfo>,
        peer: impl Into<Address>,
        local: impl Into<Address>,
    ) -> Self {
        Self::build(Some(origin), peer.into(), local.into())
    }

    /// A connection accepted now, with the addresses that `io` tells (two system calls on sockets).
    pub fn of(io: &impl Transport) -> Self {
        Self::new(io.peer_address(), io.local_address())
    }

    fn build(
        origin: Option<Arc<ListenerInfo>>,
        socket_peer: Address,
        socket_local: Address,
    ) -> Self {
        Self(Arc::new(ConnectionFacts {
            id: ConnectionId::next(),
            accepted_at: Instant::now(),
            origin,
            socket_peer,
            socket_local,
            effective: OnceLock::new(),
            tls: OnceLock::new(),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            phase: AtomicU8::new(Phase::Accepted as u8),
            truncated: AtomicBool::new(false),
            control: Control::default(),
        }))
    }

    /// Number of the connection, unique within the process.
    pub fn id(&self) -> ConnectionId {
        self.0.id
    }

    /// When the connection was accepted.
    pub fn accepted_at(&self) -> Instant {
        self.0.accepted_at
    }

    /// Time since the connection was accepted.
    pub fn age(&self) -> Duration {
        self.0.accepted_at.elapsed()
    }

    /// Name of the listener, where it has one.
    pub fn listener(&self) -> Option<&str> {
        self.0.origin.as_ref()?.name()
    }

    /// The server that accepted the connection, if it is of type `T`; see [`ListenerInfo::with_server`].
    pub fn server<T: 'static>(&self) -> Option<&T> {
        self.0.origin.as_ref()?.server()
    }

    /// The client: what a PROXY header told where a layer believed one, else the socket's peer.
    pub fn peer(&self) -> &Address {
        self.0
            .effective
            .get()
            .map_or(&self.0.socket_peer, |e| &e.peer)
    }

    /// The address that the client connected to, likewise.
    pub fn local(&self) -> &Address {
        self.0
            .effective
            .get()
            .map_or(&self.0.socket_local, |e| &e.local)
    }

    /// The other end of the socket itself, which may be a proxy.
    pub fn socket_peer(&self) -> &Address {
        &self.0.socket_peer
    }

    /// Our end of the socket itself.
    pub fn socket_local(&self) -> &Address {
        &self.0.socket_local
    }

    /// IP address and port of [`peer`](Self::peer), where it has them.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer().ip()
    }

    /// IP address and port of [`local`](Self::local), where it has them.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local().ip()
    }

    /// Records the addresses that a trusted proxy told; false when some were recorded already.
    pub fn set_effective(&self, peer: Address, local: Address) -> bool {
        let effective = Box::new(Effective { peer, local });
        self.0.effective.set(effective).is_ok()
    }

    /// What TLS agreed on, once the handshake is done.
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.0.tls.get().map(|tls| &**tls)
    }

    /// Records what TLS agreed on; false when something was recorded already (TLS within TLS).
    pub(crate) fn set_tls(&self, tls: TlsInfo) -> bool {
        self.0.tls.set(Box::new(tls)).is_ok()
    }

    /// Bytes read from the socket so far (under TLS: ciphertext).
    pub fn bytes_read(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    /// Bytes that the socket took for sending so far (under TLS: ciphertext).
    pub fn bytes_written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// Where the connection is in its life.
    pub fn phase(&self) -> Phase {
        Phase::from_u8(self.0.phase.load(Ordering::Relaxed))
    }

    /// Notes where the connection is in its life. The end, once noted, stays.
    pub(crate) fn set_phase(&self, phase: Phase) {
        let next = |now| (!Phase::from_u8(now).is_end()).then_some(phase as u8);
        let relaxed = Ordering::Relaxed;
        let _ended_already = self.0.phase.fetch_update(relaxed, relaxed, next);
    }

    /// Whether the TLS peer ended without saying so (no close_notify): data may be missing.
    pub fn is_truncated(&self) -> bool {
        self.0.truncated.load(Ordering::Relaxed)
    }

    /// Notes that the TLS peer ended without saying so.
    #[cfg(any(test, feature = "tls"))]
    pub(crate) fn set_truncated(&self) {
        self.0.truncated.store(true, Ordering::Relaxed);
    }

    /// Resolves when the server starts to shut down; never without a server.
    ///
    /// The future borrows nothing and may be dropped and asked for again at any time.
    pub fn drain(&self) -> impl Future<Output = ()> + Send + use<> {
        let drain = self.drain_signal().cloned();
        async move {
            match drain {
                Some(drain) => drain.notified().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Whether the server has started to shut down.
    pub fn is_draining(&self) -> bool {
        self.drain_stage() >= DrainStage::Notified
    }

    /// How far the server is on its way to its end; without a server, nowhere.
    pub fn drain_stage(&self) -> DrainStage {
        self.drain_signal()
            .map_or(DrainStage::Serving, DrainSignal::stage)
    }

    /// The signal of the server, where there is one.
    pub fn drain_signal(&self) -> Option<&DrainSignal> {
        self.0.origin.as_ref()?.drain()
    }

    /// Closes the connection from outside, wherever it lives: its operations fail from now on with
    /// [`ForcedClose`](super::ForcedClose), those that wait wake up.
    ///
    /// The socket itself closes when its owner drops it.
    pub fn force_close(&self) {
        self.0.control.post(Requests::CLOSE);
    }

    /// Like [`force_close`](Self::force_close), and the peer sees a reset: nothing lingers.
    pub fn force_reset(&self) {
        self.0.control.post(Requests::RESET);
    }

    /// Resolves when the connection is closed from outside or aborted, at once when it was.
    ///
    /// For code that waits for something else than the connection's IO, which fails by itself: a place in
    /// a queue, an answer of another server. It does not resolve when the connection ends in another way.
    ///
    /// ```
    /// use portcullis_middleware::{BoxError, Connection, connection::ForcedClose};
    /// # async fn answer() -> String { String::new() }
    ///
    /// async fn serve<IO>(connection: Connection<IO>) -> Result<(), BoxError> {
    ///     let answer = tokio::select! {
    ///         answer = answer() => answer,
    ///         () = connection.info().closed() => return Err(ForcedClose::new().into()),
    ///     };
    ///     # drop(answer);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping the future, and any number may wait at a time. The future keeps what is
    /// known of the connection in memory, nothing else of it.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let info = self.clone();
        async move { info.0.control.end().await }
    }

    /// Whether the connection was closed from outside.
    pub fn is_forced(&self) -> bool {
        let requests = self.0.control.requests();
        requests.has(Requests::CLOSE) || requests.has(Requests::RESET)
    }

    /// Whether the connection is to end at once: closed from outside, or aborted by its owner.
    pub(crate) fn is_ended(&self) -> bool {
        self.0.control.requests().end()
    }

    /// Has the connection reset, on behalf of its owner.
    pub(super) fn request_abort(&self) {
        self.0.control.post(Requests::ABORT);
    }

    /// Asks for `TCP_NODELAY`; it holds from the next operation on.
    pub(super) fn request_nodelay(&self, nodelay: bool) {
        if nodelay {
            self.0.control.set(Requests::NODELAY, Requests::DELAY);
        } else {
            self.0.control.set(Requests::DELAY, Requests::NODELAY);
        }
    }

    pub(super) fn control(&self) -> &Control {
        &self.0.control
    }

    pub(super) fn add_read(&self, bytes: usize) {
        add(&self.0.read, bytes);
    }

    pub(super) fn count_written(&self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = result {
            add(&self.0.written, *bytes);
        }
    }
}

/// Only the socket counts, and it does so with `&mut self`: a load and a store need no lock prefix.
#[inline]
fn add(counter: &AtomicU64, bytes: usize) {
    let count = counter.load(Ordering::Relaxed) + bytes as u64;
    counter.store(count, Ordering::Relaxed);
}

impl fmt::Debug for ConnectionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionInfo")
            .field("id", &self.id())
            .field("listener", &self.listener())
            .field("peer", &format_args!("{}", self.peer()))
            .field("local", &format_args!("{}", self.local()))
            .field("phase", &self.phase())
            .field("bytes_read", &self.bytes_read())
            .field("bytes_written", &self.bytes_written())
            .finish_non_exhaustive()
    }
}

/// Number of a connection, unique within the process and growing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for ConnectionId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> ConnectionInfo {
        let peer: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        ConnectionInfo::new(peer, Address::Unknown)
    }

    #[test]
    fn clones_see_what_was_learned_later() {
        let info = info();
        let outside = info.clone();
        info.add_read(3);
        info.set_phase(Phase::Handshake);
        assert_eq!(outside.bytes_read(), 3);
        assert_eq!(outside.phase(), Phase::Handshake);
    }

    #[test]
    fn the_effective_peer_is_recorded_once_beside_the_socket_peer() {
        let info = info();
        let client: SocketAddr = "198.51.100.7:1".parse().unwrap();
        assert!(info.set_effective(client.into(), Address::Unknown));
        assert!(!info.set_effective(Address::Unknown, Address::Unknown));
        assert_eq!(info.peer_addr(), Some(client));
        assert_eq!(info.socket_peer().to_string(), "192.0.2.1:4000");
    }

    #[test]
    fn the_end_stays_once_noted() {
        let info = info();
        info.set_phase(Phase::Closed);
        info.set_phase(Phase::Serving);
        assert_eq!(info.phase(), Phase::Closed);
    }

    #[test]
    fn ids_differ() {
        assert_ne!(info().id(), info().id());
    }

    #[tokio::test]
    async fn without_a_server_the_drain_never_comes() {
        let info = info();
        assert!(!info.is_draining());
        assert!(tokio_test::task::spawn(info.drain()).poll().is_pending());
    }
}
