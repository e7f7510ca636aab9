//! One thread that keeps time for a server, whatever its runtimes do.
//!
//! It sets alarms for the deadlines of the shutdown, which are watched here as well as by the runtime because a
//! blocked handler may hold up the runtime's timers. While connections are open, it also makes a beat every 50 ms;
//! see [`heartbeat`](super::heartbeat).
//!
//! The thread sleeps, without a timeout, while there is neither a connection nor a deadline.

use super::{heartbeat::Heartbeat, registry::Registry, workers::WorkerThread};
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
    time::{Instant, sleep_until},
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
        if settings.is_running {
            registry.begin_watch();
        }
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
        self.0.close();
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

    fn close(&self) {
        let mut settings = self.lock();
        settings.is_closed = true;
        // The handle of a stopped server must not keep the file descriptors of runtimes open.
        let heartbeat = settings.heartbeat.take();
        drop(settings);
        self.changed.notify_all();
        if let Some(heartbeat) = heartbeat {
            heartbeat.registry.end_watch();
        }
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
        // If a waker panics, the connections must not wait for deadlines that are no longer checked.
        let _close = CloseOnDrop(self);
        let mut settings = self.lock();
        while !settings.is_closed {
            let now = Instant::now();
            let next_alarm = settings.ring(now);
            let heartbeat = settings.heartbeat.as_mut();
            let next_beat = heartbeat.and_then(|heartbeat| heartbeat.beat_when_due(now));
            let heartbeat = settings.heartbeat.as_ref();
            if let Some(table) = heartbeat.and_then(|heartbeat| heartbeat.table_when_due(now)) {
                // Without the lock, because it wakes tasks, and a waker runs foreign code.
                drop(settings);
                table.expire(now);
                drop(table);
                settings = self.lock();
                if let Some(heartbeat) = &mut settings.heartbeat {
                    heartbeat.checked(now, now.elapsed());
                }
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
        heartbeat.pause();
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

struct CloseOnDrop<'a>(&'a ClockShared);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
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
            settings.heartbeat.as_ref().unwrap().missed(0) > 0
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
