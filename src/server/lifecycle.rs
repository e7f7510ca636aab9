//! The life of a server or of a listener as one state, which every part of it watches.
//!
//! Handles and triggers request a stop, and pause. The drain moves the state on. Handles see the state as a
//! [`State`]. The server has one, and passes requests on to that of each listener. Acceptors see that of their
//! listener as a [`Mode`], and connections only see its drain signal, which the drain fires through
//! [`Lifecycle::begin_drain`] and [`Lifecycle::finish_accepting`].

use super::{drain::Schedule, status::State};
use portcullis_middleware::drain::{DrainSignal, DrainTrigger};
use std::future::Future;
use tokio::sync::watch;

/// How far a server or a listener is, and what is requested of it.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    now: watch::Sender<Now>,
    /// What connections see. It is separate because the middleware package is independent of the server.
    drain_trigger: DrainTrigger,
    drain_signal: DrainSignal,
}

/// Changed under one lock, so that its parts always agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Now {
    stage: LifecycleStage,
    stop: StopRequest,
    /// When a listener that drains stops accepting and force-closes.
    schedule: Option<Schedule>,
    paused: bool,
    /// Whether the server of a listener is paused.
    server_paused: bool,
    socket: SocketState,
}

/// Whether a listener accepts. It only advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SocketState {
    Open,
    /// Acceptors serve their queues and end, whatever connections do.
    Closing,
    /// Acceptors end and leave their queues to another process, which has the socket.
    #[cfg_attr(not(unix), allow(dead_code, reason = "sockets are not passed on"))]
    HandedOver,
    /// All acceptors have ended.
    Closed,
}

/// How far a server or a listener is. It only advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LifecycleStage {
    Starting,
    Running,
    /// The notice period. Acceptors go on as before, accepting or paused.
    Draining,
    /// Acceptors serve their queues and end.
    Finishing,
    /// Acceptors end, and connections are force-closed.
    Quitting,
    Stopped,
}

/// What the handle or a trigger requested. It only becomes more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum StopRequest {
    None,
    Graceful,
    Immediate,
}

/// The task of the acceptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Accept.
    Accept,
    /// Leave connections in the kernel's queue.
    Pause,
    /// Serve the connections in the queue, then close the listener.
    Finish,
    /// Close the listener, whose queue another process serves.
    Leave,
    /// Close the listener and the connection that waits for its stack.
    Quit,
}

impl Lifecycle {
    pub(super) fn new() -> Self {
        let (drain_trigger, drain_signal) = DrainTrigger::pair();
        Self {
            now: watch::Sender::new(Now {
                stage: LifecycleStage::Starting,
                stop: StopRequest::None,
                schedule: None,
                paused: false,
                server_paused: false,
                socket: SocketState::Open,
            }),
            drain_trigger,
            drain_signal,
        }
    }

    /// Requests a graceful shutdown. A server that has not started yet shuts down when it starts.
    pub(super) fn stop(&self) {
        self.request(StopRequest::Graceful);
    }

    /// Requests a shutdown that does not wait for connections.
    pub(super) fn stop_now(&self) {
        self.request(StopRequest::Immediate);
    }

    fn request(&self, stop: StopRequest) {
        self.change(|now| now.stop = now.stop.max(stop));
    }

    /// Requests that a listener drains by `schedule`, or by an earlier one if it drains already.
    pub(super) fn drain(&self, schedule: Schedule) {
        self.change(|now| {
            now.stop = now.stop.max(StopRequest::Graceful);
            now.schedule = Some(
                now.schedule
                    .map_or(schedule, |known| known.earliest(schedule)),
            );
        });
    }

    /// Makes the acceptors empty their queues and end, while connections go on. False if they do already.
    pub(super) fn close(&self) -> bool {
        self.change(|now| now.socket = now.socket.max(SocketState::Closing))
    }

    /// Makes the acceptors end without emptying their queues, while connections go on. False if it is closed or
    /// handed over already.
    #[cfg(unix)]
    pub(super) fn hand_over(&self) -> bool {
        self.change(|now| {
            if now.socket == SocketState::Open && now.stage < LifecycleStage::Finishing {
                now.socket = SocketState::HandedOver;
            }
        })
    }

    /// Whether acceptors leave their queues to another process.
    #[cfg(unix)]
    pub(super) fn is_handed_over(&self) -> bool {
        self.now.borrow().socket == SocketState::HandedOver
    }

    /// All acceptors have ended.
    pub(super) fn socket_closed(&self) {
        self.change(|now| now.socket = SocketState::Closed);
    }

    /// Pauses, also before the start. False if it is paused already or ends.
    pub(super) fn pause(&self) -> bool {
        self.set_paused(true)
    }

    /// Ends the pause. False if it is not paused or ends.
    pub(super) fn resume(&self) -> bool {
        self.set_paused(false)
    }

    fn set_paused(&self, paused: bool) -> bool {
        self.change(|now| {
            if now.stage <= LifecycleStage::Running && now.socket == SocketState::Open {
                now.paused = paused;
            }
        })
    }

    /// Pauses a listener with its server, or ends that pause. It does not change the listener's own.
    pub(super) fn set_server_paused(&self, paused: bool) {
        self.change(|now| now.server_paused = paused);
    }

    /// The state that the handle shows.
    pub(super) fn state(&self) -> State {
        self.now.borrow().state()
    }

    /// Whether the acceptors pause.
    pub(super) fn is_paused(&self) -> bool {
        self.now.borrow().mode() == Mode::Pause
    }

    /// Whether it accepts or pauses, and nothing is requested that ends this.
    pub(super) fn is_open(&self) -> bool {
        let now = self.now.borrow();
        now.socket == SocketState::Open
            && now.stop == StopRequest::None
            && now.stage <= LifecycleStage::Running
    }

    /// Whether a shutdown was requested that does not wait for connections.
    pub(super) fn is_stopped_at_once(&self) -> bool {
        self.now.borrow().stop == StopRequest::Immediate
    }

    /// When a listener that drains stops accepting and force-closes.
    pub(super) fn schedule(&self) -> Option<Schedule> {
        self.now.borrow().schedule
    }

    /// The state as acceptors see it.
    pub(super) fn watch_mode(&self) -> ModeWatch {
        ModeWatch(self.now.subscribe())
    }

    /// The signal for the connections of a listener.
    pub(super) const fn drain_signal(&self) -> &DrainSignal {
        &self.drain_signal
    }

    /// Resolves when a stop is requested, graceful or immediate.
    pub(super) async fn stop_requested(&self) {
        self.reached(|now| now.stop >= StopRequest::Graceful).await;
    }

    /// Resolves when an immediate stop is requested.
    pub(super) async fn stop_now_requested(&self) {
        self.reached(|now| now.stop == StopRequest::Immediate).await;
    }

    /// Resolves when a listener drains by another schedule than `known`.
    pub(super) async fn rescheduled(&self, known: Schedule) {
        self.reached(|now| now.schedule.is_some_and(|schedule| schedule != known))
            .await;
    }

    /// Resolves when all acceptors of a listener have ended.
    pub(super) async fn has_closed_socket(&self) {
        self.reached(|now| {
            now.socket == SocketState::Closed || now.stage == LifecycleStage::Stopped
        })
        .await;
    }

    /// Resolves when the server or the listener begins to drain, or has stopped.
    pub(super) async fn draining(&self) {
        self.reached(|now| now.stage >= LifecycleStage::Draining)
            .await;
    }

    /// Resolves when the server or the listener has stopped.
    pub(super) async fn stopped(&self) {
        self.reached(|now| now.stage == LifecycleStage::Stopped)
            .await;
    }

    async fn reached(&self, state: impl FnMut(&Now) -> bool) {
        // Cannot fail, because `self` owns the sender.
        let _ = self.now.subscribe().wait_for(state).await;
    }

    /// All acceptors have started.
    pub(super) fn started(&self) {
        self.advance(LifecycleStage::Running);
    }

    /// Ends the time in which the server can be paused and resumed.
    ///
    /// With a notice period, connections are notified now. Otherwise they see both stages of the drain together,
    /// and wake up once.
    pub(super) fn begin_drain(&self, with_notice_period: bool) {
        self.advance(LifecycleStage::Draining);
        if with_notice_period {
            self.drain_trigger.notify();
        }
    }

    /// Makes the acceptors empty their queues and end, and makes connections without work close.
    ///
    /// It does not wait for the queues to be empty, because idle connections may hold the permits that queued
    /// ones wait for.
    pub(super) fn finish_accepting(&self) {
        self.advance(LifecycleStage::Finishing);
        self.drain_trigger.close();
    }

    /// Makes the acceptors end now.
    pub(super) fn quit(&self) {
        self.advance(LifecycleStage::Quitting);
    }

    /// It has stopped. Connections that outlive a dropped server are not notified.
    pub(super) fn end(&self) {
        self.advance(LifecycleStage::Stopped);
    }

    fn advance(&self, stage: LifecycleStage) {
        self.change(|now| now.stage = now.stage.max(stage));
    }

    /// Wakes the tasks that wait for a change, if there is one.
    fn change(&self, change: impl FnOnce(&mut Now)) -> bool {
        self.now.send_if_modified(|now| {
            let before = *now;
            change(now);
            *now != before
        })
    }
}

impl Now {
    const fn is_paused(self) -> bool {
        self.paused || self.server_paused
    }

    fn mode(self) -> Mode {
        match (self.stage, self.socket) {
            (LifecycleStage::Quitting | LifecycleStage::Stopped, _) => Mode::Quit,
            (_, SocketState::HandedOver) => Mode::Leave,
            (LifecycleStage::Finishing, _) | (_, SocketState::Closing | SocketState::Closed) => {
                Mode::Finish
            }
            (_, SocketState::Open) if self.is_paused() => Mode::Pause,
            (_, SocketState::Open) => Mode::Accept,
        }
    }

    fn state(self) -> State {
        match self.stage {
            LifecycleStage::Starting => State::Starting,
            LifecycleStage::Running if self.socket != SocketState::Open => State::Closed,
            LifecycleStage::Running if self.is_paused() => State::Paused,
            LifecycleStage::Running => State::Running,
            LifecycleStage::Draining | LifecycleStage::Finishing | LifecycleStage::Quitting => {
                State::Draining
            }
            LifecycleStage::Stopped => State::Stopped,
        }
    }
}

/// The state as an acceptor sees it. A clone has seen the same changes.
#[derive(Clone, Debug)]
pub(super) struct ModeWatch(watch::Receiver<Now>);

impl ModeWatch {
    /// The mode, which counts as seen.
    pub(super) fn current(&mut self) -> Mode {
        self.0.borrow_and_update().mode()
    }

    /// Whether anything changed since the mode was seen. The mode may be the same.
    #[inline]
    pub(super) fn has_changed(&self) -> bool {
        !matches!(self.0.has_changed(), Ok(false))
    }

    /// Resolves when anything changed since the mode was seen, and marks that as seen.
    pub(super) fn changed(
        &mut self,
    ) -> impl Future<Output = Result<(), watch::error::RecvError>> + Send {
        self.0.changed()
    }

    /// Makes [`has_changed`](Self::has_changed) and [`changed`](Self::changed) report a change.
    pub(super) fn mark_changed(&mut self) {
        self.0.mark_changed();
    }

    /// Resolves when the mode is [`Mode::Quit`].
    pub(super) async fn quit(&mut self) {
        let _ = self.0.wait_for(|now| now.mode() == Mode::Quit).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Drain;
    use portcullis_middleware::drain::DrainStage;
    use std::time::Duration;
    use tokio::time::Instant;
    use tokio_test::{assert_pending, assert_ready, task};

    fn running() -> Lifecycle {
        let lifecycle = Lifecycle::new();
        lifecycle.started();
        lifecycle
    }

    #[test]
    fn a_server_can_be_paused_until_it_drains() {
        let lifecycle = Lifecycle::new();
        assert!(!lifecycle.resume());
        // Before it accepts anything.
        assert!(lifecycle.pause());
        assert_eq!(lifecycle.state(), State::Starting);
        lifecycle.started();
        assert_eq!(lifecycle.watch_mode().current(), Mode::Pause);
        assert!(lifecycle.resume());
        assert!(!lifecycle.resume());
        assert!(lifecycle.pause());
        assert!(!lifecycle.pause());
        assert_eq!(lifecycle.state(), State::Paused);
        assert!(lifecycle.resume());
        assert_eq!(lifecycle.state(), State::Running);
        lifecycle.begin_drain(false);
        assert!(!lifecycle.pause());
    }

    #[test]
    fn a_paused_server_stays_paused_until_it_finishes_its_queue() {
        let lifecycle = running();
        let mut mode = lifecycle.watch_mode();
        assert!(lifecycle.pause());
        lifecycle.stop();
        lifecycle.begin_drain(true);
        assert!(!lifecycle.resume());
        assert_eq!(lifecycle.state(), State::Draining);
        assert_eq!(mode.current(), Mode::Pause);
        lifecycle.finish_accepting();
        assert_eq!(mode.current(), Mode::Finish);
        lifecycle.quit();
        lifecycle.finish_accepting();
        assert_eq!(mode.current(), Mode::Quit);
    }

    #[test]
    fn a_listener_is_paused_while_it_or_its_server_is() {
        let lifecycle = running();
        lifecycle.set_server_paused(true);
        assert_eq!(lifecycle.state(), State::Paused);
        assert!(!lifecycle.resume());
        assert!(lifecycle.pause());
        lifecycle.set_server_paused(false);
        assert_eq!(lifecycle.state(), State::Paused);
        assert!(lifecycle.resume());
        assert_eq!(lifecycle.watch_mode().current(), Mode::Accept);
    }

    #[test]
    fn a_closed_listener_empties_its_queue_also_when_it_was_paused_or_drains_later() {
        let lifecycle = running();
        let mut mode = lifecycle.watch_mode();
        assert!(lifecycle.pause() && lifecycle.close() && !lifecycle.close());
        assert_eq!(
            (lifecycle.state(), mode.current()),
            (State::Closed, Mode::Finish)
        );
        assert!(!lifecycle.resume());
        let mut closed = task::spawn(lifecycle.has_closed_socket());
        assert_pending!(closed.poll());
        lifecycle.begin_drain(true);
        assert_eq!(mode.current(), Mode::Finish);
        lifecycle.socket_closed();
        assert_ready!(closed.poll());
        lifecycle.close();
        assert_ready!(task::spawn(lifecycle.has_closed_socket()).poll());
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_that_is_handed_over_keeps_its_queue_through_the_drain() {
        let lifecycle = running();
        let mut mode = lifecycle.watch_mode();
        assert!(lifecycle.pause() && lifecycle.hand_over() && !lifecycle.hand_over());
        assert_eq!(
            (lifecycle.state(), mode.current()),
            (State::Closed, Mode::Leave)
        );
        lifecycle.begin_drain(false);
        lifecycle.finish_accepting();
        assert_eq!(mode.current(), Mode::Leave);
        let mut closed = task::spawn(lifecycle.has_closed_socket());
        assert_pending!(closed.poll());
        lifecycle.socket_closed();
        assert_ready!(closed.poll());
        lifecycle.quit();
        assert_eq!(mode.current(), Mode::Quit);
        let draining = running();
        draining.finish_accepting();
        assert!(!draining.hand_over(), "the queue is being emptied");
    }

    #[test]
    fn a_drain_that_is_requested_again_may_come_earlier_and_never_later() {
        let lifecycle = running();
        let begun = Instant::now();
        let minute = Drain::new().with_deadline(Duration::from_secs(60));
        let early = minute.schedule(begun);
        let later = minute.schedule(begun + Duration::from_secs(1));
        lifecycle.drain(later);
        assert!(!lifecycle.is_open());
        let mut earlier = task::spawn(lifecycle.rescheduled(later));
        assert_pending!(earlier.poll());
        lifecycle.drain(early);
        assert_ready!(earlier.poll());
        lifecycle.drain(later);
        assert_eq!(lifecycle.schedule(), Some(early));
    }

    #[test]
    fn a_request_to_stop_changes_no_state_and_outlasts_the_start() {
        let lifecycle = Lifecycle::new();
        lifecycle.stop();
        assert_eq!(lifecycle.state(), State::Starting);
        lifecycle.started();
        assert_eq!(lifecycle.state(), State::Running);
        assert_ready!(task::spawn(lifecycle.stop_requested()).poll());
    }

    #[test]
    fn a_stop_becomes_more_urgent_and_never_less() {
        let lifecycle = running();
        let mut now = task::spawn(lifecycle.stop_now_requested());
        lifecycle.stop();
        assert_pending!(now.poll());
        lifecycle.stop_now();
        assert!(now.is_woken());
        lifecycle.stop();
        assert_ready!(now.poll());
        assert_ready!(task::spawn(lifecycle.stop_requested()).poll());
    }

    #[test]
    fn connections_are_notified_in_the_notice_period_and_closed_after_it() {
        let lifecycle = running();
        lifecycle.stop();
        lifecycle.begin_drain(true);
        assert_eq!(lifecycle.drain_signal().stage(), DrainStage::Notified);
        lifecycle.finish_accepting();
        assert_eq!(lifecycle.drain_signal().stage(), DrainStage::Closing);
    }

    #[test]
    fn without_a_notice_period_connections_are_woken_once() {
        let lifecycle = running();
        let mut notified = task::spawn(lifecycle.drain_signal().clone().notified());
        assert_pending!(notified.poll());
        lifecycle.begin_drain(false);
        assert!(!notified.is_woken());
        lifecycle.finish_accepting();
        assert!(notified.is_woken());
    }

    #[test]
    fn the_end_of_a_dropped_server_is_no_drain() {
        let lifecycle = running();
        let mut stopped = task::spawn(lifecycle.stopped());
        assert_pending!(stopped.poll());
        lifecycle.end();
        assert_ready!(stopped.poll());
        assert_eq!(lifecycle.watch_mode().current(), Mode::Quit);
        assert_eq!(lifecycle.drain_signal().stage(), DrainStage::Serving);
    }
}
