//! The layer and its service.

use super::{
    counts::{AlarmCounts, AlarmRules},
    kind::{Alarm, AlarmKind},
    policy::{AlarmHandle, AlarmPolicy},
};
use crate::{BoxError, Connection, meter::Counter, observe::until_end::UntilEnd};
use pin_project::pin_project;
use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use tower::{Layer, Service};

/// Layer for [`AlarmWatch`]; see the [module docs](super).
///
/// Clones and their services share the counts, the thresholds and the other settings. A callback belongs to the clone
/// that it was added to.
#[derive(Clone, Debug)]
pub struct AlarmLayer {
    policy: AlarmPolicy,
}

impl AlarmLayer {
    /// Without any threshold. `listener` is the name in logs and metrics.
    pub fn new(listener: impl Into<String>) -> Self {
        let listener: Arc<str> = listener.into().into();
        let counter = |kind: AlarmKind| Counter::alarms(&listener, kind.as_str());
        let rules = AlarmRules {
            thresholds: [None; AlarmKind::ALL.len()],
            interval: MINUTE,
            cool_down: MINUTE,
            hysteresis: HYSTERESIS,
        };
        let policy = AlarmPolicy {
            counters: AlarmKind::ALL.map(counter),
            listener,
            callbacks: Vec::new(),
            counts: Arc::new(Mutex::new(AlarmCounts::new(rules))),
        };
        Self { policy }
    }

    /// Raises an alarm when the count of `kind` reaches `threshold`; `None` disables the alarm.
    ///
    /// # Panics
    ///
    /// Panics if the threshold is zero.
    #[must_use]
    pub fn with_threshold(self, kind: AlarmKind, threshold: impl Into<Option<u64>>) -> Self {
        let threshold = threshold.into();
        assert!(threshold != Some(0), "an alarm threshold of zero");
        self.with_rules(|rules| rules.thresholds[kind as usize] = threshold)
    }

    /// Sets how long connections are counted, for all kinds but [`Active`](AlarmKind::Active); by default a minute.
    ///
    /// # Panics
    ///
    /// Panics if `interval` is zero.
    #[must_use]
    pub fn with_interval(self, interval: Duration) -> Self {
        assert!(!interval.is_zero(), "an alarm interval of no time");
        self.with_rules(|rules| rules.interval = interval)
    }

    /// Sets how far below its threshold a count clears the alarm, in percent of the threshold; by default 10.
    ///
    /// # Panics
    ///
    /// Panics if `percent` is more than 100.
    #[must_use]
    pub fn with_hysteresis(self, percent: u8) -> Self {
        assert!(percent <= 100, "a hysteresis of more than 100 percent");
        self.with_rules(|rules| rules.hysteresis = percent.into())
    }

    /// Sets the shortest time between two alarms of the same kind; by default a minute.
    #[must_use]
    pub fn with_cool_down(self, cool_down: Duration) -> Self {
        self.with_rules(|rules| rules.cool_down = cool_down)
    }

    /// Calls `on_alarm` each time an alarm is raised or cleared.
    ///
    /// It runs where the change was found, which is in the task of a connection or in the drop of one, so it must
    /// not block. Its panics are caught. Several callbacks run in the order in which they were added.
    #[must_use]
    pub fn on_alarm(mut self, on_alarm: impl Fn(&Alarm<'_>) + Send + Sync + 'static) -> Self {
        self.policy.callbacks.push(Arc::new(on_alarm));
        self
    }

    /// Returns a handle that reads the counts and alarms.
    pub fn handle(&self) -> AlarmHandle {
        AlarmHandle(self.policy.counts.clone())
    }

    fn with_rules(self, change: impl FnOnce(&mut AlarmRules)) -> Self {
        self.policy.with(|counts| change(&mut counts.rules));
        self
    }
}

impl<S> Layer<S> for AlarmLayer {
    type Service = AlarmWatch<S>;

    fn layer(&self, inner: S) -> AlarmWatch<S> {
        let policy = Arc::new(self.policy.clone());
        AlarmWatch { inner, policy }
    }
}

/// Counts each connection that the inner service is called with, and raises alarms.
///
/// This layer never fails on its own. Its error type is still [`BoxError`], because it determines the
/// [outcome](crate::outcome::Outcome::of) by downcasting the error and its sources.
#[derive(Clone, Debug)]
pub struct AlarmWatch<S> {
    inner: S,
    policy: Arc<AlarmPolicy>,
}

impl<S, IO> Service<Connection<IO>> for AlarmWatch<S>
where
    S: Service<Connection<IO>, Error: Into<BoxError>>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = AlarmFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut connection: Connection<IO>) -> Self::Future {
        let policy = self.policy.clone();
        connection.hold_slot(policy.opened());
        let info = connection.info().clone();
        AlarmFuture(UntilEnd::call(info, policy, || self.inner.call(connection)))
    }
}

/// Future of [`AlarmWatch`].
///
/// # Cancel safety
///
/// Dropping it drops the inner future and then counts the end.
#[pin_project]
#[derive(Debug)]
pub struct AlarmFuture<F>(#[pin] UntilEnd<F, Arc<AlarmPolicy>>);

impl<F, T, E> Future for AlarmFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// In percent of the threshold.
const HYSTERESIS: u64 = 10;
