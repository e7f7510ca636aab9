//! A sleep that ends on time even when the runtime's own timer does not.
//!
//! A handler that blocks its worker may block the runtime's driver, and all timers with it, while other workers
//! are idle. A worker that parked while the driver was taken does not check the driver again, but a wake from
//! another thread reaches it. A handler that blocks must not delay the shutdown, so a watchdog thread also
//! enforces its deadlines.

use std::{sync::mpsc, thread};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

/// Resolves at `deadline`, by the runtime's clock or the system's, whichever comes first.
///
/// # Cancel safety
///
/// Dropping the future ends the thread.
pub(super) async fn alarm(deadline: Instant) {
    let (ring, rung) = oneshot::channel();
    // Dropping the sender ends the thread early.
    let (_dropped, cancelled) = mpsc::channel::<()>();
    let time = deadline.saturating_duration_since(Instant::now());
    let watch = thread::Builder::new()
        .name("portcullis-alarm".to_owned())
        .spawn(move || {
            if cancelled.recv_timeout(time) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = ring.send(());
            }
        });
    tokio::select! {
        () = sleep_until(deadline) => {}
        // If the thread could not be spawned, the runtime's clock remains.
        Ok(()) = rung, if watch.is_ok() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::runtime::Builder;

    #[tokio::test(start_paused = true)]
    async fn the_alarm_follows_the_runtime_s_clock() {
        let begun = Instant::now();
        alarm(begun + Duration::from_secs(3600)).await;
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
            alarm(begun + Duration::from_millis(20)).await;
            assert_eq!(begun.elapsed(), Duration::ZERO);
            busy.abort();
        });
    }
}
