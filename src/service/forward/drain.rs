//! Whether the server of a connection drains, and the connection is then to end.

use super::service::DrainPolicy;
use portcullis_middleware::ConnectionInfo;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

pub(super) struct Drain {
    begins: Pin<Box<dyn Future<Output = ()> + Send>>,
    has_begun: bool,
    silence: Duration,
}

impl Drain {
    /// `None` if the connection goes on, or has no server.
    pub(super) fn new(client: &ConnectionInfo, policy: DrainPolicy) -> Option<Self> {
        let DrainPolicy::EndWhenIdle(silence) = policy else {
            return None;
        };
        client.drain_signal()?;
        Some(Self {
            begins: Box::pin(client.drain()),
            has_begun: false,
            silence,
        })
    }

    /// The silence that ends the connection, once the server drains. Until then, the task is woken by it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Duration> {
        self.has_begun = self.has_begun || matches!(self.begins.as_mut().poll(cx), Poll::Ready(()));
        self.has_begun.then_some(self.silence)
    }
}
