//! The guarantees over real sockets.

use super::*;
use crate::ServiceBuilderExt;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tower::{Service, ServiceBuilder};

fn from_loopback() -> ProxyProtocolLayer {
    ProxyProtocolLayer::new("127.0.0.0/8, ::1".parse().unwrap())
}

/// Connects to a server that reports what it receives and from whom; sends `input` in these pieces.
async fn ask(
    layer: ProxyProtocolLayer,
    input: &[&[u8]],
) -> (Result<(), BoxError>, io::Result<String>) {
    let mut stack = ServiceBuilder::new().peer_addr().layer(layer).service_fn(
        |mut connection: Connection<_>| async move {
            let mut received = [0; 5];
            connection.read_exact(&mut received).await?;
            let peer = connection.peer_addr().unwrap();
            let answer = format!("{} from {peer}", received.escape_ascii());
            connection.write_all(answer.as_bytes()).await?;
            connection.close().await
        },
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    client.set_nodelay(true).unwrap();
    let server = async { stack.call(listener.accept().await.unwrap().0).await };
    let client = async move {
        for piece in input {
            client.write_all(piece).await?;
            tokio::task::yield_now().await;
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.map(|_| answer)
    };
    tokio::join!(server, client)
}

#[tokio::test]
async fn the_handler_sees_the_clients_address() {
    let v2 = v2_tcp4(&tlv(0x04, &[0; 1000]));
    for header in [V1, &v2] {
        let (end, answer) = ask(from_loopback(), &[&[header, b"hello"].concat()]).await;
        end.unwrap();
        assert_eq!(answer.unwrap(), "hello from 198.51.100.7:40000");
        let bytes: Vec<_> = header.chunks(1).chain([&b"hello"[..]]).collect();
        let (end, answer) = ask(from_loopback(), &bytes).await;
        end.unwrap();
        assert_eq!(answer.unwrap(), "hello from 198.51.100.7:40000");
    }
}

#[tokio::test]
async fn who_is_refused_or_breaks_the_protocol_sees_a_reset() {
    let stranger = ProxyProtocolLayer::new("192.0.2.0/24".parse().unwrap());
    let (end, answer) = ask(stranger, &[]).await;
    assert!(find::<crate::error::Refused>(&*end.unwrap_err()).is_some());
    assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    for input in ["GET / HTTP/1.1\r\n\r\n", "PROXY nonsense\r\n"] {
        let (end, answer) = ask(from_loopback(), &[input.as_bytes()]).await;
        header_error(&end.unwrap_err());
        assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_direct_client_is_itself_behind_no_header() {
    let strangers = ProxyProtocolLayer::new("192.0.2.0/24".parse().unwrap());
    let (end, answer) = ask(strangers.with_direct_clients(), &[V1]).await;
    end.unwrap();
    assert!(answer.unwrap().starts_with("PROXY from 127.0.0.1:"));
}

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
#[tokio::test]
async fn the_handler_sees_the_clients_address_behind_tls_too() {
    use crate::tls::{TlsLayer, provider, rustls};
    use std::sync::Arc;

    let names = vec!["localhost".to_owned()];
    let identity = rcgen::generate_simple_self_signed(names).unwrap();
    let (chain, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
    let tls = TlsLayer::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.cert.der().clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));

    let mut stack = ServiceBuilder::new()
        .peer_addr()
        .layer(from_loopback())
        .layer(tls)
        .service_fn(|mut connection: Connection<_>| async move {
            let peer = connection.peer_addr().unwrap().to_string();
            connection.write_all(peer.as_bytes()).await?;
            connection.close().await
        });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut tcp = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (io, mut proxy) = tokio::io::duplex(16 * 1024);
    let server = async { stack.call(listener.accept().await.unwrap().0).await };
    let proxy = async {
        // The header and the ClientHello in one segment.
        let mut first = v2_tcp4(&[]);
        proxy.read_buf(&mut first).await?;
        tcp.write_all(&first).await?;
        tokio::io::copy_bidirectional(&mut proxy, &mut tcp).await
    };
    let client = async {
        let mut answer = String::new();
        let mut tls = connector
            .connect("localhost".try_into().unwrap(), io)
            .await?;
        tls.read_to_string(&mut answer).await?;
        tls.shutdown().await.map(|()| answer)
    };
    let (end, _, answer) = tokio::join!(server, proxy, client);
    end.unwrap();
    assert_eq!(answer.unwrap(), CLIENT);
}
