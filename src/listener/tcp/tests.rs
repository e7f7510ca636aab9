use super::*;
use socket2::{Domain, Socket, Type};
use std::{
    error::Error as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream as StdStream},
    time::Duration,
};
use tokio_test::{assert_pending, task::spawn};

fn listen(options: TcpOptions) -> TcpListener {
    options.bind("127.0.0.1:0").unwrap()
}

fn connect(listener: &TcpListener) -> StdStream {
    StdStream::connect(listener.local).unwrap()
}

/// Accepts a stream in both ways, through the runtime and straight from the kernel.
async fn accept_both_ways(options: TcpOptions) -> [TcpStream; 2] {
    let mut listener = listen(options);
    let _clients = [connect(&listener), connect(&listener)];
    let (first, _) = listener.accept().await.unwrap();
    let (second, _) = listener.accept_now().unwrap().unwrap().into_parts();
    [first, second]
}

/// Whether the machine has IPv6; prints a message if not.
fn has_ipv6() -> bool {
    let bound = std::net::TcpListener::bind("[::1]:0");
    if bound.is_err() {
        println!("skipped: this machine has no IPv6");
    }
    bound.is_ok()
}

#[tokio::test]
async fn connections_send_at_once_and_probe_for_dead_peers_by_default() {
    for stream in accept_both_ways(TcpOptions::new()).await {
        assert!(stream.nodelay().unwrap());
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        let time = socket.tcp_keepalive_time().unwrap();
        assert_eq!(time, Duration::from_secs(60));
        let interval = socket.tcp_keepalive_interval().unwrap();
        assert_eq!(interval, Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
        assert_eq!(socket.linger().unwrap(), None);
        #[cfg(any(target_os = "android", target_os = "linux"))]
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(Duration::from_secs(60 + 15 * 4))
        );
    }
}

#[cfg(any(target_os = "android", target_os = "linux"))]
#[tokio::test]
async fn unacknowledged_data_has_the_time_that_keepalive_has_unless_told_otherwise() {
    let keepalive = |keepalive| TcpOptions::new().with_keepalive(keepalive);
    let short = Keepalive::new()
        .with_time(Duration::from_millis(7_900))
        .with_interval(Duration::from_secs(3))
        .with_retries(2);
    let longest = Keepalive::new()
        .with_time(Duration::from_secs(32_767))
        .with_interval(Duration::from_secs(32_767))
        .with_retries(127);
    let given = |timeout| TcpOptions::new().with_user_timeout(timeout);
    for (options, expected) in [
        (keepalive(Some(short)), Some(13_000)),
        (keepalive(Some(longest)), Some(i32::MAX as u64)),
        (keepalive(None), None),
        (given(None), None),
        (given(Some(Duration::from_micros(500))), Some(1)),
        (given(Some(Duration::ZERO)), None),
        (given(Some(Duration::MAX)), Some(i32::MAX as u64)),
        (
            given(Some(Duration::from_secs(9))).with_keepalive(None),
            Some(9_000),
        ),
    ] {
        assert_eq!(options.user_timeout(), expected.map(Duration::from_millis));
        for stream in accept_both_ways(options.clone()).await {
            let timeout = SockRef::from(&stream).tcp_user_timeout().unwrap();
            assert_eq!(timeout, expected.map(Duration::from_millis), "{options:?}");
        }
    }
}

/// A client whose socket drops all input looks to the server like one that lost power.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_peer_that_vanishes_with_data_on_its_way_is_noticed_in_keepalives_time() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let second = Duration::from_secs(1);
    let keepalive = Keepalive::new().with_time(second).with_interval(second);
    let options = TcpOptions::new().with_keepalive(Some(keepalive.with_retries(1)));
    let mut listener = listen(options);
    let client = connect(&listener);
    let (mut server, _) = listener.accept().await.unwrap();
    let nothing = socket2::SockFilter::new(0x06, 0, 0, 0); // BPF: return 0, take no bytes
    SockRef::from(&client).attach_filter(&[nothing]).unwrap();

    server.write_all(b"anybody?").await.unwrap();
    let read = tokio::time::timeout(second * 30, server.read_u8()).await;
    let error = read.expect("noticed").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn what_is_on_by_default_can_be_turned_off() {
    let options = TcpOptions::new().with_nodelay(false).with_keepalive(None);
    for stream in accept_both_ways(options).await {
        assert!(!stream.nodelay().unwrap());
        assert!(!SockRef::from(&stream).keepalive().unwrap());
    }
}

#[tokio::test]
async fn connections_get_the_options_that_they_were_given() {
    let keepalive = Keepalive::new()
        .with_time(Duration::from_secs(7))
        .with_interval(Duration::from_secs(3))
        .with_retries(2);
    let options = TcpOptions::new()
        .with_keepalive(Some(keepalive))
        .with_linger(Some(Duration::ZERO))
        .with_recv_buffer_size(Some(12_000))
        .with_send_buffer_size(Some(16_000));
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let options = options.with_user_timeout(Some(Duration::from_millis(1_500)));

    for stream in accept_both_ways(options).await {
        let socket = SockRef::from(&stream);
        let time = socket.tcp_keepalive_time().unwrap();
        assert_eq!(time, Duration::from_secs(7));
        let interval = socket.tcp_keepalive_interval().unwrap();
        assert_eq!(interval, Duration::from_secs(3));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 2);
        assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
        #[cfg(any(target_os = "android", target_os = "linux"))]
        {
            // Linux includes its bookkeeping.
            assert_eq!(socket.recv_buffer_size().unwrap(), 24_000);
            assert_eq!(socket.send_buffer_size().unwrap(), 32_000);
            let timeout = socket.tcp_user_timeout().unwrap();
            assert_eq!(timeout, Some(Duration::from_millis(1_500)));
        }
    }
}

#[tokio::test]
async fn a_linger_time_below_a_second_does_not_become_a_reset() {
    let options = TcpOptions::new().with_linger(Some(Duration::from_millis(1)));
    let [stream, _] = accept_both_ways(options).await;
    let linger = SockRef::from(&stream).linger().unwrap();
    assert_eq!(linger, Some(Duration::from_secs(1)));
    // The longest timeout is valid too.
    drop(
        TcpOptions::new()
            .with_linger(Some(Duration::MAX))
            .bind("127.0.0.1:0"),
    );
}

#[cfg(unix)]
#[test]
fn the_listening_socket_has_the_options_of_binding() {
    let listener = listen(TcpOptions::new());
    let socket = SockRef::from(&listener);
    assert!(socket.reuse_address().unwrap());
    assert!(!socket.reuse_port().unwrap());
    assert!(socket.nonblocking().unwrap());

    let options = TcpOptions::new()
        .with_reuse_address(false)
        .with_reuse_port(true);
    let listener = listen(options);
    let socket = SockRef::from(&listener);
    assert!(!socket.reuse_address().unwrap());
    assert!(socket.reuse_port().unwrap());
}

#[test]
fn options_can_be_read_back() {
    let options = TcpOptions::new()
        .with_backlog(7)
        .with_nodelay(false)
        .with_keepalive(None)
        .with_linger(Some(Duration::ZERO))
        .with_recv_buffer_size(Some(12_000))
        .with_send_buffer_size(Some(16_000));
    let listener = listen(options);
    let options = listener.options();
    assert_eq!((options.backlog(), options.nodelay()), (7, false));
    assert_eq!(
        (options.keepalive(), options.linger()),
        (None, Some(Duration::ZERO))
    );
    let buffers = (options.recv_buffer_size(), options.send_buffer_size());
    assert_eq!(buffers, (Some(12_000), Some(16_000)));
    let defaults = (
        options.reuse_address(),
        options.reuse_port(),
        options.only_v6(),
    );
    assert_eq!(defaults, (true, false, false));
    let keepalive = Keepalive::new().with_retries(7);
    let times = (keepalive.time(), keepalive.interval());
    assert_eq!(times, (Duration::from_secs(60), Duration::from_secs(15)));
    assert_eq!(keepalive.retries(), 7);
}

#[cfg(target_os = "linux")]
#[test]
fn a_port_in_time_wait_takes_reuse_address_to_bind() {
    // An address that only this test uses, so that other tests cannot take the port.
    let std_listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let local = std_listener.local_addr().unwrap();
    let mut client = StdStream::connect(local).unwrap();
    let (server, _) = std_listener.accept().unwrap();
    // The server closes first, so its socket is the one in TIME-WAIT.
    drop((server, std_listener));
    io::Read::read(&mut client, &mut [0]).unwrap();
    drop(client);

    let without = TcpOptions::new().with_reuse_address(false).bind(local);
    assert_eq!(without.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    TcpOptions::new().bind(local).unwrap();
}

/// Linux holds one more connection than the backlog.
#[cfg(target_os = "linux")]
#[test]
fn the_backlog_bounds_how_many_wait() {
    let listener = listen(TcpOptions::new().with_backlog(1));
    let _queued = [connect(&listener), connect(&listener)];
    let one_more = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let late = one_more.connect_timeout(&listener.local.into(), Duration::from_millis(20));
    assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn an_ipv6_wildcard_takes_ipv4_too() {
    if !has_ipv6() {
        return;
    }
    let mut listener = TcpOptions::new().bind("[::]:0").unwrap();
    assert!(!SockRef::from(&listener).only_v6().unwrap());
    let to = (Ipv4Addr::LOCALHOST, listener.local.port());
    let client = StdStream::connect(to).unwrap();

    let (stream, peer) = listener.accept().await.unwrap();
    let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
    let port = client.local_addr().unwrap().port();
    assert_eq!(peer.ip(), Some((mapped, port).into()));
    // Only the connection knows which address the client connected to.
    let local = listener.connection_local_address(&stream);
    assert_eq!(local.ip(), Some((mapped, to.1).into()));
}

#[tokio::test]
async fn an_ipv6_only_wildcard_leaves_ipv4_to_others() {
    if !has_ipv6() {
        return;
    }
    // The port may already be used for IPv4.
    let (mut v6, mut v4) = (0..20)
        .find_map(|_| {
            let v6 = TcpOptions::new().with_only_v6(true).bind("[::]:0").unwrap();
            let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, v6.local.port())).ok()?;
            Some((v6, v4))
        })
        .expect("binds next to the other");
    assert!(SockRef::from(&v6).only_v6().unwrap());
    let port = v6.local.port();
    let _to_v4 = StdStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let _to_v6 = StdStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
    assert!(v4.accept().await.unwrap().1.ip().unwrap().is_ipv4());
    assert!(v6.accept().await.unwrap().1.ip().unwrap().is_ipv6());
    assert!(v4.accept_now().unwrap().is_none());
    assert!(v6.accept_now().unwrap().is_none());
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let taken = listen(TcpOptions::new());
    let error = TcpListener::bind(taken.local).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(
        (error.address(), error.step()),
        (&*taken.local.to_string(), "bind")
    );
    let text = error.to_string();
    let start = format!("cannot listen on {}: bind failed: ", taken.local);
    assert!(text.starts_with(&start), "{text}");
    assert!(
        text.ends_with("end that program, or choose another port"),
        "{text}"
    );
    assert!(error.source().unwrap().is::<io::Error>());
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn an_unknown_host_is_named_with_the_way_out() {
    let error = TcpListener::bind("no-such-host.invalid:80").unwrap_err();
    let text = error.to_string();
    let start = r#"cannot listen on "no-such-host.invalid:80": resolve failed: "#;
    assert!(text.starts_with(start), "{text}");
    assert!(
        text.ends_with("check the name, or give an IP address"),
        "{text}"
    );
}

#[test]
fn the_address_of_another_machine_is_refused() {
    let error = TcpListener::bind("192.0.2.1:0").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    let text = error.to_string();
    assert!(
        text.contains("no interface of this machine has this address"),
        "{text}"
    );
}

#[test]
fn what_is_no_address_is_refused_with_the_form_of_one() {
    for bad in ["127.0.0.1:99999", "127.0.0.1", "localhost:http", ""] {
        let error = TcpListener::bind(bad).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.step(), "resolve");
        let text = error.to_string();
        assert!(
            text.ends_with("write host:port, with a port from 0 to 65535 (or connect::Target for the name of a service)"),
            "{text}"
        );
    }
    let nothing: &[SocketAddr] = &[];
    assert!(TcpListener::bind(nothing).is_err());
    assert!(TcpOptions::new().bind_all(nothing).is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn a_refused_option_is_named() {
    let never = Keepalive::new().with_time(Duration::ZERO);
    let options = TcpOptions::new().with_keepalive(Some(never));
    let error = options.bind("127.0.0.1:0").unwrap_err();
    assert_eq!(error.step(), "keepalive");
    let text = error.to_string();
    assert!(text.contains("rejects this value of the option"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn bind_takes_the_first_address_that_works_and_bind_all_takes_all_or_none() {
    // An address that only this test uses, so that other tests cannot take the port.
    let port = TcpListener::bind("127.0.0.3:0").unwrap().local;
    let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let elsewhere: SocketAddr = "192.0.2.1:0".parse().unwrap();

    let first = TcpListener::bind(&[elsewhere, free][..]).unwrap();
    assert_eq!(first.local.ip(), free.ip());
    let all = TcpOptions::new().bind_all(&[port, free, port][..]).unwrap();
    assert_eq!(all.len(), 2, "the same address twice counts once");
    assert!(all.iter().all(|listener| listener.local.port() != 0));
    drop(all);

    let some = TcpOptions::new().bind_all(&[port, elsewhere][..]);
    assert_eq!(some.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    TcpListener::bind(port).expect("the first one is free again");
}

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
