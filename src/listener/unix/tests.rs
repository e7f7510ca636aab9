use super::*;
use crate::listener::TcpListener;
use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream as StdStream,
    },
    path::PathBuf,
    process,
};
use tokio_test::{assert_pending, task::spawn};

/// A directory for one test; removed on drop.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(test: &str) -> Self {
        let name = format!("portcullis-{}-{test}", process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn join(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[tokio::test]
async fn a_connection_knows_the_path_and_has_an_unnamed_peer() {
    let directory = Directory::new("addresses");
    let path = directory.join("socket");
    let mut listener = UnixListener::bind(&path).unwrap();
    let _clients = [&path, &path].map(|path| StdStream::connect(path).unwrap());

    let (first, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, Address::Unix(UnixAddress::default()));
    let (second, peer) = listener.accept_now().unwrap().unwrap().into_parts();
    assert_eq!(peer, Address::Unix(UnixAddress::default()));

    let local = Address::Unix(UnixAddress::new(&path));
    assert_eq!(listener.path(), Some(&*path));
    assert_eq!(listener.local_address(), local);
    assert_eq!(listener.connection_local_address(&first), local);
    assert_eq!(listener.connection_local_address(&second), local);
}

#[tokio::test]
async fn accept_now_sees_clients_that_the_runtime_has_not_heard_of() {
    let directory = Directory::new("accept-now");
    let path = directory.join("socket");
    let mut listener = UnixListener::bind(&path).unwrap();
    assert_pending!(spawn(listener.accept()).poll());
    let clients: Vec<_> = (0..5).map(|_| StdStream::connect(&path).unwrap()).collect();

    for _ in &clients {
        let accepted = listener.accept_now().unwrap().expect("five wait");
        let (stream, _) = accepted.into_parts();
        let read = stream.try_read(&mut [0]);
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
    assert!(listener.accept_now().unwrap().is_none());

    let _client = StdStream::connect(&path).unwrap();
    listener.accept().await.unwrap();
}

#[test]
fn only_the_owner_may_connect_unless_told_otherwise() {
    let directory = Directory::new("mode");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let path = directory.join("default");
    let _default = UnixListener::bind(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    let path = directory.join("group");
    let _group = UnixOptions::new().with_mode(0o666).bind(&path).unwrap();
    assert_eq!(mode(&path), 0o666, "whatever the umask");
}

#[cfg(target_os = "linux")]
#[test]
fn the_file_has_no_wider_mode_from_its_first_moment_on() {
    let directory = Directory::new("first-mode");
    for (name, mode) in [("owner", 0o600), ("group", 0o640)] {
        let path = directory.join(name);
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        file::limit_mode(&socket, mode);
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777 & !mode, 0);
    }
}

#[test]
fn what_has_taken_the_place_of_the_socket_keeps_its_mode() {
    let directory = Directory::new("swapped");
    let secret = directory.join("secret");
    fs::write(&secret, "precious").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let link = directory.join("link");
    std::os::unix::fs::symlink(&secret, &link).unwrap();

    for path in [&link, &secret] {
        let failed = SocketFile::new(path, 0o666).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::AlreadyExists);
        assert!(fs::symlink_metadata(path).is_ok(), "it stays");
        assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_socket_that_was_taken_over_gets_a_new_mode_and_what_has_replaced_its_file_does_not() {
    let directory = Directory::new("taken-over-mode");
    let path = directory.join("socket");
    let mode = || fs::metadata(&path).unwrap().mode() & 0o777;
    let before = std::os::unix::net::UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let listener = UnixListener::take_over(before).unwrap();
    assert_eq!(mode(), 0o666);
    let socket = listener.socket().unwrap();
    socket.set_mode(0o600).unwrap();
    assert_eq!(mode(), 0o600);

    fs::remove_file(&path).unwrap();
    let missing = socket.set_mode(0o666).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    // While the first one is open, so that it has another number.
    let other = std::os::unix::net::UnixListener::bind(directory.join("other")).unwrap();
    fs::rename(directory.join("other"), &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let replaced = socket.set_mode(0o666).unwrap_err();
    assert_eq!(replaced.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(mode(), 0o600);
    drop((listener, other));
    socket.set_mode(0o666).unwrap();
    assert_eq!(mode(), 0o600);
}

#[test]
fn a_stale_socket_file_is_replaced() {
    let directory = Directory::new("stale");
    let path = directory.join("socket");
    // The standard library does not remove the file.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());

    let _listener = UnixListener::bind(&path).unwrap();
    StdStream::connect(&path).unwrap();
}

#[test]
fn a_socket_that_somebody_listens_on_is_left_alone() {
    let directory = Directory::new("occupied");
    let path = directory.join("socket");
    let listener = UnixOptions::new().with_backlog(0).bind(&path).unwrap();
    let check = || {
        let error = UnixListener::bind(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let text = error.to_string();
        let start = format!("cannot listen on unix:{}: bind failed: ", path.display());
        assert!(text.starts_with(&start), "{text}");
        assert!(text.contains("another program listens there"), "{text}");
    };
    check();
    // The queue is full now, so a blocking probe would wait indefinitely.
    check();
    check();
    drop(listener);
    UnixListener::bind(&path).unwrap();
}

#[test]
fn a_file_that_is_not_a_socket_is_left_alone() {
    let directory = Directory::new("regular");
    let path = directory.join("file");
    fs::write(&path, "precious").unwrap();
    let target = directory.join("target");
    drop(std::os::unix::net::UnixListener::bind(&target).unwrap());
    let link = directory.join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();

    for path in [&path, &link] {
        let error = UnixListener::bind(path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let text = error.to_string();
        assert!(text.contains("a file that is not a socket"), "{text}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[tokio::test]
async fn the_file_goes_with_the_listener() {
    let directory = Directory::new("drop");
    let path = directory.join("socket");
    let mut listener = UnixListener::bind(&path).unwrap();
    assert_pending!(spawn(listener.accept()).poll());
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn a_file_that_has_replaced_ours_stays() {
    let directory = Directory::new("replaced");
    let path = directory.join("socket");
    let old = UnixListener::bind(&path).unwrap();
    // Kept under another name, so that the new file cannot get the same inode number.
    fs::rename(&path, directory.join("moved")).unwrap();
    let _new = UnixListener::bind(&path).unwrap();
    drop(old);
    StdStream::connect(&path).unwrap();
}

#[test]
fn an_inherited_socket_leaves_its_file_to_whoever_made_it() {
    let directory = Directory::new("inherited");
    let path = directory.join("socket");
    let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut listener = UnixListener::from_std(socket).unwrap();
    assert!(listener.accept_now().unwrap().is_none(), "does not block");
    assert_eq!(listener.path(), Some(&*path));
    drop(listener);
    assert!(path.exists());
}

#[cfg(not(target_vendor = "apple"))]
#[test]
fn a_socket_that_does_not_listen_is_not_adopted() {
    let directory = Directory::new("bound-only");
    let bound = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let path = directory.join("socket");
    bound.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    let unbound = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let (connected, _peer) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
    for socket in [bound, unbound, connected] {
        let error = UnixListener::from_std(socket.into()).unwrap_err();
        assert!(error.is_not_listening(), "{error}");
        assert_eq!(
            (error.step(), error.kind()),
            ("adopt", io::ErrorKind::InvalidInput)
        );
    }
}

#[test]
fn an_adopted_socket_is_kept_from_child_processes() {
    let directory = Directory::new("cloexec");
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let path = directory.join("socket");
    socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(1).unwrap();
    socket.set_cloexec(false).unwrap();
    let listener = UnixListener::from_std(socket.into()).unwrap();
    let flags = rustix::io::fcntl_getfd(&listener).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn paths_that_no_socket_can_have_are_refused() {
    let directory = Directory::new("paths");
    let long = directory.join(&"x".repeat(200));
    for path in [
        Path::new(""),
        Path::new("\0abstract"),
        Path::new("a\0b"),
        &long,
    ] {
        let error = UnixListener::bind(path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.step(), "path");
    }
    let nowhere = UnixListener::bind(directory.join("no/such/directory")).unwrap_err();
    assert!(
        nowhere.to_string().ends_with("create the directory first"),
        "{nowhere}"
    );
}

#[test]
fn a_failed_bind_leaves_no_file_behind() {
    let directory = Directory::new("failed");
    let path = directory.join("socket");
    let (_socket, file) = UnixOptions::new().bind_file(&path).unwrap();
    assert!(path.exists());
    drop(file);
    assert!(!path.exists());
}

#[test]
fn a_tcp_socket_is_no_unix_socket() {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let descriptor = std::os::fd::OwnedFd::from(tcp);
    let error = UnixListener::from_std(descriptor.into()).unwrap_err();
    assert!(
        error.to_string().contains("must be a Unix socket"),
        "{error}"
    );

    let (unix, _) = StdStream::pair().unwrap();
    let descriptor = std::os::fd::OwnedFd::from(unix);
    let error = TcpListener::from_std(descriptor.into()).unwrap_err();
    assert!(
        error.to_string().contains("must be an IP socket"),
        "{error}"
    );
}
