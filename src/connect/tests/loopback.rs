//! Tests over real sockets.

use super::*;
use crate::listener::Keepalive;
use portcullis_middleware::{
    BoxError, Connection, ConnectionInfo,
    connection::Phase,
    error::{Elapsed, TimeoutPhase, find},
    timeout::TimeoutIo,
};
use socket2::SockRef;
use std::{net::Ipv4Addr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};
use tower::{ServiceBuilder, ServiceExt};

/// Makes one connection to a listener at `target` and returns both sides.
async fn both<T>(target: impl FnOnce(SocketAddr) -> T) -> (Connection<Socket<TcpStream>>, TcpStream)
where
    T: TryInto<Target, Error: Into<ConnectError>>,
{
    let (listener, address) = listener().await;
    let client = connect(target(address)).await.unwrap();
    assert_eq!(client.peer_addr(), Some(address));
    let (server, peer) = listener.accept().await.unwrap();
    assert_eq!(client.local_addr(), Some(peer));
    (client, server)
}

#[tokio::test]
async fn a_target_may_be_written_in_many_ways() {
    both(|address| address).await;
    both(Target::from).await;
    both(|address| (address.ip(), address.port())).await;
    both(|address| address.to_string()).await;
    both(|address| format!("localhost:{}", address.port())).await;
    both(|address| ("localhost", address.port())).await;
    both(|address| ("localhost".to_owned(), address.port())).await;
    both(|address| ("127.0.0.1", address.port())).await;
}

#[tokio::test]
async fn an_ipv6_address_in_brackets_is_connected_to() {
    let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else {
        return; // A machine without IPv6.
    };
    let address = listener.local_addr().unwrap();
    let text = format!("[::1]:{}", address.port());
    assert_eq!(connect(text).await.unwrap().peer_addr(), Some(address));
    let pair = ("::1", address.port());
    assert_eq!(connect(pair).await.unwrap().peer_addr(), Some(address));
}

#[tokio::test]
async fn a_client_is_the_same_kind_of_connection() {
    let (mut client, mut server) = both(|address| address).await;
    let known = client.info().clone();
    client.write_all(b"Good Bye!").await.unwrap();
    let answer = async {
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        drop(server);
        received
    };
    let (closed, received) = tokio::join!(client.close(), answer);
    closed.unwrap();
    assert_eq!(received, b"Good Bye!");
    assert_eq!((known.bytes_written(), known.phase()), (9, Phase::Closed));
}

#[tokio::test]
async fn an_abort_is_a_reset_for_the_server() {
    let (client, mut server) = both(|address| address).await;
    client.abort();
    let error = server.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_silent_server_is_a_read_timeout() {
    let (client, _server) = both(|address| address).await;
    // Paused only now, because a clock that runs ahead could time out the connect.
    tokio::time::pause();
    let bound = Duration::from_secs(5);
    let mut client = client.map_io(|io| TimeoutIo::new(io).with_read_timeout(bound));
    let error = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let elapsed = find::<Elapsed>(&error).unwrap();
    assert_eq!(*elapsed, Elapsed::new(TimeoutPhase::READ, bound));
}

#[tokio::test]
async fn a_port_without_a_server_refuses() {
    let (_bound, address) = refusing();
    let error = connect(address).await.unwrap_err();
    assert!(error.is_refused() && !error.is_timeout() && !error.is_unknown_host());
    assert_eq!(error.attempts().len(), 1);
    assert_eq!(error.attempts()[0].address(), address);
    assert_eq!(
        io::Error::from(error).kind(),
        io::ErrorKind::ConnectionRefused
    );
}

#[tokio::test]
async fn an_address_that_refuses_is_followed_by_the_next() {
    let (_bound, refusing) = refusing();
    let (_listener, address) = listener().await;
    let connector = resolving_to(vec![refusing, address]);
    let client = connector.connect(named()).await.unwrap();
    assert_eq!(client.peer_addr(), Some(address));
}

#[tokio::test]
async fn a_service_name_is_looked_up() {
    // Port 80 may be in use or free; the test only checks that it was tried.
    for target in [("127.0.0.1:http"), "[127.0.0.1]:http"] {
        match connect(target).await {
            Ok(client) => assert_eq!(client.peer_addr().unwrap().port(), 80),
            Err(error) => assert_eq!(error.attempts()[0].address().port(), 80, "{error}"),
        }
    }
    let connector = Connector::new().with_resolver(|host, port| async move {
        assert_eq!((host.as_str(), port), ("host.invalid", 443));
        Ok(vec![])
    });
    let error = connector
        .connect(("host.invalid", "https"))
        .await
        .unwrap_err();
    assert_eq!((error.step(), error.is_unknown_host()), ("resolve", true));
}

#[tokio::test]
async fn an_unknown_service_is_not_an_unknown_host() {
    let error = connect("localhost:no-such-service").await.unwrap_err();
    assert!(error.is_unknown_service() && !error.is_unknown_host());
    assert_eq!(
        (error.step(), error.kind()),
        ("service", io::ErrorKind::NotFound)
    );
    assert!(error.to_string().contains("\"no-such-service\""), "{error}");
}

#[tokio::test]
async fn a_name_that_nobody_has_is_an_unknown_host() {
    // A label has at most 63 bytes (RFC 1035), which the system checks without a name server.
    let name = format!("{}.invalid:80", "a".repeat(64));
    let error = connect(name).await.unwrap_err();
    assert!(
        error.is_unknown_host() && !error.is_unknown_service(),
        "{error}"
    );
    assert!(error.attempts().is_empty());
    assert_eq!(
        (error.step(), error.kind()),
        ("resolve", io::ErrorKind::NotFound)
    );
    let error = connect("nul\0.invalid:80").await.unwrap_err();
    assert_eq!(error.step(), "resolve");
}

#[tokio::test]
async fn what_is_badly_written_touches_no_network() {
    let error = connect("127.0.0.1:99999").await.unwrap_err();
    assert_eq!(error.bad_target(), Some(BadTarget::PortOutOfRange));
    let error = connect("").await.unwrap_err();
    assert_eq!(
        (error.bad_target(), error.step()),
        (Some(BadTarget::NoHost), "target")
    );
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn options_reach_the_socket() {
    let (_listener, address) = listener().await;
    let client = connect(address).await.unwrap();
    let stream = client.get_ref().get_ref();
    assert!(stream.nodelay().unwrap());
    assert!(SockRef::from(stream).keepalive().unwrap());

    let keepalive = Keepalive::new().with_time(Duration::from_secs(7));
    let connector = Connector::new()
        .with_nodelay(false)
        .with_keepalive(keepalive)
        .with_recv_buffer_size(12_000)
        .with_send_buffer_size(16_000)
        .with_local_address("127.0.0.1".parse::<std::net::IpAddr>().unwrap());
    let client = connector.connect(address).await.unwrap();
    let stream = client.get_ref().get_ref();
    assert!(!stream.nodelay().unwrap());
    #[cfg(target_os = "linux")]
    {
        let socket = SockRef::from(stream);
        let seconds = Duration::from_secs;
        assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds(7));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(seconds(7 + 60)));
        // Linux includes its bookkeeping.
        assert_eq!(socket.recv_buffer_size().unwrap(), 24_000);
        assert_eq!(socket.send_buffer_size().unwrap(), 32_000);
    }
    let local = client.local_addr().unwrap();
    assert!(local.ip() == Ipv4Addr::LOCALHOST && local.port() != 0);

    let bare = Connector::new().with_keepalive(None);
    let client = bare.connect(address).await.unwrap();
    assert!(
        !SockRef::from(client.get_ref().get_ref())
            .keepalive()
            .unwrap()
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_time_for_acknowledgements_can_be_set_and_left_to_the_system() {
    let (_listener, address) = listener().await;
    let minute = Duration::from_secs(60);
    for (connector, expected) in [
        (Connector::new(), Some(minute * 2)),
        (Connector::new().with_user_timeout(minute), Some(minute)),
        (Connector::new().with_user_timeout(None), None),
        (Connector::new().with_keepalive(None), None),
    ] {
        let client = connector.connect(address).await.unwrap();
        let socket = SockRef::from(client.get_ref().get_ref());
        assert_eq!(socket.tcp_user_timeout().unwrap(), expected);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_local_address_takes_no_port_from_other_destinations() {
    use nix::sys::socket::{getsockopt, sockopt::IpBindAddressNoPort};
    let (_listener, address) = listener().await;
    let local = std::net::IpAddr::from(Ipv4Addr::LOCALHOST);
    let connector = Connector::new().with_local_address(local);
    let client = connector.connect(address).await.unwrap();
    assert!(getsockopt(client.get_ref().get_ref(), IpBindAddressNoPort).unwrap());
    assert_ne!(client.local_addr().unwrap().port(), 0);
}

#[tokio::test]
async fn a_local_address_that_does_not_fit_is_named() {
    let (_listener, address) = listener().await;
    for (local, why) in [
        ("::1", "the local address ::1 is of the other IP version"),
        ("192.0.2.1", "local address 192.0.2.1: "),
    ] {
        let local: std::net::IpAddr = local.parse().unwrap();
        let connector = Connector::new().with_local_address(local);
        let error = connector.connect(address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_socket_that_is_both_ends_is_no_connection() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let Ok(stream) = socket.connect(address).await else {
        return; // Not every system has simultaneous open.
    };
    let error = stream::connection::<TcpStream>(stream, address, ConnectionInfo::new).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn the_peer_is_the_server_whatever_led_to_it() {
    let (_listener, address) = listener().await;
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    // Some systems take that for this machine, others refuse it.
    if let Ok(client) = connect(any).await {
        assert_eq!(client.peer_addr(), Some(address));
    }
}

#[tokio::test]
async fn a_connector_is_a_service() {
    let (_listener, address) = listener().await;
    let connector = ServiceBuilder::new()
        .concurrency_limit(1)
        .map_err(BoxError::from)
        .map_response(|connection: Connection<_>| connection.map_io(TimeoutIo::new))
        .service(Connector::new());
    let client = connector.clone().oneshot(address.into()).await.unwrap();
    assert_eq!(client.peer_addr(), Some(address));

    let (_bound, address) = refusing();
    let error: BoxError = connector.oneshot(address.into()).await.unwrap_err();
    assert!(find::<ConnectError>(&*error).unwrap().is_refused());
}

#[tokio::test(start_paused = true)]
async fn the_future_of_the_service_has_the_same_bound() {
    let silent = Connector::new().with_resolver(|_, _| std::future::pending());
    let begun = tokio::time::Instant::now();
    let hour = Duration::from_secs(3600);
    let connecting = tokio::time::timeout(hour, silent.oneshot(named())).await;
    let error = connecting.expect("it ends").unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(begun.elapsed(), Duration::from_secs(10));
}

#[test]
fn futures_may_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    is_send(&connect("localhost:80"));
    is_send(&Connector::new().connect(("localhost", "http")));
}
