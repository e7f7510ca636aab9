//! Sets the options of the backend's socket that only matter to a connection that lasts.

use portcullis_middleware::{
    ConnectionInfo,
    internal::{WakeUp, postpone_late_options, request_late_options},
};
use std::{pin::Pin, task::Context};
use tokio::time::Sleep;

/// Waits until the options are to be set.
#[derive(Debug)]
pub(super) enum LateTuning {
    /// There is nothing to set, or it was requested.
    Done,
    /// Until the clock of the client's server has reached this, which costs the runtime nothing.
    Clock(WakeUp),
    /// Until this timer of the runtime fires. A poll of it takes 250 instructions, which connections without a server's
    /// clock pay meanwhile.
    Timer(Pin<Box<Sleep>>),
}

impl LateTuning {
    /// Postpones the options of `backend` until `timer` fires.
    pub(super) fn new(backend: &ConnectionInfo, timer: impl FnOnce() -> Pin<Box<Sleep>>) -> Self {
        match postpone_late_options(backend) {
            true => Self::Timer(timer()),
            false => Self::Done,
        }
    }

    /// Once the time has come, the next operation of `backend` sets the options.
    #[inline]
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &ConnectionInfo,
        backend: &ConnectionInfo,
    ) {
        match self {
            Self::Done => {}
            Self::Clock(wake_up) if !wake_up.has_come(client) => {}
            _ => self.poll_time(cx, client, backend),
        }
    }

    #[cold]
    fn poll_time(
        &mut self,
        cx: &mut Context<'_>,
        client: &ConnectionInfo,
        backend: &ConnectionInfo,
    ) {
        if let Self::Timer(timer) = self {
            if let Some(wake_up) = WakeUp::set(client, timer.deadline(), cx.waker()) {
                *self = Self::Clock(wake_up);
                return;
            }
            // Not by tokio's budget, which a busy connection uses up.
            let mut timer = tokio::task::unconstrained(timer.as_mut());
            if Pin::new(&mut timer).poll(cx).is_pending() {
                return;
            }
        }
        *self = Self::Done;
        request_late_options(backend);
    }
}
