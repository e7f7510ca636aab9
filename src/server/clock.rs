//! One thread that keeps time for a server, whatever its runtimes do.
//!
//! A handler that blocks its thread can stop more than itself. On tokio's multi-threaded runtime, the thread
//! that polled for events may run a ready task and block in it while all other threads are parked. Then none
//! of them polls for events or timers until the handler returns. A task that is spawned from outside wakes a
//! parked thread, so this thread spawns an empty one every 50 ms while connections are open.
//!
//! It also asks each worker thread for an answer in the same interval. A worker that gives none is blocked: it
//! gets no new connections until it answers, and the log names the connection that blocks it.
//!
//! Deadlines of the shutdown are watched here as well as by the runtime, because the runtime's timers may be
//! blocked.
//!
//! The thread sleeps, without a timeout, while there is neither a connection nor a deadline.

use super::{registry::Registry, workers::WorkerThread};
use portcullis_middleware::{ConnectionInfo, internal::uses_timers};
use std::{
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{oneshot, watch},
    time::{Instant, sleep_until, timeout},
};

/// Keeps time for a server; see the [module docs](self). Dropping it ends the thread.
#[derive(Debug, Default)]
pub(crate) struct Clock(Arc<ClockShared>);

/// What the thread shares with those who use it.
#[derive(Debug, Default)]
struct ClockShared {
    /// Set while the thread makes no beats until a connection comes.
    asleep: AtomicBool,
    settings: Mutex<ClockSettings>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ClockSettings {
    is_running: bool,
    is_closed: bool,
    /// Times from now on: only the thread reads the system's clock, since the caller's may be paused.
    new_alarms: Vec<(Duration, oneshot::Sender<()>)>,
    alarms: Vec<ClockAlarm>,
    heartbeat: Option<Heartbeat>,
}

#[derive(Debug)]
struct ClockAlarm {
    deadline: Instant,
    reached: oneshot::Sender<()>,
}

/// What is done every [`BEAT`] while connections are open.
#[derive(Debug)]
struct Heartbeat {
    registry: Arc<Registry>,
    /// The caller's runtime, where it has several threads and serves connections.
    caller: Option<Handle>,
    workers: Vec<Pulse>,
    /// `None` while the thread makes no beats.
    next_beat: Option<Instant>,
    /// Beats in a row without a connection.
    quiet_beats: u32,
    /// Workers to be named in the log, with the connection that each of them polls.
    newly_blocked: Vec<(usize, Option<ConnectionInfo>)>,
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

impl Clock {
    /// Begins to watch `workers`, or the caller's runtime if there are none.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(super) fn start(&self, registry: &Arc<Registry>, workers: &[WorkerThread]) {
        let caller = Handle::current();
        // A runtime of one thread has no other thread to wake.
        let wakes_caller =
            workers.is_empty() && caller.runtime_flavor() != RuntimeFlavor::CurrentThread;
        if !wakes_caller && workers.is_empty() {
            return;
        }
        let mut settings = self.0.lock();
        settings.heartbeat = Some(Heartbeat::new(
            registry,
            wakes_caller.then_some(caller),
            workers.iter().map(WorkerThread::runtime),
        ));
        self.0.run(&mut settings);
    }

    /// Tells the clock that there is a connection. It costs one load, unless the thread sleeps.
    #[inline]
    pub(super) fn connection_opened(&self) {
        if self.0.asleep.load(Ordering::Relaxed) {
            self.0.wake();
        }
    }

    /// Resolves at `deadline`, by the runtime's clock or the system's, whichever comes first.
    ///
    /// Dropping the future cancels the alarm.
    pub(super) async fn alarm(&self, deadline: Instant) {
        let (reached, alarm) = oneshot::channel();
        let time = deadline.saturating_duration_since(Instant::now());
        self.0.add(time, reached);
        tokio::select! {
            () = sleep_until(deadline) => {}
            // Without a thread there is still the runtime's clock.
            Ok(()) = alarm => {}
        }
    }

    /// Ends the thread, and lets go of the runtimes.
    pub(super) fn close(&self) {
        let mut settings = self.0.lock();
        settings.is_closed = true;
        // The handle of a stopped server must not keep the file descriptors of runtimes open.
        let heartbeat = settings.heartbeat.take();
        drop(settings);
        self.0.changed.notify_all();
        drop(heartbeat);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.close();
    }
}

impl ClockShared {
    fn lock(&self) -> MutexGuard<'_, ClockSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread, unless it runs.
    fn run(self: &Arc<Self>, settings: &mut ClockSettings) {
        if !settings.is_running {
            let shared = self.clone();
            let thread = thread::Builder::new().name("portcullis-clock".to_owned());
            settings.is_running = thread.spawn(move || shared.keep_time()).is_ok();
        }
    }

    fn add(self: &Arc<Self>, time: Duration, reached: oneshot::Sender<()>) {
        let mut settings = self.lock();
        settings.new_alarms.push((time, reached));
        self.run(&mut settings);
        drop(settings);
        self.changed.notify_all();
    }

    #[cold]
    fn wake(&self) {
        // Under the lock, so that it is not lost between the thread's last look and its sleep.
        let settings = self.lock();
        self.asleep.store(false, Ordering::Relaxed);
        drop(settings);
        self.changed.notify_all();
    }

    /// The thread.
    fn keep_time(&self) {
        let mut settings = self.lock();
        while !settings.is_closed {
            let now = Instant::now();
            let next_alarm = settings.ring(now);
            let heartbeat = settings.heartbeat.as_mut();
            let next_beat = heartbeat.and_then(|heartbeat| heartbeat.beat_when_due(now));
            let heartbeat = settings.heartbeat.as_mut();
            let blocked = heartbeat.map(|heartbeat| mem::take(&mut heartbeat.newly_blocked));
            if let Some(blocked) = blocked
                && !blocked.is_empty()
            {
                // Without the lock, because a log may block, and the shutdown must go on meanwhile.
                drop(settings);
                for (worker, connection) in blocked {
                    log_blocked(worker, connection.as_ref());
                }
                settings = self.lock();
                continue;
            }
            settings = match next_beat {
                Some(next_beat) => {
                    let pause = next_alarm.map_or(next_beat, |alarm| alarm.min(next_beat));
                    self.wait(settings, Some(pause))
                }
                None => self.sleep(settings, next_alarm),
            };
        }
    }

    /// Waits for a change, for up to `pause` if there is one.
    fn wait<'a>(
        &self,
        settings: MutexGuard<'a, ClockSettings>,
        pause: Option<Duration>,
    ) -> MutexGuard<'a, ClockSettings> {
        match pause {
            Some(pause) => {
                let waited = self.changed.wait_timeout(settings, pause);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let woken = self.changed.wait(settings);
                woken.unwrap_or_else(PoisonError::into_inner)
            }
        }
    }

    /// Sleeps until a connection, an alarm or the end of the server.
    fn sleep<'a>(
        &self,
        mut settings: MutexGuard<'a, ClockSettings>,
        next_alarm: Option<Duration>,
    ) -> MutexGuard<'a, ClockSettings> {
        let Some(heartbeat) = &mut settings.heartbeat else {
            return self.wait(settings, next_alarm);
        };
        heartbeat.timers = None;
        self.asleep.store(true, Ordering::Relaxed);
        // After the flag is set. The table's locks order both: a connection that this does not see, sees the flag.
        let settings = if heartbeat.registry.len() > 0 {
            settings
        } else {
            self.wait(settings, next_alarm)
        };
        self.asleep.store(false, Ordering::Relaxed);
        settings
    }
}

impl ClockSettings {
    /// Rings what is due, and returns the time until the next alarm.
    fn ring(&mut self, now: Instant) -> Option<Duration> {
        if self.alarms.is_empty() && self.new_alarms.is_empty() {
            return None;
        }
        let new = self.new_alarms.drain(..).filter_map(|(time, reached)| {
            let deadline = now.checked_add(time)?;
            Some(ClockAlarm { deadline, reached })
        });
        self.alarms.extend(new);
        let (due, later): (Vec<_>, Vec<_>) = mem::take(&mut self.alarms)
            .into_iter()
            .filter(|alarm| !alarm.reached.is_closed())
            .partition(|alarm| alarm.deadline <= now);
        self.alarms = later;
        for ClockAlarm { reached, .. } in due {
            let _ = reached.send(());
        }
        let next = self.alarms.iter().map(|alarm| alarm.deadline).min();
        next.map(|next| next - now)
    }
}

impl Heartbeat {
    fn new<'a>(
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
            newly_blocked: Vec::new(),
            timers: None,
        }
    }

    /// Beats if it is time, also after a sleep. Returns the time until the next beat, or `None` to sleep.
    ///
    /// An alarm wakes the thread between two beats, when a worker had no time to answer.
    fn beat_when_due(&mut self, now: Instant) -> Option<Duration> {
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
                self.newly_blocked
                    .push((worker, self.registry.polled(worker)));
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

fn log_blocked(worker: usize, connection: Option<&ConnectionInfo>) {
    let id = connection
        .map(ConnectionInfo::id)
        .map(tracing::field::display);
    let peer = connection
        .map(ConnectionInfo::peer)
        .map(tracing::field::display);
    tracing::warn!(
        worker,
        connection.id = id,
        peer,
        "a handler blocks its worker thread; move blocking work to spawn_blocking"
    );
}

/// How often the runtime is woken and workers are asked. Events wait for at most about this long because a handler
/// blocks the thread that polls for them.
const BEAT: Duration = Duration::from_millis(50);

/// Beats without a connection before the thread sleeps: waking it costs a system call, which a server with one
/// short connection after the other shall not pay each time.
const QUIET_BEATS: u32 = 20;

/// Shorter than the usual timeouts, so that it is the earliest timer, and long enough to cost nothing.
const KEPT_TIMER: Duration = Duration::from_secs(1);

/// Beats without an answer before a worker is called blocked in the log. A single one may be due to load.
const BEATS_BEFORE_LOG: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_middleware::testing::info;
    use std::{future::poll_fn, pin::pin, task::Poll};
    use tokio::runtime::{Builder, Runtime};

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    /// A registry with one worker.
    fn registry() -> Arc<Registry> {
        let registry = Arc::new(Registry::default());
        registry.start(1);
        registry
    }

    /// A clock that runs, with a worker that never answers.
    fn clock(registry: &Arc<Registry>, worker: &Runtime) -> Clock {
        let clock = Clock::default();
        let mut settings = clock.0.lock();
        settings.heartbeat = Some(Heartbeat::new(registry, None, [worker.handle()]));
        clock.0.run(&mut settings);
        drop(settings);
        clock
    }

    /// Waits until `condition` holds, or fails after ten seconds.
    #[allow(clippy::disallowed_methods, reason = "waits for a thread")]
    fn until(condition: impl Fn() -> bool) {
        for _ in 0..1000 {
            if condition() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("it did not happen");
    }

    #[tokio::test(start_paused = true)]
    async fn the_alarm_follows_the_runtime_s_clock() {
        let begun = Instant::now();
        Clock::default()
            .alarm(begun + Duration::from_secs(3600))
            .await;
        assert_eq!(begun.elapsed(), Duration::from_secs(3600));
    }

    #[test]
    fn the_alarm_rings_where_the_runtime_s_clock_stands_still() {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            // A task that is always awake keeps paused time from leaping.
            let busy = tokio::spawn(async {
                loop {
                    tokio::task::yield_now().await;
                }
            });
            let begun = Instant::now();
            let clock = Clock::default();
            // The later alarm does not hold up the earlier one.
            let mut later = pin!(clock.alarm(begun + Duration::from_secs(3600)));
            assert!(
                poll_fn(|cx| Poll::Ready(later.as_mut().poll(cx)))
                    .await
                    .is_pending()
            );
            clock.alarm(begun + Duration::from_millis(20)).await;
            assert_eq!(begun.elapsed(), Duration::ZERO);
            busy.abort();
        });
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
        let registry = registry();
        let _connection = registry.enter(0, registry.add_listener(), info());
        let mut heartbeat = Heartbeat::new(&registry, None, [runtime.handle()]);
        let begun = Instant::now();
        for early in 0..50 {
            let now = begun + Duration::from_millis(early);
            let left = heartbeat.beat_when_due(now).unwrap();
            assert_eq!(now + left, begun + BEAT);
        }
        assert_eq!(heartbeat.workers[0].missed, 0);
        heartbeat.beat_when_due(begun + BEAT);
        assert_eq!(heartbeat.workers[0].missed, 1);
        assert!(heartbeat.newly_blocked.is_empty());
        for beat in 2..5 {
            heartbeat.beat_when_due(begun + beat * BEAT);
        }
        assert_eq!(heartbeat.newly_blocked.len(), 1);
    }

    #[test]
    fn a_connection_wakes_the_clock_also_while_an_alarm_is_set() {
        let runtime = runtime();
        let registry = registry();
        let clock = clock(&registry, &runtime);
        let (reached, _alarm) = oneshot::channel();
        clock.0.add(Duration::from_secs(3600), reached);
        until(|| clock.0.asleep.load(Ordering::Relaxed));
        let _connection = registry.enter(0, registry.add_listener(), info());
        clock.connection_opened();
        until(|| {
            let settings = clock.0.lock();
            settings.heartbeat.as_ref().unwrap().workers[0].missed > 0
        });
    }

    #[test]
    fn a_clock_that_is_closed_keeps_neither_the_table_nor_the_runtimes() {
        let runtime = runtime();
        let registry = registry();
        let clock = clock(&registry, &runtime);
        clock.close();
        assert_eq!(Arc::strong_count(&registry), 1);
        until(|| Arc::strong_count(&clock.0) == 1);
    }
}
