//! TLS by the scheme.

use super::*;
use crate::support::tls;
use portcullis::middleware::tls::{TlsConnectError, TlsConnector};
use tower::ServiceExt;

/// Serves HTTP over TLS with these protocols.
fn secure(router: Router, alpn: &[&str]) -> impl Stack<TcpStream> + use<> {
    let tls = tls::layer().with_alpn(alpn.iter().map(|name| name.as_bytes()));
    ServiceBuilder::new()
        .peer_addr()
        .layer(tls)
        .service(HttpService::new(router))
}

#[test]
fn http2_is_spoken_where_both_sides_know_it() {
    scenario(async {
        for (alpn, version) in [
            (&["h2", "http/1.1"][..], Version::HTTP_2),
            (&["http/1.1"], Version::HTTP_11),
            (&[], Version::HTTP_11),
        ] {
            let server = Fixture::serve(secure(byte_teller(), alpn));
            let connector = one_connection()
                .with_layers(ConnectionLimitLayer::new(1))
                .tls(tls::connector());
            let client = client(connector);
            for _ in 0..3 {
                let response = client.get(uri("https", server.address)).await.unwrap();
                assert_eq!(response.version(), version);
                let info = info(&response);
                let tls = info.tls().unwrap();
                assert_eq!(tls.server_name.as_deref(), Some("localhost"));
                text(response).await;
            }
            assert_eq!(server.status().accepted, 1);
            drop(client);
            server.finish().await;
        }
    });
}

#[test]
fn a_connector_may_offer_less() {
    scenario(async {
        let server = Fixture::serve(secure(byte_teller(), &["h2", "http/1.1"]));
        let tls = tls::connector().with_alpn(["http/1.1"]);
        let client = client(HttpConnector::new(Connector::new()).tls(tls));
        let response = client.get(uri("https", server.address)).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_11);
        drop((response, client));
        server.finish().await;
    });
}

#[test]
fn http_goes_without_tls_by_the_same_connector() {
    scenario(async {
        let server = Fixture::serve(serving(byte_teller()));
        let client = client(HttpConnector::new(Connector::new()).tls(tls::connector()));
        let response = client.get(uri("http", server.address)).await.unwrap();
        assert!(info(&response).tls().is_none());
        drop((response, client));
        server.finish().await;
    });
}

#[test]
fn layers_before_tls_see_the_wire_and_those_after_it_plaintext() {
    scenario(async {
        let server = Fixture::serve(secure(byte_teller(), &["http/1.1"]));
        let (wire, inside) = (ByteCounter::new(), ByteCounter::new());
        let connector = HttpConnector::new(Connector::new())
            .with_layers(ServiceBuilder::new().count_bytes(wire.clone()))
            .tls(tls::connector())
            .with_layers(ServiceBuilder::new().count_bytes(inside.clone()).box_io());
        let client = client(connector);
        let response = client.get(uri("https", server.address)).await.unwrap();
        let info = info(&response);
        text(response).await;
        assert_eq!(wire.bytes_written(), info.bytes_written());
        assert!(inside.bytes_written() > 0);
        assert!(inside.bytes_written() + 200 < wire.bytes_written());
        drop(client);
        server.finish().await;
    });
}

#[test]
fn failures_of_tls_keep_their_types_and_free_their_places() {
    scenario(async {
        let (limit, handle) = ConnectionLimitLayer::pair(1);
        let connector = HttpConnector::new(Connector::new())
            .with_layers(limit)
            .tls(tls::connector());
        let server = Fixture::serve(secure(byte_teller(), &[]));
        let wrong = format!("https://{}/", server.address);
        let wrong = failure(connector.clone(), wrong).await;
        assert!(find::<TlsConnectError>(&wrong).unwrap().is_wrong_name());
        assert_eq!(handle.active(), 0);
        server.finish().await;

        let server = Fixture::serve(serving(byte_teller()));
        let uri = uri("https", server.address).to_string();
        let plain = failure(connector, uri).await;
        assert!(find::<TlsConnectError>(&plain).is_some());
        assert_eq!(handle.active(), 0);
        server.finish().await;
    });
}

#[test]
fn a_silent_servers_handshake_has_a_bound() {
    paused_scenario(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("https://{}/", listener.local_addr().unwrap());
        let bound = Duration::from_secs(3);
        let tls: TlsConnector = tls::connector().with_handshake_timeout(bound);
        let (limit, handle) = ConnectionLimitLayer::pair(1);
        let connector = HttpConnector::new(Connector::new())
            .with_layers(limit)
            .tls(tls);
        let error = failure(connector, uri).await;
        let elapsed = find::<Elapsed>(&error).unwrap();
        assert_eq!(elapsed.phase(), TimeoutPhase::HANDSHAKE);
        assert_eq!(handle.active(), 0);
    });
}

#[test]
fn tonic_speaks_https_by_the_connectors_tls() {
    scenario(async {
        let server = Fixture::serve(secure(grpc(), &["h2"]));
        let connector = HttpConnector::new(Connector::new())
            .tls(tls::connector().with_alpn(["h2"]))
            .map_request(|uri: Uri| {
                let mut parts = uri.into_parts();
                parts.scheme = Some(http::uri::Scheme::HTTPS);
                Uri::from_parts(parts).unwrap()
            });
        let endpoint = tonic::transport::Endpoint::from(uri("http", server.address));
        let channel = endpoint.connect_with_connector(connector).await.unwrap();
        assert_eq!(call(channel).await, tonic::Code::NotFound);
        server.finish().await;
    });
}

#[test]
fn tonic_may_do_the_tls_itself() {
    scenario(async {
        let server = Fixture::serve(secure(grpc(), &["h2"]));
        let root = tonic::transport::Certificate::from_pem(tls::root_pem());
        let config = tonic::transport::ClientTlsConfig::new().ca_certificate(root);
        let endpoint = tonic::transport::Endpoint::from(uri("https", server.address));
        let connector = HttpConnector::new(Connector::new())
            .with_layers(ServiceBuilder::new().io_timeout())
            .tls_by_caller();
        let endpoint = endpoint.tls_config(config).unwrap();
        let channel = endpoint.connect_with_connector(connector).await.unwrap();
        assert_eq!(call(channel).await, tonic::Code::NotFound);
        server.finish().await;
    });
}
