//! Real sockets.

use super::*;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A server that sends its name to each client.
async fn named(name: &'static str) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _gone = stream.write_all(name.as_bytes()).await;
        }
    };
    (address, tokio::spawn(serve))
}

/// A port that refuses connections while the socket exists.
fn refusing() -> (socket2::Socket, SocketAddr) {
    let (domain, kind) = (socket2::Domain::IPV4, socket2::Type::STREAM);
    let socket = socket2::Socket::new(domain, kind, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

async fn received(pool: &Pool) -> String {
    let mut connection = pool.connect(&client()).await.unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn one_of_three_is_down_and_no_connect_fails() {
    let (a, serve_a) = named("a").await;
    let (b, serve_b) = named("b").await;
    let (_bound, down) = refusing();
    for balance in BALANCES {
        let pool = Pool::builder().with_balance(balance).build([down, a, b]);
        for _ in 0..100 {
            assert!(["a", "b"].contains(&&*received(&pool).await));
        }
    }
    serve_a.abort();
    serve_b.abort();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_is_unread_and_what_is_unsent_is_seen_through_a_pool() {
    use portcullis_middleware::io::Passthrough;
    use std::future::poll_fn;
    use tokio::time::{sleep, timeout};

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pool = Pool::new([listener.local_addr().unwrap()]);
    let info = client();
    let (connected, accepted) = tokio::join!(pool.connect(&info), listener.accept());
    let (mut connection, (mut server, _)) = (connected.unwrap(), accepted.unwrap());
    assert!(!connection.get_ref().has_unread());
    server.write_all(b"hello").await.unwrap();
    let arrives = async {
        while !connection.get_ref().has_unread() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(30 * SECOND, arrives).await.unwrap();
    // The server does not read.
    let piece = [7; 65_536];
    while timeout(SECOND / 10, connection.write(&piece)).await.is_ok() {}
    let mut sent = tokio_test::task::spawn(poll_fn(|cx| connection.get_mut().poll_sent(cx)));
    assert!(sent.poll().is_pending());
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_may_listen_on_a_unix_socket() {
    let path =
        std::env::temp_dir().join(format!("portcullis-upstream-{}.sock", std::process::id()));
    let _old = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let pool = Pool::new([format!("unix:{}", path.display())
        .parse::<Server>()
        .unwrap()]);
    let client = client();
    let (connected, accepted) = tokio::join!(pool.connect(&client), listener.accept());
    let mut connected = connected.unwrap();
    assert!(matches!(connected.get_ref(), BackendIo::Plain(_)));
    connected.write_all(b"hello").await.unwrap();
    let mut text = [0; 5];
    accepted.unwrap().0.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"hello");
    std::fs::remove_file(&path).unwrap();
    drop(listener);
    let error = pool.connect(&client).await.unwrap_err();
    assert!(error.to_string().contains("unix:/"), "{error}");
}

#[cfg(feature = "proxy-protocol")]
#[tokio::test]
async fn the_server_learns_the_address_of_the_client() {
    use portcullis_middleware::proxy_protocol::ProxyHeaderEncoder;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::from(listener.local_addr().unwrap());
    let pool = Pool::new([server.with_proxy_header(ProxyHeaderEncoder::v1())]);
    let peer: SocketAddr = "198.51.100.7:40000".parse().unwrap();
    let local: SocketAddr = "192.0.2.1:443".parse().unwrap();
    let client = portcullis_middleware::ConnectionInfo::new(peer, local);
    let connection = pool.connect(&client).await.unwrap();
    let (mut accepted, _) = listener.accept().await.unwrap();
    drop(connection);
    let mut text = String::new();
    accepted.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "PROXY TCP4 198.51.100.7 192.0.2.1 40000 443\r\n");
}

/// Answers the next connection, and returns what it sent.
async fn answer(listener: &TcpListener, reply: &str) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = vec![0; 1024];
    let read = stream.read(&mut request).await.unwrap();
    stream.write_all(reply.as_bytes()).await.unwrap();
    String::from_utf8_lossy(&request[..read]).into_owned()
}

async fn first_check(pool: &Pool) -> CheckReport {
    loop {
        if let Some(report) = pool.servers()[0].last_check.clone() {
            return report;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_http_check_asks_for_its_path_and_looks_at_the_status() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Another port than that of the server.
    let (_bound, server) = refusing();
    let check = HealthCheck::http("/primary").with_port(port);
    for (check, status, passes) in [
        (check.clone(), "200 OK", true),
        (check.clone(), "503 Service Unavailable", false),
        (
            check.clone().with_statuses(503..=503),
            "503 Service Unavailable",
            true,
        ),
        (check.with_host("db.internal"), "399", true),
    ] {
        let is_named = format!("{check:?}").contains("db.internal");
        let pool = Pool::builder().with_health_check(check).build([server]);
        let request = answer(&listener, &format!("HTTP/1.1 {status}\r\n\r\n")).await;
        let host = if is_named {
            "db.internal".to_owned()
        } else {
            format!("127.0.0.1:{port}")
        };
        let expected = format!("GET /primary HTTP/1.1\r\nhost: {host}\r\n");
        assert!(request.starts_with(&expected), "{request}");
        let report = first_check(&pool).await;
        assert_eq!(report.passed, passes, "{}", report.text);
        assert_eq!(report.text, format!("status {}", &status[..3]));
    }
}

#[tokio::test]
async fn an_http_check_names_the_host_as_it_was_configured() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connector = crate::connect::Connector::new()
        .with_resolver(|_, port| std::future::ready(Ok(vec![([127, 0, 0, 1], port).into()])));
    for (server, other) in [(port, None), (1, Some(port))] {
        let mut check = HealthCheck::http("/");
        if let Some(other) = other {
            check = check.with_port(other);
        }
        let server: Server = format!("db.internal:{server}").parse().unwrap();
        let pool = Pool::builder().with_health_check(check);
        let pool = pool.with_connector(connector.clone()).build([server]);
        let request = answer(&listener, "HTTP/1.1 200 OK\r\n\r\n").await;
        let expected = format!("\r\nhost: db.internal:{port}\r\n");
        assert!(request.contains(&expected), "{request}");
        drop(pool);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn an_http_check_of_a_unix_socket_names_localhost() {
    let path = format!("portcullis-upstream-http-{}.sock", std::process::id());
    let path = std::env::temp_dir().join(path);
    let _old = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let pool = Pool::builder().with_health_check(HealthCheck::http("/"));
    let _pool = pool.build([Server::unix(&path)]);
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = vec![0; 1024];
    let read = stream.read(&mut request).await.unwrap();
    let request = String::from_utf8_lossy(&request[..read]);
    assert!(request.contains("\r\nhost: localhost\r\n"), "{request}");
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn an_exchange_passes_by_what_the_server_replies() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for (reply, passes, text) in [
        ("+PONG\r\n", true, "replied as expected"),
        ("-LOADING\r\n", false, "unexpected reply: -LOADING\\r\\n"),
        (
            "",
            false,
            "the server closed the connection without a reply",
        ),
    ] {
        let check = HealthCheck::exchange("PING\r\n", "+PONG");
        let pool = Pool::builder().with_health_check(check).build([address]);
        assert_eq!(answer(&listener, reply).await, "PING\r\n");
        let report = first_check(&pool).await;
        assert_eq!((report.passed, &*report.text), (passes, text));
    }
}

#[cfg(feature = "proxy-protocol")]
#[tokio::test]
async fn a_check_names_no_client_in_its_header() {
    use portcullis_middleware::proxy_protocol::ProxyHeaderEncoder;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::from(listener.local_addr().unwrap());
    let pool = Pool::builder().with_health_check(HealthCheck::tcp());
    let pool = pool.build([server.with_proxy_header(ProxyHeaderEncoder::v1())]);
    assert_eq!(answer(&listener, "").await, "PROXY UNKNOWN\r\n");
    assert!(first_check(&pool).await.passed);
}

#[tokio::test]
async fn plain_servers_let_their_socket_through() {
    use portcullis_middleware::io::Passthrough;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pool = Pool::new([listener.local_addr().unwrap()]);
    let connection = pool.connect(&client()).await.unwrap();
    // As `splice(2)` needs it.
    assert!(connection.get_ref().is_passthrough());
    let servers = Servers::new(1);
    let pool = servers.pool().build([Servers::server(1)]);
    let connection = pool.connect(&client()).await.unwrap();
    assert!(!connection.get_ref().is_passthrough());
}

#[tokio::test]
async fn servers_of_another_ip_version_do_not_use_up_the_attempts() {
    let (good, serve) = named("good").await;
    let local: std::net::IpAddr = "127.0.0.1".parse().unwrap();
    let connector = crate::connect::Connector::new().with_local_address(local);
    let bad = |port| SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
    let pool = Pool::builder()
        .with_connector(connector)
        .build([good, bad(1), bad(2), bad(3)]);
    let (mut held, mut failed) = (Vec::new(), 0);
    for _ in 0..20 {
        match pool.connect(&client()).await {
            Ok(connection) => held.push(connection),
            Err(_) => failed += 1,
        }
    }
    assert!(failed <= 1, "{failed} of 20 failed");
    serve.abort();
}

/// Linux includes its bookkeeping in the sizes, which doubles them.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_buffers_of_the_kernel_are_those_of_the_server_or_else_of_the_connector() {
    let (address, serve) = named("good").await;
    let connector = crate::connect::Connector::new()
        .with_recv_buffer_size(12_000)
        .with_send_buffer_size(16_000);
    for (recv, send, expected) in [
        (Some(20_000), None, (40_000, 32_000)),
        (None, Some(20_000), (24_000, 40_000)),
    ] {
        let server = Server::from(address)
            .with_recv_buffer_size(recv)
            .with_send_buffer_size(send);
        assert_eq!(
            (server.recv_buffer_size(), server.send_buffer_size()),
            (recv, send)
        );
        let pool = Pool::builder()
            .with_connector(connector.clone())
            .build([server]);
        let connection = pool.connect(&client()).await.unwrap();
        let BackendIo::Plain(socket) = connection.get_ref() else {
            unreachable!("there is no TLS");
        };
        let portcullis_middleware::connection::AnyStream::Tcp(stream) = socket.get_ref() else {
            unreachable!("it is TCP");
        };
        let socket = socket2::SockRef::from(stream);
        let sizes = (
            socket.recv_buffer_size().unwrap(),
            socket.send_buffer_size().unwrap(),
        );
        assert_eq!(sizes, expected);
    }
    serve.abort();
}

/// Linux fails such a connect immediately.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_backlog_of_a_unix_socket_is_waited_for() {
    use socket2::{Domain, SockAddr, Socket, Type};
    let name = format!("portcullis-backlog-{}.sock", std::process::id());
    let path = std::env::temp_dir().join(name);
    let _old = std::fs::remove_file(&path);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(1).unwrap();
    let pool = |timeout| {
        let builder = Pool::builder()
            .with_attempt_timeout(timeout)
            .with_timeout(timeout);
        builder.build([Server::unix(&path)])
    };
    let impatient = pool(SECOND / 2);
    let mut held = Vec::new();
    let error = loop {
        match impatient.connect(&client()).await {
            Ok(connection) => held.push(connection),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("timed out"), "{error}");
    let accepting = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        (socket.accept().unwrap(), socket)
    });
    pool(30 * SECOND).connect(&client()).await.unwrap();
    accepting.await.unwrap();
    std::fs::remove_file(&path).unwrap();
}
