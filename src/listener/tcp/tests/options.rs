//! Options of listeners and of the connections that they accept.

use super::*;

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
