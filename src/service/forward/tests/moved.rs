//! A forced close wakes the task that polled last, whichever polled before.

use super::support::Once;
use crate::service::forward::{ForwardService, Forwarded};
use portcullis_middleware::{
    BoxError, Connection, ConnectionInfo,
    connection::{Address, ForcedClose},
    error::find,
    io::Passthrough,
    testing,
};
use std::{
    future::{Pending, pending},
    pin::Pin,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex};
use tokio_test::{
    assert_pending, assert_ready,
    task::{Spawn, spawn},
};
use tower::Service;

type Forwarding = Pin<Box<dyn Future<Output = Result<Forwarded, BoxError>>>>;

/// A task by whose waker a future is polled.
type Task = Spawn<Pending<()>>;

fn tasks() -> [Task; 2] {
    [(); 2].map(|()| spawn(pending()))
}

fn forward<IO, BackendIo>(client: Connection<IO>, backend: Connection<BackendIo>) -> Forwarding
where
    IO: AsyncRead + AsyncWrite + Passthrough + Unpin + Send + 'static,
    BackendIo: AsyncRead + AsyncWrite + Passthrough + Unpin + Send + 'static,
{
    Box::pin(ForwardService::new(Once::new(backend)).call(client))
}

#[track_caller]
fn assert_waits(task: &mut Task, forwarding: &mut Forwarding) {
    assert_pending!(task.enter(|cx, _| forwarding.as_mut().poll(cx)));
}

#[track_caller]
fn assert_is_closed(task: &mut Task, mut forwarding: Forwarding) {
    assert!(task.is_woken());
    let error = assert_ready!(task.enter(|cx, _| forwarding.as_mut().poll(cx))).unwrap_err();
    assert!(find::<ForcedClose>(&*error).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_forced_close_wakes_the_later_task_also_for_streams_without_a_socket() {
    for of_client in [true, false] {
        let infos = [(); 2].map(|()| ConnectionInfo::new(Address::Unknown, Address::Unknown));
        let ((client, _theirs), (backend, _server)) = (duplex(64), duplex(64));
        let mut forwarding = forward(
            Connection::new(client, infos[0].clone()),
            Connection::new(backend, infos[1].clone()),
        );
        let [mut first, mut second] = tasks();
        assert_waits(&mut first, &mut forwarding);
        assert_waits(&mut second, &mut forwarding);
        infos[usize::from(!of_client)].force_close();
        assert_is_closed(&mut second, forwarding);
    }
}

#[tokio::test(start_paused = true)]
async fn a_forced_close_wakes_a_task_that_has_the_connection_back() {
    let (client, mut theirs) = testing::in_memory(64);
    let (backend, mut server) = testing::in_memory(64);
    let info = client.info().clone();
    let mut forwarding = forward(client, backend);
    let [mut first, mut second] = tasks();
    assert_waits(&mut first, &mut forwarding);

    for _ in 0..2 {
        theirs.write_all(&[1; 64]).await.unwrap();
        assert_waits(&mut first, &mut forwarding);
    }
    // The second task does not read the client, because the backend accepts no more.
    assert_waits(&mut second, &mut forwarding);

    server.read_exact(&mut [0; 64]).await.unwrap();
    assert_waits(&mut first, &mut forwarding);
    info.force_close();
    assert_is_closed(&mut first, forwarding);
}
