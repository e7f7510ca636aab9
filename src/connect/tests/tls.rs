//! TLS over real sockets, with portcullis on both sides.

use super::*;
use portcullis_middleware::{
    BoxError, Connection,
    peer_addr::PeerAddrLayer,
    timeout::TimeoutIo,
    tls::{TlsConnectError, TlsConnector, TlsLayer},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::{ServiceBuilder, ServiceExt};

/// A server that greets one client, and a connector that trusts it.
async fn greeter() -> (
    Target,
    TlsConnector,
    impl Future<Output = Result<(), BoxError>>,
) {
    let names = vec!["localhost".to_owned()];
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(names).unwrap();
    let (chain, key) = (cert.pem(), signing_key.serialize_pem());
    let stack = ServiceBuilder::new()
        .layer(PeerAddrLayer::new())
        .layer(TlsLayer::from_pem(chain.as_bytes(), key.as_bytes()).unwrap())
        .service_fn(|mut connection: Connection<_>| async move {
            connection.write_all(b"Hello!").await?;
            connection.close().await
        });
    let (listener, address) = listener().await;
    let target = Target::try_from(("localhost", address.port())).unwrap();
    let serve = async move { stack.oneshot(listener.accept().await?.0).await };
    let trusting = TlsConnector::with_roots_pem(chain.as_bytes()).unwrap();
    (target, trusting, serve)
}

#[tokio::test]
async fn a_client_speaks_tls_within_bounds() {
    let (target, tls, serve) = greeter().await;
    let talk = async {
        let connection = connect(target).await.unwrap();
        let bounded = connection.map_io(TimeoutIo::new);
        let mut connection = tls.connect("localhost", bounded).await.unwrap();
        let tls = connection.tls().unwrap();
        assert_eq!(tls.version, Some("TLSv1_3"));
        let mut received = String::new();
        connection.read_to_string(&mut received).await.unwrap();
        connection.close().await.unwrap();
        received
    };
    let (received, served) = tokio::join!(talk, serve);
    served.unwrap();
    assert_eq!(received, "Hello!");
}

#[tokio::test]
async fn tls_is_one_more_step_of_the_service() {
    let (target, tls, serve) = greeter().await;
    let connector = Connector::new()
        .map_err(BoxError::from)
        .and_then(move |connection| {
            let tls = tls.clone();
            async move { Ok::<_, BoxError>(tls.connect("wrong.invalid", connection).await?) }
        });
    let (agreed, served) = tokio::join!(connector.oneshot(target), serve);
    let error: BoxError = agreed.unwrap_err();
    assert!(
        error
            .downcast_ref::<TlsConnectError>()
            .unwrap()
            .is_wrong_name()
    );
    served.unwrap_err();
}
