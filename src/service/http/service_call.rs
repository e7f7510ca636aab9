//! The call of the service for one request.

use super::body::RequestBody;
use http::Request;
use pin_project::pin_project;
use portcullis_middleware::BoxError;
use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};
use tower::{Service, ServiceExt, util::Oneshot};

/// Like [`Oneshot`], but calls the service immediately if it is ready, because requests are large to move.
#[pin_project(project = ServiceCallProjection)]
#[expect(
    clippy::large_enum_variant,
    reason = "a box for each request of HTTP/2 costs more than the space"
)]
pub(super) enum ServiceCall<S: Service<Request<RequestBody>>> {
    Begun(#[pin] S::Future),
    /// The service must become ready first.
    Awaited(#[pin] Oneshot<S, Request<RequestBody>>),
    /// The service failed to become ready.
    Failed(Option<BoxError>),
}

impl<S> ServiceCall<S>
where
    S: Service<Request<RequestBody>>,
    S::Error: Into<BoxError>,
{
    /// Calls `service` now if it is ready, and otherwise when it becomes ready.
    ///
    /// The result is passed straight to `then`, which stores it, because it is large as well.
    #[inline]
    pub(super) fn begin<T>(
        mut service: S,
        request: Request<RequestBody>,
        then: impl FnOnce(Self) -> T,
    ) -> T {
        // The future registers its waker later, when it is polled.
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => then(Self::Begun(service.call(request))),
            Poll::Ready(Err(error)) => then(Self::Failed(Some(error.into()))),
            Poll::Pending => then(Self::later(service, request)),
        }
    }

    /// Calls `service` when the future is polled.
    pub(super) fn later(service: S, request: Request<RequestBody>) -> Self {
        Self::Awaited(service.oneshot(request))
    }
}

impl<S> Future for ServiceCall<S>
where
    S: Service<Request<RequestBody>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<S::Response, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match self.project() {
            ServiceCallProjection::Begun(future) => future.poll(cx),
            ServiceCallProjection::Awaited(future) => future.poll(cx),
            ServiceCallProjection::Failed(error) => {
                return Poll::Ready(Err(error.take().expect("polled after completion")));
            }
        };
        result.map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::HttpService;
    use http::Response;
    use portcullis_middleware::testing::connection;
    use std::{convert::Infallible, sync::Arc, time::Duration};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        sync::Semaphore,
        task::JoinHandle,
        time::timeout,
    };
    use tower::{ServiceBuilder, limit::GlobalConcurrencyLimitLayer};

    /// Sends one HTTP/1 request to `app`.
    async fn ask<S>(app: S) -> (DuplexStream, JoinHandle<Result<(), BoxError>>)
    where
        S: Service<Request<RequestBody>, Response = Response<String>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        let (mut client, ours) = duplex(1024);
        let served = HttpService::new(app).call(connection(ours));
        let head = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";
        client.write_all(head).await.unwrap();
        (client, tokio::spawn(served))
    }

    #[derive(Clone)]
    struct Broken;

    impl Service<Request<RequestBody>> for Broken {
        type Response = Response<String>;
        type Error = BoxError;
        type Future = std::future::Pending<Result<Self::Response, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Err("broken".into()))
        }

        fn call(&mut self, _: Request<RequestBody>) -> Self::Future {
            unreachable!("never ready")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_is_not_ready_is_waited_for() {
        let permits = Arc::new(Semaphore::new(0));
        let app = ServiceBuilder::new()
            .layer(GlobalConcurrencyLimitLayer::with_semaphore(permits.clone()))
            .service_fn(|_| async { Ok::<_, Infallible>(Response::new("hello".to_owned())) });
        let (mut client, served) = ask(app).await;
        let early = timeout(Duration::from_secs(3600), client.read_u8()).await;
        early.expect_err("no answer yet");
        permits.add_permits(1);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
        drop(client);
        served.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_will_never_be_ready_ends_the_connection() {
        let (mut client, served) = ask(Broken).await;
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        served.await.unwrap().unwrap_err();
    }
}
