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
    for balance in [
        Balance::LeastConnections,
        Balance::RoundRobin,
        Balance::Hash,
        Balance::First,
    ] {
        let pool = Pool::builder().with_balance(balance).build([down, a, b]);
        for _ in 0..100 {
            assert!(["a", "b"].contains(&&*received(&pool).await));
        }
    }
    serve_a.abort();
    serve_b.abort();
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
