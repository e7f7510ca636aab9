//! What the clock does every 50 ms while connections are open.
//!
//! A handler that blocks its thread can stop more than itself. On tokio's multi-threaded runtime, the thread
//! that polled for events may run a ready task and block in it while all other threads are parked. Then none
//! of them polls for events or timers until the handler returns. A task that is spawned from outside wakes a
//! parked thread, so each beat spawns an empty one.
//!
//! A beat also asks each worker thread for an answer. A worker that gives none is blocked: it gets no new
//! connections until it answers, and the log names the connection that blocks it.
//!
//! After a beat, the clock checks the deadlines of reads and writes in the table of connections, unless that would
//! take more than a hundredth of a CPU.

use super::registry::Registry;
use portcullis_middleware::{ConnectionInfo, internal::uses_timers};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, timeout},
};

/// What is done every [`BEAT`] while connections are open.
#[derive(Debug)]
pub(super) struct Heartbeat {
    pub(super) registry: Arc<Registry>,
    /// The caller's runtime, where it has several threads and serves connections.
    caller: Option<Handle>,
    workers: Vec<Pulse>,
    /// `None` while the thread makes no beats.
    next_beat: Option<Instant>,
    /// Beats in a row without a connection.
    quiet_beats: u32,
    /// When the deadlines are checked next, at the earliest.
    next_check: Option<Instant>,
    /// While there are connections, each runtime has a [timer](keep_a_timer) that ends when this is dropped.
    timers: Option<watch::Sender<()>>,
}

/// Whether a worker thread answers.
#[derive(Debug)]
struct Pulse {
    runtime: Handle,
    answered: Arc<AtomicBool>,
    missed: u32,
}

impl Heartbeat {
    pub(super) fn new<'a>(
        registry: &Arc<Registry>,
        caller: Option<Handle>,
        workers: impl IntoIterator<Item = &'a Handle>,
    ) -> Self {
        Self {
            registry: registry.clone(),
            caller,
            workers: workers.into_iter().map(Pulse::new).collect(),
            next_beat: None,
            quiet_beats: 0,
            next_check: None,
            timers: None,
        }
    }

    /// Beats if it is time, also after a sleep. Returns the time until the next beat, or `None` to sleep.
    ///
    /// An alarm wakes the thread between two beats, when a worker had no time to answer.
    pub(super) fn beat_when_due(&mut self, now: Instant) -> Option<Duration> {
        if let Some(next_beat) = self.next_beat
            && now < next_beat
        {
            return Some(next_beat - now);
        }
        let is_quiet = !self.beat();
        self.quiet_beats = if is_quiet { self.quiet_beats + 1 } else { 0 };
        if self.quiet_beats == QUIET_BEATS {
            self.quiet_beats = 0;
            self.next_beat = None;
            return None;
        }
        self.next_beat = Some(now + BEAT);
        Some(BEAT)
    }

    /// The table of connections, if it is time to check their deadlines.
    pub(super) fn table_when_due(&self, now: Instant) -> Option<Arc<Registry>> {
        let is_due = self.next_beat.is_some() && self.next_check.is_none_or(|next| next <= now);
        is_due.then(|| self.registry.clone())
    }

    /// Records that the check of `now` took `duration`.
    pub(super) fn checked(&mut self, now: Instant, duration: Duration) {
        self.next_check = Some(
            now + duration
                .saturating_mul(CHECK_PAUSE)
                .clamp(BEAT, LONGEST_PAUSE),
        );
    }

    /// How many beats in a row `worker` has not answered.
    #[cfg(test)]
    pub(super) fn missed(&self, worker: usize) -> u32 {
        self.workers[worker].missed
    }

    /// Stops the beats until a connection is opened.
    pub(super) fn pause(&mut self) {
        self.timers = None;
    }

    /// Wakes the runtime and asks the workers for an answer. False if there is no connection.
    fn beat(&mut self) -> bool {
        if self.registry.looks_empty() {
            return false;
        }
        if self.timers.is_none() && uses_timers() {
            self.start_timers();
        }
        if let Some(caller) = &self.caller {
            drop(caller.spawn(async {}));
        }
        for (worker, pulse) in self.workers.iter_mut().enumerate() {
            let missed = pulse.beat();
            self.registry.set_blocked(worker, missed > 0);
            if missed == BEATS_BEFORE_LOG {
                log_blocked(worker, self.registry.polled(worker));
            }
        }
        true
    }

    fn start_timers(&mut self) {
        let (needed, ended) = watch::channel(());
        let workers = self.workers.iter().map(|pulse| &pulse.runtime);
        for runtime in workers.chain(&self.caller) {
            drop(runtime.spawn(keep_a_timer(ended.clone())));
        }
        self.timers = Some(needed);
    }
}

/// Keeps a short timer armed in a runtime until the sender is dropped, which makes longer ones cheaper: a runtime
/// without an earlier timer makes a system call for each new one, to wake its driver.
async fn keep_a_timer(mut ended: watch::Receiver<()>) {
    while timeout(KEPT_TIMER, ended.changed()).await.is_err() {}
}

impl Pulse {
    fn new(runtime: &Handle) -> Self {
        Self {
            runtime: runtime.clone(),
            answered: Arc::new(AtomicBool::new(true)),
            missed: 0,
        }
    }

    /// Asks for an answer; returns how many beats in a row the worker has given none.
    fn beat(&mut self) -> u32 {
        if self.answered.swap(false, Ordering::Relaxed) {
            self.missed = 0;
            let answered = self.answered.clone();
            drop(
                self.runtime
                    .spawn(async move { answered.store(true, Ordering::Relaxed) }),
            );
        } else {
            self.missed = self.missed.saturating_add(1);
        }
        self.missed
    }
}

/// Writes the log line in a thread of its own, because a log may block, and the clock must not.
fn log_blocked(worker: usize, connection: Option<ConnectionInfo>) {
    let thread = thread::Builder::new().name("portcullis-log".to_owned());
    let _without_a_thread_no_line = thread.spawn(move || {
        let id = connection.as_ref().map(ConnectionInfo::id);
        let peer = connection.as_ref().map(ConnectionInfo::peer);
        tracing::warn!(
            worker,
            connection.id = id.map(tracing::field::display),
            peer = peer.map(tracing::field::display),
            "a handler blocks its worker thread; move blocking work to spawn_blocking"
        );
    });
}

/// How often the runtime is woken and workers are asked. Events wait for at most about this long because a handler
/// blocks the thread that polls for them.
const BEAT: Duration = Duration::from_millis(50);

/// Beats without a connection before the thread sleeps: waking it costs a system call, which a server with one
/// short connection after the other shall not pay each time.
const QUIET_BEATS: u32 = 20;

/// Shorter than the usual timeouts and than those with which a forwarder begins, so that it is the earliest timer, and
/// long enough to cost nothing beside the beats.
const KEPT_TIMER: Duration = Duration::from_millis(200);

/// Beats without an answer before a worker is called blocked in the log. A single one may be due to load.
const BEATS_BEFORE_LOG: u32 = 2;

/// Pause after a check, as a multiple of its duration.
const CHECK_PAUSE: u32 = 100;

/// Longest time between checks, so that a check that was held up does not put off the next one.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_middleware::testing::info;
    use tokio::runtime::{Builder, Runtime};

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn a_worker_that_does_not_answer_has_missed_a_beat() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let mut pulse = Pulse::new(runtime.handle());
        assert_eq!([pulse.beat(), pulse.beat(), pulse.beat()], [0, 1, 2]);
        runtime.block_on(tokio::task::yield_now());
        assert_eq!([pulse.beat(), pulse.beat()], [0, 1]);
    }

    #[test]
    fn a_worker_has_a_whole_beat_to_answer_whatever_wakes_the_clock() {
        let runtime = runtime();
        let registry = Arc::new(Registry::default());
        registry.start(1);
        let _connection = registry.enter(0, registry.add_listener(), info());
        let mut heartbeat = Heartbeat::new(&registry, None, [runtime.handle()]);
        let begun = Instant::now();
        for early in 0..50 {
            let now = begun + Duration::from_millis(early);
            let left = heartbeat.beat_when_due(now).unwrap();
            assert_eq!(now + left, begun + BEAT);
        }
        assert_eq!(heartbeat.missed(0), 0);
        heartbeat.beat_when_due(begun + BEAT);
        assert_eq!(heartbeat.missed(0), 1);
    }

    #[test]
    fn a_check_that_takes_long_is_made_less_often() {
        let registry = Arc::new(Registry::default());
        registry.start(1);
        let _connection = registry.enter(0, registry.add_listener(), info());
        let mut heartbeat = Heartbeat::new(&registry, None, []);
        let begun = Instant::now();
        assert!(heartbeat.table_when_due(begun).is_none());
        heartbeat.beat_when_due(begun);
        assert!(heartbeat.table_when_due(begun).is_some());
        for (took, next) in [(0, 50), (1, 100), (7, 700), (10, 1000), (100_000, 1000)] {
            heartbeat.checked(begun, Duration::from_millis(took));
            let next = begun + Duration::from_millis(next);
            assert!(
                heartbeat
                    .table_when_due(next - Duration::from_millis(1))
                    .is_none()
            );
            assert!(heartbeat.table_when_due(next).is_some());
        }
    }
}
