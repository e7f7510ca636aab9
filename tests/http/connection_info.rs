//! What a request is told of its connection.

use crate::support::{Fixture, scenario};
use axum::{Router, extract::ConnectInfo, routing::get};
use portcullis::{ConnectionInfo, ServiceBuilderExt, service::HttpService};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceBuilder;

#[test]
fn a_handler_sees_where_its_connection_comes_from() {
    scenario(async {
        let router = Router::new().route(
            "/",
            get(
                |ConnectInfo(peer): ConnectInfo<SocketAddr>,
                 axum::Extension(info): axum::Extension<ConnectionInfo>| async move {
                    assert_eq!(info.peer_addr(), Some(peer));
                    peer.to_string()
                },
            ),
        );
        let stack = ServiceBuilder::new()
            .peer_addr()
            .service(HttpService::new(router));
        let server = Fixture::serve(stack);
        let mut client = server.connect().await;
        let address = client.local_addr().unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with(&format!("\r\n\r\n{address}")), "{answer}");
        server.finish().await;
    });
}
