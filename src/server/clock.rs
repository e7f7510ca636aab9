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
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};

/// Keeps time for a server; see the [module docs](self). Dropping it ends the thread.
#[derive(Debug, Default)]
pub(crate) struct Clock(Arc<Dial>);

/// What the thread shares with those who use it.
#[derive(Debug, Default)]
struct Dial {
    /// Set while the thread sleeps until a connection comes.
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
    alarms: Vec<Alarm>,
    heartbeat: Option<Heartbeat>,
}

#[derive(Debug)]
struct Alarm {
    deadline: Instant,
    reached: oneshot::Sender<()>,
}

/// What is done every [`BEAT`] while connections are open.
#[derive(Debug)]
struct Heartbeat {
    registry: Arc<Registry>,
    /// When it is due.
    next: Option<Instant>,
    /// True while each runtime has its [timer](keep_a_timer); replaced by one of each period with connections.
    timers: Option<Arc<AtomicBool>>,
    /// The caller's runtime, where it has several threads and serves connections.
    caller: Option<Handle>,
    workers: Vec<Pulse>,
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
        settings.heartbeat = Some(Heartbeat {
            registry: registry.clone(),
            next: None,
            timers: None,
            caller: wakes_caller.then_some(caller),
            workers: workers.iter().map(Pulse::new).collect(),
        });
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

    /// Ends the thread.
    pub(super) fn close(&self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.close();
    }
}

impl Dial {
    fn lock(&self) -> MutexGuard<'_, ClockSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread, unless it runs.
    fn run(self: &Arc<Self>, settings: &mut ClockSettings) {
        if !settings.is_running {
            let dial = self.clone();
            let thread = thread::Builder::new().name("portcullis-clock".to_owned());
            settings.is_running = thread.spawn(move || dial.keep_time()).is_ok();
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
        let mut last_connection: Option<Instant> = None;
        let mut settings = self.lock();
        while !settings.is_closed {
            let now = Instant::now();
            let next_alarm = settings.ring(now);
            let heartbeat = settings.heartbeat.as_mut();
            if heartbeat.is_some_and(|heartbeat| heartbeat.beat(now)) {
                last_connection = Some(now);
            }
            let beats = settings.heartbeat.is_some()
                && last_connection.is_some_and(|last| now - last < QUIET);
            settings = match next_alarm.into_iter().chain(beats.then_some(BEAT)).min() {
                Some(pause) => self.wait(settings, pause),
                None => {
                    let woken = self.sleep(settings);
                    // The connection that woke it may have ended already.
                    last_connection = Some(Instant::now());
                    woken
                }
            };
        }
    }

    fn wait<'a>(
        &self,
        settings: MutexGuard<'a, ClockSettings>,
        pause: Duration,
    ) -> MutexGuard<'a, ClockSettings> {
        let waited = self.changed.wait_timeout(settings, pause);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Sleeps until a connection, an alarm or the end of the server.
    fn sleep<'a>(
        &self,
        mut settings: MutexGuard<'a, ClockSettings>,
    ) -> MutexGuard<'a, ClockSettings> {
        if let Some(heartbeat) = &mut settings.heartbeat {
            heartbeat.stop_timers();
        }
        self.asleep.store(true, Ordering::Relaxed);
        let heartbeat = settings.heartbeat.as_ref();
        // After the flag is set. The table's locks order both: a connection that this does not see, sees the flag.
        let settings = if heartbeat.is_some_and(|heartbeat| heartbeat.registry.len() > 0) {
            settings
        } else {
            let woken = self.changed.wait(settings);
            woken.unwrap_or_else(PoisonError::into_inner)
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
            Some(Alarm { deadline, reached })
        });
        self.alarms.extend(new);
        let (due, later): (Vec<_>, Vec<_>) = mem::take(&mut self.alarms)
            .into_iter()
            .filter(|alarm| !alarm.reached.is_closed())
            .partition(|alarm| alarm.deadline <= now);
        self.alarms = later;
        for Alarm { reached, .. } in due {
            let _ = reached.send(());
        }
        let next = self.alarms.iter().map(|alarm| alarm.deadline).min();
        next.map(|next| next - now)
    }
}

impl Heartbeat {
    /// If it is due, wakes the runtime and asks the workers for an answer. False if there is no connection.
    fn beat(&mut self, now: Instant) -> bool {
        if self.registry.looks_empty() {
            return false;
        }
        if self.next.is_some_and(|next| now < next) {
            return true;
        }
        self.next = Some(now + BEAT);
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
                log_blocked(worker, self.registry.polled(worker).as_ref());
            }
        }
        true
    }

    fn start_timers(&mut self) {
        let needed = Arc::new(AtomicBool::new(true));
        for runtime in self
            .workers
            .iter()
            .map(|pulse| &pulse.runtime)
            .chain(&self.caller)
        {
            drop(runtime.spawn(keep_a_timer(needed.clone())));
        }
        self.timers = Some(needed);
    }

    fn stop_timers(&mut self) {
        if let Some(needed) = self.timers.take() {
            needed.store(false, Ordering::Relaxed);
        }
    }
}

/// Keeps a short timer armed in a runtime, which makes longer ones cheaper: a runtime without an earlier timer makes
/// a system call for each new one, to wake its driver.
async fn keep_a_timer(needed: Arc<AtomicBool>) {
    while needed.load(Ordering::Relaxed) {
        sleep(KEPT_TIMER).await;
    }
}

impl Pulse {
    fn new(worker: &WorkerThread) -> Self {
        Self {
            runtime: worker.runtime().clone(),
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

/// How often the runtime is woken and workers are asked. With it, a connection waits for at most about this long
/// because another one blocks a thread.
const BEAT: Duration = Duration::from_millis(50);

/// How long the thread goes on after the last connection. Waking it costs a system call, and a server that gets one
/// short connection after the other would make it each time.
const QUIET: Duration = Duration::from_secs(1);

/// Shorter than the usual timeouts, so that it is the earliest timer, and long enough to cost nothing.
const KEPT_TIMER: Duration = Duration::from_secs(1);

/// Beats without an answer before a worker is called blocked in the log. A single one may be due to load.
const BEATS_BEFORE_LOG: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, pin::pin, task::Poll};
    use tokio::runtime::Builder;

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
        let mut pulse = Pulse {
            runtime: runtime.handle().clone(),
            answered: Arc::new(AtomicBool::new(true)),
            missed: 0,
        };
        assert_eq!([pulse.beat(), pulse.beat(), pulse.beat()], [0, 1, 2]);
        runtime.block_on(tokio::task::yield_now());
        assert_eq!([pulse.beat(), pulse.beat()], [0, 1]);
    }
}
