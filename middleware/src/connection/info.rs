//! Information about a connection, for layers, handlers and the server.

use super::{
    Address, CertificateFacts, EndedBy, Hello, ListenerInfo, Milestone, Note, Phase, TlsInfo,
    Transport, UpstreamInfo,
    control::{Control, IoDirection, Requests},
    deadline::IoDeadline,
    late_options::SetOptions,
    milestone::Milestones,
    notes::Notes,
};
use crate::drain::{DrainSignal, DrainStage, DrainTrigger};
use once_cell::race::OnceBox;
use std::{
    borrow::Cow,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence},
    },
    task::Poll,
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// Information about one connection; clones are cheap and share it.
///
/// Some values are fixed at accept (id, time, listener, addresses). Some are set once by a layer
/// ([TLS](Self::tls), the [effective peer](Self::peer)), and outer layers see them too. Some are live (bytes,
/// phase, shutdown). A missing value is `None` or [`Address::Unknown`].
///
/// It outlives the connection, so that its end can be reported.
#[derive(Clone)]
pub struct ConnectionInfo(Arc<ConnectionFacts>);

struct ConnectionFacts {
    id: ConnectionId,
    accepted_at: Instant,
    /// The listener, or what the connections of one connector share.
    origin: Option<Arc<ListenerInfo>>,
    socket_peer: Address,
    socket_local: Address,
    found: OnceBox<FoundFacts>,
    read: AtomicU64,
    written: AtomicU64,
    phase: AtomicU8,
    truncated: AtomicBool,
    /// A service has returned the stream to the `OnError` around it.
    returned: AtomicBool,
    ended_by: AtomicU8,
    control: Control,
    deadlines: [IoDeadline; 3],
    wake_up: IoDeadline,
}

/// What layers find out, in one allocation. A plain connection that is not forwarded, and one to a backend, has none.
#[derive(Default)]
struct FoundFacts {
    effective: OnceBox<Effective>,
    hello: OnceBox<Hello>,
    tls: OnceBox<TlsInfo>,
    route: OnceBox<Arc<str>>,
    pool: OnceLock<Arc<str>>,
    upstream: OnceBox<UpstreamInfo>,
    milestones: Milestones,
    /// Of few connections.
    rare: OnceBox<RareFacts>,
}

/// What few connections have, in one allocation.
#[derive(Default)]
struct RareFacts {
    notes: Notes,
    /// That of the connection alone, and of its server.
    drain: OnceLock<DrainSignal>,
    /// Wakes tasks that wait for the end of the connection, or until it must end.
    ended: Notify,
    /// Why it was force-closed.
    forced_because: OnceLock<Cow<'static, str>>,
}

struct Effective {
    peer: Address,
    local: Address,
}

impl ConnectionInfo {
    /// Describes a connection accepted now, between `peer` and `local`.
    pub fn new(peer: impl Into<Address>, local: impl Into<Address>) -> Self {
        Self::build(None, peer.into(), local.into())
    }

    /// Describes a connection accepted now by the listener of `origin`.
    pub fn from_listener(
        origin: Arc<ListenerInfo>,
        peer: impl Into<Address>,
        local: impl Into<Address>,
    ) -> Self {
        Self::build(Some(origin), peer.into(), local.into())
    }

    /// Describes a connection accepted now, with the addresses of `io` (two system calls on sockets).
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
            found: OnceBox::new(),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            phase: AtomicU8::new(Phase::Accepted as u8),
            truncated: AtomicBool::new(false),
            returned: AtomicBool::new(false),
            ended_by: AtomicU8::new(NOT_ENDED),
            control: Control::default(),
            deadlines: [const { IoDeadline::new() }; 3],
            wake_up: IoDeadline::new(),
        }))
    }

    /// The connection's number, unique within the process.
    pub fn id(&self) -> ConnectionId {
        self.0.id
    }

    /// The time of the accept.
    pub fn accepted_at(&self) -> Instant {
        self.0.accepted_at
    }

    /// The time since the accept.
    pub fn age(&self) -> Duration {
        self.0.accepted_at.elapsed()
    }

    /// The listener's name, if it has one.
    pub fn listener(&self) -> Option<&str> {
        self.0.origin.as_ref()?.name()
    }

    /// The server that accepted the connection, if it is of type `T`; see [`ListenerInfo::with_server`].
    pub fn server<T: 'static>(&self) -> Option<&T> {
        self.0.origin.as_ref()?.server()
    }

    /// The client's address, from a trusted PROXY header or else from the socket.
    pub fn peer(&self) -> &Address {
        self.effective().map_or(&self.0.socket_peer, |e| &e.peer)
    }

    /// The address that the client connected to, from the same source.
    pub fn local(&self) -> &Address {
        self.effective().map_or(&self.0.socket_local, |e| &e.local)
    }

    fn effective(&self) -> Option<&Effective> {
        self.found_if_any()?.effective.get()
    }

    /// The peer of the socket, which may be a proxy.
    pub fn socket_peer(&self) -> &Address {
        &self.0.socket_peer
    }

    /// The local address of the socket.
    pub fn socket_local(&self) -> &Address {
        &self.0.socket_local
    }

    /// IP address and port of [`peer`](Self::peer), if it has them.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer().ip()
    }

    /// IP address and port of [`local`](Self::local), if it has them.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local().ip()
    }

    /// Records the addresses from a trusted proxy; false if some were recorded already.
    pub fn set_effective(&self, peer: Address, local: Address) -> bool {
        let effective = Box::new(Effective { peer, local });
        self.found().effective.set(effective).is_ok()
    }

    /// The client's TLS ClientHello, also where TLS is passed through; `None` without
    /// [`PeekLayer`](crate::peek::PeekLayer).
    pub fn hello(&self) -> Option<&Hello> {
        self.found_if_any()?.hello.get()
    }

    /// Records a ClientHello; a second one (TLS within TLS) is ignored.
    pub(crate) fn set_hello(&self, hello: Hello) {
        let _second = self.found().hello.set(Box::new(hello));
    }

    /// The negotiated TLS parameters, after the handshake.
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.found_if_any()?.tls.get()
    }

    /// The facts of the certificate that the TLS peer presented and that was verified, such as its names.
    ///
    /// `None` without TLS, if the peer presented no certificate, and if its names or another part that verifiers skip
    /// are damaged. An access rule must reject the last case: there, [`TlsInfo::peer_certificates`] is not empty.
    pub fn peer_certificate(&self) -> Option<&CertificateFacts> {
        self.tls()?.peer_certificate.as_deref()
    }

    /// Records the negotiated TLS parameters, and when; false if some were recorded already (TLS within TLS).
    pub(crate) fn set_tls(&self, mut tls: TlsInfo) -> bool {
        tls.completed_at = Some(Instant::now());
        self.found().tls.set(Box::new(tls)).is_ok()
    }

    /// What guards that only observe would have done, such as [`AclLayer`](crate::access::AclLayer) with
    /// [`with_observe`](crate::access::AclLayer::with_observe), in the order in which they would have.
    pub fn notes(&self) -> impl Iterator<Item = &Note> {
        let rare = self.rare_if_any();
        rare.into_iter().flat_map(|rare| rare.notes.iter())
    }

    /// Adds a note; an equal one is kept once.
    pub(crate) fn add_note(&self, note: Note) {
        self.rare().notes.add(note);
    }

    fn found_if_any(&self) -> Option<&FoundFacts> {
        self.0.found.get()
    }

    /// Allocates what layers find out, to add something.
    fn found(&self) -> &FoundFacts {
        self.0.found.get_or_init(Box::default)
    }

    fn rare_if_any(&self) -> Option<&RareFacts> {
        self.found_if_any()?.rare.get()
    }

    fn rare(&self) -> &RareFacts {
        self.found().rare.get_or_init(Box::default)
    }

    /// The time from the accept to a milestone; `None` if it is not reached.
    pub fn reached(&self, milestone: Milestone) -> Option<Duration> {
        self.found_if_any()?.milestones.get(milestone)
    }

    /// Records that the connection reaches a milestone now; the first time stays.
    pub fn reach(&self, milestone: Milestone) {
        self.found().milestones.set(milestone, self.age());
    }

    /// The name of the route that decided about the connection; `None` without routes, and if none matches.
    ///
    /// [`Router`](crate::route::Router) has no names for its routes, so a service of a route records its own.
    pub fn route(&self) -> Option<&str> {
        self.found_if_any()?.route.get().map(|route| &**route)
    }

    /// Records the route, for services of routes; false if one was recorded already.
    pub fn set_route(&self, name: impl Into<Arc<str>>) -> bool {
        self.found().route.set(Box::new(name.into())).is_ok()
    }

    /// The name of the pool that chooses the backend, also while it chooses and if it has none.
    ///
    /// `None` for connections that are forwarded without a pool, or to one without a name.
    pub fn pool(&self) -> Option<&str> {
        let of_upstream = || self.upstream()?.pool.as_deref();
        let pool = self.found_if_any()?.pool.get();
        pool.map(|pool| &**pool).or_else(of_upstream)
    }

    /// Records the pool, for services that forward; false if one was recorded already.
    pub fn set_pool(&self, name: impl Into<Arc<str>>) -> bool {
        self.found().pool.set(name.into()).is_ok()
    }

    /// The backend to which the connection is forwarded; `None` before it is connected to.
    pub fn upstream(&self) -> Option<&UpstreamInfo> {
        self.found_if_any()?.upstream.get()
    }

    /// Records the backend, for services that forward; false if one was recorded already.
    pub fn set_upstream(&self, upstream: UpstreamInfo) -> bool {
        self.found().upstream.set(Box::new(upstream)).is_ok()
    }

    /// The side that ended the connection, if it was forwarded and has ended, or its TLS handshake has failed.
    pub fn ended_by(&self) -> Option<EndedBy> {
        let ended_by = self.0.ended_by.load(Ordering::Relaxed);
        ENDED_BY.into_iter().find(|end| *end as u8 == ended_by)
    }

    /// Records the side that ended the connection, for services that forward and for TLS; the first one stays.
    pub fn set_ended_by(&self, ended_by: EndedBy) {
        let (new, relaxed) = (ended_by as u8, Ordering::Relaxed);
        let first = self
            .0
            .ended_by
            .compare_exchange(NOT_ENDED, new, relaxed, relaxed);
        let _later = first.is_err();
    }

    /// Bytes read from the socket so far (under TLS, ciphertext).
    pub fn bytes_read(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    /// Bytes written to the socket so far (under TLS, ciphertext).
    pub fn bytes_written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// The current phase of the connection.
    pub fn phase(&self) -> Phase {
        Phase::from_u8(self.0.phase.load(Ordering::Relaxed))
    }

    /// Sets the phase. The final phases cannot be left.
    pub(crate) fn set_phase(&self, phase: Phase) {
        let next = |now| (!Phase::from_u8(now).is_end()).then_some(phase as u8);
        let relaxed = Ordering::Relaxed;
        let _ended_already = self.0.phase.fetch_update(relaxed, relaxed, next);
        if phase.is_end() {
            // Either this sees the task that waits, or that task sees the phase.
            fence(Ordering::SeqCst);
            self.notify_ended();
        }
    }

    /// Wakes the tasks that wait for an end of the connection.
    fn notify_ended(&self) {
        if let Some(rare) = self.rare_if_any() {
            rare.ended.notify_waiters();
        }
    }

    /// Resolves when the connection is closed or detached.
    pub(crate) fn gone(&self) -> impl Future<Output = ()> + Send + use<> {
        let info = self.clone();
        async move {
            loop {
                let ended = info.rare().ended.notified();
                fence(Ordering::SeqCst);
                if info.phase().is_end() {
                    return;
                }
                ended.await;
            }
        }
    }

    /// Whether no task owns the connection any more, because it has ended or was returned to the
    /// [`OnError`](crate::handler::OnError) around its service.
    pub(crate) fn is_given_up(&self) -> bool {
        self.phase().is_end() || self.0.returned.load(Ordering::Relaxed)
    }

    /// Records that the stream was returned, or was lent or handled again.
    pub(crate) fn set_returned(&self, returned: bool) {
        self.0.returned.store(returned, Ordering::Relaxed);
    }

    /// Whether the TLS peer closed without `close_notify`, so that data may have been truncated.
    pub fn is_truncated(&self) -> bool {
        self.0.truncated.load(Ordering::Relaxed)
    }

    /// Records that the TLS peer closed without `close_notify`.
    #[cfg(any(test, feature = "tls"))]
    pub(crate) fn set_truncated(&self) {
        self.0.truncated.store(true, Ordering::Relaxed);
    }

    /// Resolves when the server starts to shut down, or when the connection has reached its
    /// [lifetime](crate::timeout::ConnectionTimeoutLayer::with_lifetime_grace). Otherwise it stays pending.
    ///
    /// The future is `'static` and may be dropped and created again at any time.
    pub fn drain(&self) -> impl Future<Output = ()> + Send + use<> {
        let drain = self.drain_signal().cloned();
        async move {
            match drain {
                Some(drain) => drain.notified().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Whether the server has started to shut down, or the connection alone.
    pub fn is_draining(&self) -> bool {
        self.drain_stage() >= DrainStage::Notified
    }

    /// The stage of the shutdown of the server or of the connection; `Serving` without a server.
    pub fn drain_stage(&self) -> DrainStage {
        self.drain_signal()
            .map_or(DrainStage::Serving, DrainSignal::stage)
    }

    /// The drain signal of the server, if there is one, or of the connection alone.
    pub fn drain_signal(&self) -> Option<&DrainSignal> {
        let own = self.rare_if_any().and_then(|rare| rare.drain.get());
        own.or_else(|| self.0.origin.as_ref()?.drain())
    }

    /// A trigger that shuts down this connection alone; `None` if it has one already.
    ///
    /// Signals that were taken before do not follow it.
    pub(crate) fn drain_alone(&self) -> Option<DrainTrigger> {
        let server = self.0.origin.as_ref().and_then(|origin| origin.drain());
        let (trigger, signal) = DrainSignal::for_connection(server);
        self.rare().drain.set(signal).ok().map(|()| trigger)
    }

    /// Force-closes the connection, wherever it is.
    ///
    /// Its operations fail from now on with [`ForcedClose`](super::ForcedClose), and pending ones wake up.
    ///
    /// The socket closes when its owner drops it.
    pub fn force_close(&self) {
        self.post(Requests::CLOSE);
    }

    /// Like [`force_close`](Self::force_close), for a reason that logs can show.
    ///
    /// The reason completes the sentence *closed because …*. The first one stays, and a connection that was closed
    /// without one gets none.
    ///
    /// ```
    /// # use portcullis_middleware::{ConnectionInfo, connection::Address};
    /// # let info = ConnectionInfo::new(Address::Unknown, Address::Unknown);
    /// info.force_close_because("its certificate was revoked");
    /// assert_eq!(info.forced_because(), Some("its certificate was revoked"));
    /// ```
    pub fn force_close_because(&self, reason: impl Into<Cow<'static, str>>) {
        self.set_forced_because(reason.into());
        self.force_close();
    }

    /// Like [`force_close`](Self::force_close), with a reset and without lingering.
    pub fn force_reset(&self) {
        self.post(Requests::RESET);
    }

    /// Like [`force_reset`](Self::force_reset), for a reason; see [`force_close_because`](Self::force_close_because).
    pub fn force_reset_because(&self, reason: impl Into<Cow<'static, str>>) {
        self.set_forced_because(reason.into());
        self.force_reset();
    }

    /// Why the connection was force-closed, if that is known.
    pub fn forced_because(&self) -> Option<&str> {
        let reason = self.rare_if_any()?.forced_because.get()?;
        Some(reason)
    }

    /// Records the reason before the connection is force-closed, so that its end finds it.
    pub(crate) fn set_forced_because(&self, reason: Cow<'static, str>) {
        if !self.is_forced() {
            let _later = self.rare().forced_because.set(reason);
        }
    }

    /// Resolves when the connection is force-closed or aborted.
    ///
    /// Use it in code that waits for something other than the connection's stream, such as a queue or another
    /// server. I/O on the stream fails on its own. The future stays pending if the connection ends in another
    /// way.
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
    /// The future may be dropped at any time, and any number may wait. It keeps only the connection's
    /// information in memory.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let info = self.clone();
        async move {
            loop {
                // Before the check, so that a request in between is not missed.
                let ended = info.rare().ended.notified();
                if info.control().requests_in_order().end() {
                    return;
                }
                ended.await;
            }
        }
    }

    /// Posts `request`, which ends the connection, and wakes all tasks that wait for it.
    fn post(&self, request: Requests) {
        self.0.control.post(request);
        self.notify_ended();
    }

    /// Whether the connection was force-closed.
    pub fn is_forced(&self) -> bool {
        let requests = self.0.control.requests();
        requests.has(Requests::CLOSE) || requests.has(Requests::RESET)
    }

    /// Whether the connection must end now, because it was force-closed or aborted by its owner.
    pub(crate) fn is_ended(&self) -> bool {
        self.0.control.requests().end()
    }

    /// Requests a reset, on behalf of the connection's owner.
    pub(super) fn request_abort(&self) {
        self.post(Requests::ABORT);
    }

    /// Requests `TCP_NODELAY`, which takes effect with the next operation.
    pub(super) fn request_nodelay(&self, nodelay: bool) {
        if nodelay {
            self.0.control.set(Requests::NODELAY, Requests::DELAY);
        } else {
            self.0.control.set(Requests::DELAY, Requests::NODELAY);
        }
    }

    pub(crate) fn control(&self) -> &Control {
        &self.0.control
    }

    pub(super) fn late_options(&self) -> Option<&SetOptions> {
        self.0.origin.as_ref()?.late_options()
    }

    pub(super) fn deadline(&self, direction: IoDirection) -> &IoDeadline {
        &self.0.deadlines[direction as usize]
    }

    pub(super) fn wake_up(&self) -> &IoDeadline {
        &self.0.wake_up
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

const NOT_ENDED: u8 = u8::MAX;
const ENDED_BY: [EndedBy; 3] = [EndedBy::Client, EndedBy::Backend, EndedBy::Gate];

/// Only the socket counts, with `&mut self`, so a load and a store need no lock prefix.
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

/// The number of a connection, unique within the process and increasing.
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
    use tokio_test::{assert_pending, assert_ready, task};

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
    fn the_backend_is_recorded_once() {
        let info = info();
        assert_eq!((info.upstream(), info.ended_by()), (None, None));
        let blue = UpstreamInfo::new("blue", Address::Unknown)
            .with_pool("shop")
            .with_connect_time(Duration::from_millis(3));
        assert!(info.set_upstream(blue.clone()));
        assert!(!info.set_upstream(UpstreamInfo::new("green", Address::Unknown)));
        assert_eq!(info.upstream(), Some(&blue));
    }

    #[test]
    fn a_pool_is_recorded_before_its_backend_and_without_one() {
        let connecting = info();
        assert_eq!(connecting.pool(), None);
        assert!(connecting.set_pool("shop"));
        assert!(!connecting.set_pool("blog"));
        assert_eq!(
            (connecting.pool(), connecting.upstream()),
            (Some("shop"), None)
        );

        let connected = info();
        connected.set_upstream(UpstreamInfo::new("blue", Address::Unknown).with_pool("shop"));
        assert_eq!(connected.pool(), Some("shop"));
    }

    #[test]
    fn a_route_is_recorded_once() {
        let info = info();
        assert_eq!(info.route(), None);
        assert!(info.set_route("shop.example"));
        assert!(!info.set_route("other.example"));
        assert_eq!(info.route(), Some("shop.example"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_milestone_has_the_time_since_the_accept() {
        let info = info();
        tokio::time::advance(Duration::from_secs(3)).await;
        info.reach(Milestone::Detected);
        tokio::time::advance(Duration::from_secs(1)).await;
        info.reach(Milestone::Detected);
        assert_eq!(
            info.reached(Milestone::Detected),
            Some(Duration::from_secs(3))
        );
    }

    #[test]
    fn the_first_side_to_end_the_connection_is_recorded() {
        for first in ENDED_BY {
            let info = info();
            info.set_ended_by(first);
            info.set_ended_by(EndedBy::Gate);
            assert_eq!(info.ended_by(), Some(first));
        }
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

    #[test]
    fn the_first_reason_of_a_forced_close_stays() {
        let closed = info();
        assert_eq!(closed.forced_because(), None);
        closed.force_close_because("the first");
        closed.force_reset_because("the second".to_owned());
        assert!(closed.is_forced());
        assert_eq!(closed.forced_because(), Some("the first"));

        let unexplained = info();
        unexplained.force_close();
        unexplained.force_close_because("too late");
        assert_eq!(unexplained.forced_because(), None);
    }

    #[test]
    fn all_who_wait_for_the_end_are_woken_by_each_kind_of_it() {
        for end in [Requests::CLOSE, Requests::RESET, Requests::ABORT] {
            let info = info();
            let mut waiting = [(); 3].map(|()| task::spawn(info.closed()));
            for waiting in &mut waiting {
                assert_pending!(waiting.poll());
            }
            info.request_nodelay(true);
            assert!(!waiting[0].is_woken());
            info.post(end);
            for waiting in &mut waiting {
                assert!(waiting.is_woken());
                assert_ready!(waiting.poll());
            }
            assert_ready!(task::spawn(info.closed()).poll());
        }
    }

    #[test]
    fn an_end_that_comes_while_the_wait_begins_is_not_missed() {
        for _ in 0..1000 {
            let info = info();
            std::thread::scope(|scope| {
                scope.spawn(|| info.force_close());
                // Returns only once the end is visible.
                tokio_test::block_on(info.closed());
            });
        }
    }

    #[test]
    fn a_task_that_waits_for_a_forced_close_sleeps_on_when_the_connection_is_gone() {
        let info = info();
        let mut closed = task::spawn(info.closed());
        let mut gone = task::spawn(info.gone());
        assert_pending!(closed.poll());
        assert_pending!(gone.poll());
        info.set_phase(Phase::Detached);
        assert_pending!(closed.poll());
        assert_ready!(gone.poll());
        info.force_close();
        assert!(closed.is_woken());
        assert_ready!(closed.poll());
    }

    #[test]
    fn the_facts_of_a_connection_fit_into_few_bytes() {
        assert!(
            size_of::<ConnectionFacts>() <= 208,
            "{}",
            size_of::<ConnectionFacts>()
        );
    }

    #[tokio::test]
    async fn without_a_server_the_drain_never_comes() {
        let info = info();
        assert!(!info.is_draining());
        assert!(task::spawn(info.drain()).poll().is_pending());
    }
}
