//! What a request contains about its connection.

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

#[test]
fn connect_info_can_be_left_out() {
    scenario(async {
        let router = Router::new().route(
            "/",
            get(|request: axum::extract::Request| async move {
                let extensions = request.extensions();
                assert!(extensions.get::<ConnectionInfo>().is_some());
                let connect_info = extensions.get::<ConnectInfo<SocketAddr>>();
                connect_info.is_some().to_string()
            }),
        );
        for (service, expected) in [
            (HttpService::new(router.clone()), "true"),
            (
                HttpService::new(router.clone()).without_connect_info(),
                "false",
            ),
        ] {
            let stack = ServiceBuilder::new().peer_addr().service(service);
            let server = Fixture::serve(stack);
            let mut client = server.connect().await;
            let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            client.write_all(request).await.unwrap();
            let mut response = String::new();
            client.read_to_string(&mut response).await.unwrap();
            assert!(
                response.ends_with(&format!("\r\n\r\n{expected}")),
                "{response}"
            );
            server.finish().await;
        }
    });
}
