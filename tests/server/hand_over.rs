//! Sockets that pass from one server to another, as at the upgrade of a program.

#![cfg(unix)]

use crate::support::{echo_stack, echoed, eventually, scenario};
use portcullis::{
    Connection, Server, ServiceBuilderExt,
    listener::{AnyListener, TcpListener, TcpOptions, UnixListener, WeakSocket},
    server::{Handle, ListenerHandle, Workers},
};
use std::{
    env, fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tower::ServiceBuilder;

async fn assert_echoed(client: &mut TcpStream, text: &[u8]) {
    assert!(echoed(client, text).await.unwrap());
}

fn duplicates(listener: &ListenerHandle) -> Vec<OwnedFd> {
    let sockets = listener.sockets().iter();
    let duplicate = |socket: &WeakSocket| socket.duplicate().unwrap().expect("it is open");
    sockets.map(duplicate).collect()
}

fn serve(listener: impl Into<AnyListener>) -> (Handle, ListenerHandle) {
    let handle = Server::new().until_stopped().spawn().unwrap();
    let stack =
        ServiceBuilder::new()
            .peer_addr()
            .service_fn(async |mut connection: Connection<_>| {
                let mut byte = [0];
                while connection.read(&mut byte).await? > 0 {
                    connection.write_all(&byte).await?;
                }
                connection.close().await
            });
    let listener = handle.listen_as("front", listener.into(), stack);
    (handle, listener.unwrap())
}

fn socket_path(name: &str) -> PathBuf {
    env::temp_dir().join(format!("portcullis-{name}-{}", process::id()))
}

#[test]
fn a_client_in_the_queue_is_served_by_the_server_that_took_the_socket() {
    scenario(async {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let (old, front) = serve(tcp);
        let mut served = TcpStream::connect(address).await.unwrap();
        assert_echoed(&mut served, b"before").await;

        assert!(front.pause());
        let mut waiting = TcpStream::connect(address).await.unwrap();
        let socket = duplicates(&front).pop().unwrap();
        assert!(front.hand_over() && !front.hand_over());
        front.closed().await;
        assert_eq!(front.status().accepted, 1, "the queue was not emptied");
        assert!(front.sockets()[0].duplicate().unwrap().is_none());

        let adopted = TcpListener::from_std(socket.into()).unwrap();
        let (new, _) = serve(adopted);
        assert_echoed(&mut waiting, b"after").await;
        assert_echoed(&mut served, b"the old one goes on").await;
        drop(served);
        old.stop();
        assert!(old.wait().await.force_closed().is_empty());
        let mut later = TcpStream::connect(address).await.unwrap();
        assert_echoed(&mut later, b"later").await;
        drop((waiting, later));
        new.stop();
        new.wait().await;
        assert!(TcpStream::connect(address).await.is_err());
    });
}

#[test]
fn the_file_of_a_unix_socket_goes_to_the_new_owner() {
    scenario(async {
        async fn ask_at(path: &Path) {
            let mut client = UnixStream::connect(path).await.unwrap();
            client.write_all(b"hello").await.unwrap();
            let mut answer = [0; 5];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"hello");
        }
        let path = socket_path("hand-over");
        let (old, front) = serve(UnixListener::bind(&path).unwrap());
        ask_at(&path).await;
        let socket = duplicates(&front).pop().unwrap();
        front.hand_over();
        old.stop();
        old.wait().await;
        assert!(path.exists(), "the old server removed the file");

        let adopted = UnixListener::take_over(socket.into()).unwrap();
        let (new, _) = serve(adopted);
        ask_at(&path).await;
        new.stop();
        new.wait().await;
        assert!(!path.exists(), "the new server left the file");
    });
}

#[test]
fn a_file_that_replaced_that_of_the_socket_is_left_alone() {
    scenario(async {
        let path = socket_path("replaced");
        let bound = std::os::unix::net::UnixListener::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        drop(UnixListener::take_over(bound).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
        fs::remove_file(&path).unwrap();
    });
}

#[test]
fn the_sockets_of_all_workers_are_handed_over_also_to_fewer_workers() {
    scenario(async {
        let server = |workers| Server::new().workers(workers).until_stopped().spawn();
        let old = server(Workers::Sharded(3)).unwrap();
        let options = TcpOptions::new().with_reuse_port(true);
        let tcp = options.bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let front = old.listen_as("front", tcp, echo_stack()).unwrap();
        let sockets = duplicates(&front);
        assert_eq!(sockets.len(), 3);
        front.pause();
        let mut waiting = Vec::new();
        for _ in 0..12 {
            waiting.push(TcpStream::connect(address).await.unwrap());
        }
        front.hand_over();
        old.stop();
        old.wait().await;

        let new = server(Workers::Sharded(2)).unwrap();
        let adopted = sockets
            .into_iter()
            .map(|socket| options.adopt(socket.into()));
        let adopted: Result<Vec<_>, _> = adopted.collect();
        let front = new.listen_all_as("front", adopted.unwrap(), echo_stack());
        for client in &mut waiting {
            assert_echoed(client, b"hello").await;
        }
        let front = front.unwrap();
        eventually("all were accepted", || front.status().accepted == 12).await;
        drop(waiting);
        new.stop();
        new.wait().await;
    });
}

#[test]
fn a_listener_needs_a_socket() {
    scenario(async {
        let handle = Server::new().until_stopped().spawn().unwrap();
        let none: [TcpListener; 0] = [];
        assert!(handle.listen_all_as("front", none, echo_stack()).is_err());
        handle.stop();
        handle.wait().await;
    });
}
