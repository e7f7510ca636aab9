//! Records whether a task was woken.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

/// Whether a task was woken.
#[derive(Clone, Debug, Default)]
pub(super) struct Woken(Arc<WokenFlag>);

#[derive(Debug, Default)]
struct WokenFlag(AtomicBool);

impl Woken {
    /// A waker that sets the flag.
    pub(super) fn waker(&self) -> Waker {
        self.0.clone().into()
    }

    pub(super) fn is_woken(&self) -> bool {
        self.0.0.load(Ordering::Relaxed)
    }

    /// Whether the task is woken within a hundred turns of the other tasks.
    pub(super) async fn soon(&self) -> bool {
        for _ in 0..100 {
            if self.is_woken() {
                return true;
            }
            tokio::task::yield_now().await;
        }
        self.is_woken()
    }
}

impl Wake for WokenFlag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
