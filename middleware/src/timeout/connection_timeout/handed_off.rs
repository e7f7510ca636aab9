//! Goes on checking a connection that another task owns after its call has completed.

use super::future::Watch;
use crate::{internal::note_timer, log_text::Escaped};
use std::pin::pin;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

/// Checks the connection in a task of its own until it is closed or detached.
pub(super) fn go_on(mut watch: Box<Watch>) {
    if watch.checks.info().is_given_up() {
        return;
    }
    watch.clear_timer();
    // Without a runtime there are no timers.
    if let Ok(runtime) = Handle::try_current() {
        drop(runtime.spawn(check_until_gone(watch)));
    }
}

async fn check_until_gone(mut watch: Box<Watch>) {
    let checks = &mut watch.checks;
    let mut gone = pin!(checks.info().gone());
    while let Some(next) = checks.next() {
        note_timer();
        tokio::select! {
            () = &mut gone => return,
            () = sleep_until(next) => {}
        }
        if let Err(elapsed) = checks.check(Instant::now()) {
            let info = checks.info();
            info.force_close();
            let (peer, error) = (info.peer(), Escaped(&elapsed));
            tracing::debug!(
                connection.id = info.id().get(), %peer, %error,
                "connection from {peer} was handed off and is closed: {error}"
            );
            return;
        }
    }
}
