//! Calls a service once it is ready, for layers that wait for the peer first.
//!
//! Readiness may hold a permit of a limit. A layer that reserved it before waiting for a client would let
//! silent clients hold permits. Such a layer is therefore always ready itself, keeps a clone of its inner
//! service, and waits for the clone's readiness after the client.

use crate::{
    BoxError, Connection,
    connection::{ForcedClose, Phase},
    departure::poll_client_left,
};
use pin_project::pin_project;
use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::Service;

/// Waits until `S` is ready and calls it with a connection. Fails with [`ForcedClose`] if the connection is
/// force-closed meanwhile, and with an I/O error if its client disconnects.
#[pin_project]
pub(crate) struct WhenReady<S: Service<Connection<IO>>, IO>(#[pin] WhenReadyState<S, IO>);

#[pin_project(project = WhenReadyProjection)]
enum WhenReadyState<S: Service<Connection<IO>>, IO> {
    Waiting {
        service: S,
        connection: Option<Connection<IO>>,
        /// Set if the service was not ready immediately.
        interruption: Option<Interruption>,
    },
    Serving(#[pin] S::Future),
}

struct Interruption {
    closed: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The phase before the wait.
    phase: Phase,
}

impl<S: Service<Connection<IO>>, IO> WhenReady<S, IO> {
    pub(crate) const fn new(service: S, connection: Connection<IO>) -> Self {
        Self(WhenReadyState::Waiting {
            service,
            connection: Some(connection),
            interruption: None,
        })
    }
}

impl<S, IO> Future for WhenReady<S, IO>
where
    S: Service<Connection<IO>, Error: Into<BoxError>>,
    IO: 'static,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().0;
        loop {
            match state.as_mut().project() {
                WhenReadyProjection::Waiting {
                    service,
                    connection,
                    interruption,
                } => {
                    let ready = match service.poll_ready(cx) {
                        Poll::Ready(ready) => ready.map_err(Into::into),
                        Poll::Pending => {
                            let waiting = connection.as_mut().expect(WAITS);
                            let interruption =
                                interruption.get_or_insert_with(|| Interruption::of(waiting));
                            match poll_client_left(waiting, cx) {
                                Poll::Ready(left) => Err(left.into()),
                                Poll::Pending => {
                                    ready!(interruption.closed.as_mut().poll(cx));
                                    Err(ForcedClose::new().into())
                                }
                            }
                        }
                    };
                    let connection = connection.take().expect(WAITS);
                    ready?;
                    if let Some(interruption) = interruption {
                        connection.info().set_phase(interruption.phase);
                    }
                    let serving = service.call(connection);
                    state.set(WhenReadyState::Serving(serving));
                }
                WhenReadyProjection::Serving(serving) => {
                    return serving.poll(cx).map_err(Into::into);
                }
            }
        }
    }
}

impl Interruption {
    fn of<IO>(connection: &Connection<IO>) -> Self {
        let info = connection.info();
        let phase = info.phase();
        info.set_phase(Phase::Waiting);
        let closed = Box::pin(info.closed());
        Self { closed, phase }
    }
}

/// Takes the service that has become ready, and leaves a clone of it.
///
/// Readiness belongs to the instance that was polled (see tower's `Service::poll_ready`), so a call that
/// happens later needs this one and not its clone.
pub fn take_ready<S: Clone>(service: &mut S) -> S {
    let clone = service.clone();
    mem::replace(service, clone)
}

const WAITS: &str = "a waiting connection has not been taken";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Socket;
    use std::sync::Arc;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, Interest, duplex},
        net::{TcpListener, TcpStream},
    };
    use tokio_test::{assert_pending, assert_ready, task};
    use tower_test::mock;

    type Io = Socket<DuplexStream>;

    #[test]
    fn a_connection_waits_in_its_phase_and_is_served_in_the_one_before() {
        let (service, mut handle) = mock::pair::<Connection<Io>, u8>();
        let connection = Connection::accept(duplex(8).0);
        let info = connection.info().clone();
        handle.allow(0);
        let mut served = task::spawn(WhenReady::new(service, connection));
        assert_pending!(served.poll());
        assert_eq!(info.phase(), Phase::Waiting);
        handle.allow(1);
        assert!(served.is_woken());
        assert_pending!(served.poll());
        assert_eq!(info.phase(), Phase::Serving);
        let request = assert_ready!(task::spawn(handle.next_request()).poll());
        request.unwrap().1.send_response(7);
        assert_eq!(assert_ready!(served.poll()).unwrap(), 7);
    }

    #[tokio::test]
    async fn a_connection_whose_client_leaves_does_not_wait_on() {
        let (service, mut handle) = mock::pair::<Connection<Socket<TcpStream>>, ()>();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let connection = Connection::accept(accepted.unwrap().0);
        handle.allow(0);
        let mut served = task::spawn(WhenReady::new(service, connection));
        assert_pending!(served.poll());
        drop(client);
        let error = served.await.unwrap_err();
        assert!(error.is::<std::io::Error>());
    }

    #[tokio::test]
    async fn a_client_whose_input_a_layer_has_read_may_wait_for_an_answer() {
        let (service, mut handle) = mock::pair::<Connection<Socket<TcpStream>>, u8>();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let mut connection = Connection::accept(accepted.unwrap().0);
        let mut client = client.unwrap();
        client.write_u8(1).await.unwrap();
        client.shutdown().await.unwrap();
        connection.read_u8().await.unwrap();
        let socket = connection.get_ref().get_ref();
        let has_ended = async || {
            let ready = socket.ready(Interest::READABLE).await.unwrap();
            ready.is_read_closed()
        };
        while !has_ended().await {
            tokio::task::yield_now().await;
        }
        handle.allow(0);
        let mut served = task::spawn(WhenReady::new(service, connection));
        assert_pending!(served.poll());
        assert_pending!(served.poll());
        handle.allow(1);
        assert_pending!(served.poll());
        handle.next_request().await.unwrap().1.send_response(7);
        assert_eq!(served.await.unwrap(), 7);
    }

    #[test]
    fn a_connection_that_is_closed_from_outside_does_not_wait_on() {
        let (service, mut handle) = mock::pair::<Connection<Io>, ()>();
        let mut connection = Connection::accept(duplex(8).0);
        let guard = Arc::new(());
        connection.hold(guard.clone());
        let info = connection.info().clone();
        handle.allow(0);
        let mut served = task::spawn(WhenReady::new(service, connection));
        assert_pending!(served.poll());
        info.force_close();
        assert!(served.is_woken());
        let error = assert_ready!(served.poll()).unwrap_err();
        assert!(error.is::<ForcedClose>());
        assert_eq!(Arc::strong_count(&guard), 1);
    }
}
