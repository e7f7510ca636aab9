//! Upgrades whose old process is the test, which hands over and refuses when it wants.

use crate::{
    gate::{Folder, backend, line, program},
    support::{child::Child, eventually},
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::{
    io::{IoSlice, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
    time::Duration,
};

/// The old process, with the new one that has asked it for its sockets.
struct Predecessor {
    folder: Folder,
    front: UnixListener,
    _offer: UnixListener,
    stream: UnixStream,
    new: Child,
}

impl Predecessor {
    /// Starts a new process whose listener has `front.socket` and these addresses on TCP.
    async fn start(more: &[String]) -> Self {
        let folder = Folder::new();
        let listen: String = more.iter().map(|it| format!(", \"{it}\"")).collect();
        let server = backend("one").await;
        let file = folder.write(
            "gate.toml",
            format!(
                "version = 1\n[process]\nupgrade-socket = \"upgrade.socket\"\n[admin]\n\
                 listen = \"unix:admin.socket\"\n[[listener]]\nname = \"a\"\n\
                 listen = [\"unix:front.socket\"{listen}]\nbackend = \"b\"\n\
                 [[backend]]\nname = \"b\"\nservers = \"{server}\"\n"
            ),
        );
        let bind = |name| UnixListener::bind(folder.path(name)).expect("the folder is writable");
        let (front, offer) = (bind("front.socket"), bind("upgrade.socket"));
        let file = file.to_str().expect("it is UTF-8");
        let new = Child::start(program(["run", "--config", file])).expect("it starts");
        let (stream, _) = offer.accept().expect("a new process");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let mut old = Self {
            folder,
            front,
            _offer: offer,
            stream,
            new,
        };
        assert_eq!(old.receive().expect("a greeting").0, HELLO);
        old
    }

    /// Hands over `front.socket`, as it is called in the configuration.
    fn hand_over_front(&self) {
        let path = self.folder.path("front.socket");
        self.hand_over(&format!("unix:{}", path.display()), self.front.as_fd());
    }

    fn hand_over(&self, address: &str, socket: BorrowedFd<'_>) {
        let message = message(SOCKET, &format!("a {address}"));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let sockets = [socket];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&sockets)));
        let parts = [IoSlice::new(&message)];
        let sent = sendmsg(&self.stream, &parts, &mut ancillary, SendFlags::empty());
        assert_eq!(sent.expect("it is open"), message.len());
    }

    fn send(&mut self, kind: u8, text: &str) {
        let sent = self.stream.write_all(&message(kind, text));
        sent.expect("it is open");
    }

    /// The next message. `None` at the end.
    fn receive(&mut self) -> Option<(u8, String)> {
        let mut head = [0; 3];
        self.stream.read_exact(&mut head).ok()?;
        let mut text = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        self.stream.read_exact(&mut text).expect("its text");
        Some((head[0], String::from_utf8(text).expect("it is UTF-8")))
    }

    async fn is_new_ready(&self) -> bool {
        let admin = format!("unix:{}", self.folder.path("admin.socket").display());
        let output = program(["ctl", "--admin", &admin, "ready"]).output().await;
        output.expect("it runs").status.success()
    }
}

fn message(kind: u8, text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("it is short");
    let length = length.to_be_bytes();
    [&[kind, length[0], length[1]], text.as_bytes()].concat()
}

#[tokio::test]
async fn a_new_process_that_is_refused_gives_the_sockets_back_with_their_files() {
    let mut old = Predecessor::start(&[]).await;
    old.hand_over_front();
    old.send(ALL, "");
    // Before the new process says that it serves, as after a limit of time.
    old.send(REFUSED, "it took too long");
    old.stream
        .shutdown(std::net::Shutdown::Both)
        .expect("it is open");
    let ended = old.new.ended_within(PATIENCE).await;
    let said = old.new.log().join("\n");
    assert!(said.contains("it took too long"), "{said}");
    assert_eq!(ended.code(), Some(1));
    // The old process goes on at the same path.
    assert_accepts(&old).await;
    assert!(!old.folder.path("admin.socket").exists(), "its own file");
}

#[tokio::test]
async fn a_new_process_that_is_refused_after_it_was_ready_finishes_its_connections() {
    let mut old = Predecessor::start(&[]).await;
    old.hand_over_front();
    old.send(ALL, "");
    while old.receive().expect("it is ready").0 != READY {}
    let client = tokio::net::UnixStream::connect(old.folder.path("front.socket")).await;
    let mut client = client.expect("it listens");
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    old.send(REFUSED, "it changed its mind");
    old.new.says("this one drains").await;
    assert_accepts(&old).await;
    tokio::io::AsyncWriteExt::write_all(&mut client, b"still here\n")
        .await
        .expect("it is open");
    assert_eq!(line(&mut client).await.expect("an echo"), "still here");
    drop(client);
    assert_eq!(old.new.ended_within(PATIENCE).await.code(), Some(1));
    assert_accepts(&old).await;
}

#[tokio::test]
async fn a_new_process_whose_predecessor_has_ended_owns_the_files() {
    let mut old = Predecessor::start(&[]).await;
    old.hand_over_front();
    old.send(ALL, "");
    old.stream
        .shutdown(std::net::Shutdown::Both)
        .expect("it is open");
    old.new.says("has ended before it handed over").await;
    let client = tokio::net::UnixStream::connect(old.folder.path("front.socket")).await;
    let mut client = client.expect("it listens");
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    drop(client);
    old.new.signal("TERM").await;
    assert_eq!(old.new.ended_within(PATIENCE).await.code(), Some(0));
    assert!(!old.folder.path("front.socket").exists());
}

#[tokio::test]
async fn a_new_process_that_is_stopped_before_it_is_ready_leaves_the_old_one() {
    // More than what it can report while nothing is read.
    let addresses: Vec<_> = (20_000..20_800)
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let mut old = Predecessor::start(&addresses).await;
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    old.hand_over_front();
    for address in &addresses {
        old.hand_over(address, socket.as_fd());
    }
    old.send(ALL, "");
    old.new.says("admin interface on").await;
    old.new.signal("TERM").await;
    old.new.says("signal received").await;
    while old.is_new_ready().await {}
    let mut last = None;
    while let Some(message) = old.receive() {
        assert_ne!(message.0, READY);
        last = Some(message);
    }
    assert_eq!(last, Some((REFUSED, "it was stopped".into())));
    assert_eq!(old.new.ended_within(PATIENCE).await.code(), Some(0));
    assert_accepts(&old).await;
}

/// Clients at `front.socket` are those of the old process, once the new one has stopped accepting.
async fn assert_accepts(old: &Predecessor) {
    old.front.set_nonblocking(true).expect("it is open");
    eventually("the old process gets clients", || {
        let client = UnixStream::connect(old.folder.path("front.socket"));
        let _client = client.expect("its file is there");
        old.front.accept().is_ok()
    })
    .await;
}

const HELLO: u8 = 1;
const SOCKET: u8 = 2;
const ALL: u8 = 3;
const READY: u8 = 5;
const REFUSED: u8 = 7;
const PATIENCE: Duration = Duration::from_secs(30);
