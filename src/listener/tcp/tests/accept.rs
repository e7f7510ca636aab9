//! Accepting, sharding and adopting.

use super::*;

#[tokio::test]
async fn accept_now_sees_clients_that_the_runtime_has_not_heard_of() {
    let mut listener = listen(TcpOptions::new());
    // Registered, found empty, and not woken since, because this test never yields to the runtime.
    assert_pending!(spawn(listener.accept()).poll());
    let clients: Vec<_> = (0..5).map(|_| connect(&listener)).collect();

    for client in &clients {
        let accepted = listener.accept_now().unwrap().expect("five wait");
        let (stream, peer) = accepted.into_parts();
        assert_eq!(peer.ip(), Some(client.local_addr().unwrap()));
        // A blocking socket would block the whole runtime.
        let read = stream.try_read(&mut [0]);
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
    assert!(listener.accept_now().unwrap().is_none());

    // The runtime's listener still works.
    let client = connect(&listener);
    let (_, peer) = listener.accept().await.unwrap();
    assert_eq!(peer.ip(), Some(client.local_addr().unwrap()));
}

#[test]
fn a_listener_bound_outside_of_a_runtime_serves_in_the_one_that_polls_it() {
    let mut listener = listen(TcpOptions::new());
    let client = connect(&listener);
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap()
    };
    // Made in another runtime, which is dropped before the first poll.
    let mut second = runtime().block_on(async { listen(TcpOptions::new()) });
    let to_second = connect(&second);

    let served = std::thread::spawn(move || {
        runtime().block_on(async {
            let (_, first) = listener.accept().await.unwrap();
            let (_, second) = second.accept().await.unwrap();
            [first.ip(), second.ip()]
        })
    });
    let expected = [client, to_second].map(|client| client.local_addr().ok());
    assert_eq!(served.join().unwrap(), expected);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_shard_shares_the_port_and_has_a_queue_of_its_own() {
    let options = TcpOptions::new().with_reuse_port(true).with_nodelay(false);
    let first = listen(options);
    let second = first.shard().unwrap();
    assert_eq!(first.local, second.local);

    // The kernel chooses by a hash of the addresses, so each listener gets some of 64 clients.
    let clients: Vec<_> = (0..64).map(|_| connect(&first)).collect();
    let counts = [first, second].map(|mut listener| {
        let mut count = 0;
        while let Some(accepted) = listener.accept_now().unwrap() {
            let (stream, _) = accepted.into_parts();
            assert!(!stream.nodelay().unwrap(), "a shard has the same options");
            count += 1;
        }
        count
    });
    assert_eq!(counts.iter().sum::<usize>(), clients.len());
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
}

#[test]
fn a_shard_takes_reuse_port() {
    let error = listen(TcpOptions::new()).shard().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("bind with reuse_port"),
        "{error}"
    );
}

#[tokio::test]
async fn an_adopted_socket_gets_the_options_of_connections_and_keeps_its_own() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    #[cfg(target_os = "linux")]
    socket.set_reuse_port(true).unwrap();
    let any_port: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any_port.into()).unwrap();
    socket.listen(8).unwrap();

    let mut listener = TcpListener::from_std(socket.into()).unwrap();
    let _client = connect(&listener);
    let (stream, _) = listener.accept().await.unwrap();
    assert!(stream.nodelay().unwrap());
    assert!(SockRef::from(&stream).keepalive().unwrap());
    assert_eq!(listener.shard().is_ok(), cfg!(target_os = "linux"));
}

#[cfg(all(unix, not(target_vendor = "apple")))]
#[test]
fn a_socket_that_does_not_listen_is_not_adopted() {
    let stream = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any_port: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let bound = stream();
    bound.bind(&any_port.into()).unwrap();
    let listener = listen(TcpOptions::new());
    let connected = Socket::from(connect(&listener));
    let datagrams = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    datagrams.bind(&any_port.into()).unwrap();

    for socket in [bound, stream(), connected, datagrams] {
        let error = TcpListener::from_std(socket.into()).unwrap_err();
        assert!(error.is_not_listening(), "{error}");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let text = error.to_string();
        let end = "adopt failed: the socket does not listen; \
                   call listen(2) on it before passing it on";
        assert!(text.ends_with(end), "{text}");
    }
    let taken = TcpListener::bind(listener.local).unwrap_err();
    assert!(!taken.is_not_listening());
}

#[cfg(unix)]
#[test]
fn an_adopted_socket_is_kept_from_child_processes() {
    let any_port: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&any_port.into()).unwrap();
    socket.listen(1).unwrap();
    socket.set_cloexec(false).unwrap();
    let listener = TcpListener::from_std(socket.into()).unwrap();
    let flags = rustix::io::fcntl_getfd(&listener).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn a_client_that_was_too_quick_does_not_end_the_listener() {
    // The standard library reports an empty peer address like this.
    let quick = accept_error(io::Error::new(io::ErrorKind::InvalidInput, "invalid"));
    assert_eq!(quick.kind(), io::ErrorKind::ConnectionAborted);
    #[cfg(unix)]
    {
        let broken = accept_error(io::Error::from_raw_os_error(libc::EINVAL));
        assert_eq!(broken.raw_os_error(), Some(libc::EINVAL));
    }
}

#[tokio::test]
async fn a_dropped_accept_loses_no_connection() {
    let mut listener = listen(TcpOptions::new());
    let mut accept = spawn(listener.accept());
    assert_pending!(accept.poll());
    drop(accept);
    let client = connect(&listener);
    tokio::task::yield_now().await;
    let (_, peer) = listener.accept().await.unwrap();
    assert_eq!(peer.ip(), client.local_addr().ok());
    assert_eq!(listener.local_address(), Address::Ip(listener.local));
}
