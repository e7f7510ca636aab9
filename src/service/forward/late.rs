//! Sets the options of the backend's socket that only matter to a connection that lasts.

use portcullis_middleware::{
    ConnectionInfo,
    internal::{postpone_late_options, request_late_options},
};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::Sleep;

/// A timer after which the options are set; `None` if there is nothing to set.
#[derive(Debug)]
pub(super) struct LateTuning(Option<Pin<Box<Sleep>>>);

impl LateTuning {
    /// Postpones the options of `backend` until `timer` fires.
    pub(super) fn new(backend: &ConnectionInfo, timer: impl FnOnce() -> Pin<Box<Sleep>>) -> Self {
        Self(postpone_late_options(backend).then(timer))
    }

    /// Once the timer has fired, the next operation of `backend` sets the options. A task that is `new` is to be woken
    /// by it.
    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, backend: &ConnectionInfo, new: bool) {
        // A poll of the timer costs more than a look at it.
        if let Some(timer) = &mut self.0
            && (new || timer.is_elapsed())
        {
            // Not by tokio's budget, which a busy connection uses up.
            let mut timer = tokio::task::unconstrained(timer.as_mut());
            if let Poll::Ready(()) = Pin::new(&mut timer).poll(cx) {
                self.0 = None;
                request_late_options(backend);
            }
        }
    }
}
