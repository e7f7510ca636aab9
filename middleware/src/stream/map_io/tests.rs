use super::*;
use crate::{connection::Socket, io::BoxIo};
use std::{
    convert::Infallible,
    future::{Ready, pending, ready},
    io,
    sync::{Arc, Mutex},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream, DuplexStream, duplex};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{ServiceBuilder, ServiceExt, service_fn};

fn in_memory() -> (Connection<Socket<DuplexStream>>, DuplexStream) {
    let (ours, theirs) = duplex(64);
    (Connection::accept(ours), theirs)
}

/// Records its name on drop.
struct Note(&'static str, Arc<Mutex<Vec<&'static str>>>);

impl Drop for Note {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(self.0);
    }
}

#[tokio::test]
async fn the_io_changes_and_everything_else_goes_along() {
    let stack = ServiceBuilder::new()
        .layer(map_io(BufStream::new))
        .layer(try_map_io(|io| async {
            io::Result::Ok(tokio::io::join(tokio::io::empty(), io))
        }))
        .layer(BoxIoLayer::new())
        .layer(map_io(|io| io))
        .service_fn(|mut connection: Connection<_>| async move {
            let _: &BoxIo = connection.get_ref();
            assert_eq!(connection.extensions().get(), Some(&"left here"));
            connection.write_all(b"hi").await?;
            connection.shutdown().await?;
            io::Result::Ok(connection)
        });
    let (mut connection, mut theirs) = in_memory();
    let (guard, id) = (Arc::new(()), connection.id());
    connection.hold(guard.clone());
    connection.extensions_mut().insert("left here");

    let connection = stack.oneshot(connection).await.unwrap();

    assert_eq!((connection.id(), Arc::strong_count(&guard)), (id, 2));
    let mut received = String::new();
    theirs.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "hi");
}

#[test]
fn a_closure_that_cannot_fail_keeps_error_and_future() {
    fn serve(_: Connection<u16>) -> Ready<Result<(), Infallible>> {
        ready(Ok(()))
    }
    fn check<S>(_: &S)
    where
        S: Service<Connection<u8>, Error = Infallible, Future = Ready<Result<(), Infallible>>>,
        S: Clone + Send + Sync,
    {
    }
    check(&map_io(u16::from).layer(service_fn(serve)));
}

#[test]
fn a_service_prints_what_is_inside() {
    let map = map_io(|io: u8| io).layer("application");
    let try_map = try_map_io(|io: u8| ready(io::Result::Ok(io))).layer(map);
    let printed = format!("{:?}", BoxIoLayer::new().layer(try_map));
    let parts = ["BoxIoService", "TryMapIo", "MapIo", "application"];
    assert!(parts.iter().all(|part| printed.contains(part)), "{printed}");
}

#[tokio::test]
async fn a_closure_that_fails_leaves_the_rest_uncalled_and_nothing_behind() {
    let (inner, mut handle) = tower_test::mock::pair::<Connection<()>, ()>();
    handle.allow(1);
    let stack = ServiceBuilder::new()
        .layer(try_map_io(|_: Socket<DuplexStream>| async {
            Err::<(), _>(io::Error::from(io::ErrorKind::InvalidData))
        }))
        .service(inner);
    let (mut connection, mut theirs) = in_memory();
    let guard = Arc::new(());
    connection.hold(guard.clone());

    let error = stack.oneshot(connection).await.unwrap_err();

    assert_eq!(
        error.downcast::<io::Error>().unwrap().kind(),
        io::ErrorKind::InvalidData
    );
    assert!(handle.next_request().await.is_none());
    assert_eq!(Arc::strong_count(&guard), 1);
    assert!(theirs.read_u8().await.is_err(), "the end of the stream");
}

#[test]
fn the_inner_service_becomes_ready_after_the_change_and_not_before() {
    let (inner, mut handle) = tower_test::mock::pair::<Connection<()>, ()>();
    let layer = try_map_io(|_| async { io::Result::Ok(()) });
    let mut service = task::spawn(layer.layer(inner));
    let mut poll_ready = || service.enter(|cx, mut service| service.poll_ready(cx));
    handle.allow(0);
    assert_ready!(poll_ready()).unwrap();
    let mut served = task::spawn(service.call(in_memory().0));
    assert_pending!(served.poll());
    assert_pending!(handle.poll_request());
    handle.allow(1);
    assert!(served.is_woken());
    // The mock panics when it is called without being ready.
    assert_pending!(served.poll());
    let _request = assert_ready!(handle.poll_request()).unwrap();
}

#[test]
fn whenever_the_future_is_dropped_the_io_goes_before_the_guards() {
    for polls in [0, 1] {
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut service = try_map_io(|io: Note| async move {
            pending::<()>().await;
            Ok::<_, Infallible>(io)
        })
        .layer(service_fn(|_: Connection<Note>| ready(io::Result::Ok(()))));
        let mut connection = in_memory().0.map_io(|_| Note("io", log.clone()));
        connection.hold(Note("guard", log.clone()));

        let mut future = task::spawn(service.call(connection));
        for _ in 0..polls {
            assert_pending!(future.poll());
        }
        assert!(log.lock().unwrap().is_empty());
        drop(future);
        assert_eq!(*log.lock().unwrap(), ["io", "guard"], "after {polls} polls");
    }
}
