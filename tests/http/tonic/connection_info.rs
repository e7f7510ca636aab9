//! What a handler is told of its connection.

use super::{
    Served, Way,
    probe::{Client, Observed},
    tls,
};
use crate::support::scenario;
use portcullis::{
    Connection, Server, ServiceBuilderExt,
    connection::{Address, Socket},
    listener::TcpListener,
    middleware::handler::{Next, from_fn},
    service::HttpService,
};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, server::TcpConnectInfo};
use tower::{ServiceBuilder, service_fn};

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn plain(server: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{server}")).unwrap();
    endpoint.connect().await.unwrap()
}

async fn over_tls(server: SocketAddr, config: ClientTlsConfig) -> Channel {
    let endpoint = Endpoint::from_shared(format!("https://{server}")).unwrap();
    endpoint
        .tls_config(config)
        .unwrap()
        .connect()
        .await
        .unwrap()
}

/// What a handler sees of `channel`'s connection to `served`, in a unary call and in a stream.
async fn observe(mut served: Served, channel: Channel) -> (Served, Observed) {
    let mut client = Client::new(channel);
    client.who().await.unwrap();
    let who = served.observed.recv().await.unwrap();
    let mut chat = client.chat().await.unwrap();
    let chatted = served.observed.recv().await.unwrap();
    assert!(chat.echoes("hello").await.unwrap());
    chat.end().await.unwrap();
    assert_eq!(
        (who.remote, who.local, who.tls, &who.certificates),
        (
            chatted.remote,
            chatted.local,
            chatted.tls,
            &chatted.certificates
        )
    );
    (served, who)
}

#[test]
fn a_handler_sees_the_addresses_of_its_connection() {
    scenario(async {
        for way in [Way::HttpService, Way::Incoming, Way::IncomingInfo] {
            let (listener, address) = listener();
            let layers = ServiceBuilder::new().peer_addr().connection_limit(10);
            let served = Served::new(way, Server::new(), listener, layers);
            let channel = plain(address).await;
            let (served, observed) = observe(served, channel.clone()).await;
            let (peer, local) = served.addresses();
            assert_eq!(local, address);
            assert_eq!(
                (observed.remote, observed.local),
                (Some(peer), Some(local)),
                "{way:?}"
            );
            assert_eq!((observed.tls, observed.certificates), (false, None));
            let info = observed.info.map(|info| info.peer_addr());
            match way {
                Way::Incoming => assert_eq!(info, None, "there is room for one type"),
                _ => assert_eq!(info, Some(Some(peer))),
            }
            drop(channel);
            served.finish().await;
        }
    });
}

#[test]
fn a_handler_sees_the_certificate_of_its_client() {
    scenario(async {
        for way in [Way::HttpService, Way::IncomingTls, Way::IncomingInfo] {
            let clients = [
                (tls::anonymous(), None),
                (tls::known(), Some(vec![tls::certificate_of_the_client()])),
            ];
            for (config, certificates) in clients {
                let (listener, address) = listener();
                let layers = ServiceBuilder::new()
                    .peer_addr()
                    .layer(tls::layer())
                    .io_timeout();
                let served = Served::new(way, Server::new(), listener, layers);
                let channel = over_tls(address, config).await;
                let (served, observed) = observe(served, channel.clone()).await;
                let (peer, local) = served.addresses();
                assert_eq!(
                    (observed.remote, observed.local),
                    (Some(peer), Some(local)),
                    "{way:?}"
                );
                assert!(
                    observed.tls,
                    "as tonic tells it, with certificates or without"
                );
                assert_eq!(observed.certificates, certificates, "{way:?}");
                drop((channel, observed.info));
                served.finish().await;
            }
        }
    });
}

#[test]
fn the_effective_address_is_what_a_handler_sees_however_late_it_was_learned() {
    scenario(async {
        for way in [Way::HttpService, Way::IncomingTls, Way::IncomingInfo] {
            let (listener, address) = listener();
            // Inside TLS, where the types of tonic are made before.
            let layers = ServiceBuilder::new()
                .peer_addr()
                .layer(tls::layer())
                .layer(from_fn(believe));
            let served = Served::new(way, Server::new(), listener, layers);
            let channel = over_tls(address, tls::known()).await;
            let (served, observed) = observe(served, channel.clone()).await;
            assert_eq!(observed.remote, Some(CLAIMED.parse().unwrap()), "{way:?}");
            assert_eq!(observed.local, Some(FRONT.parse().unwrap()), "{way:?}");
            assert_eq!(
                observed.certificates,
                Some(vec![tls::certificate_of_the_client()])
            );
            drop(channel);
            served.finish().await;
        }
    });
}

async fn believe<IO>(connection: Connection<IO>, next: Next<IO>) -> Result<(), tower::BoxError> {
    let address = |text: &str| Address::Ip(text.parse().unwrap());
    let set = connection
        .info()
        .set_effective(address(CLAIMED), address(FRONT));
    assert!(set);
    next.run(connection).await
}

#[test]
fn a_connection_without_tls_is_closed_where_tls_is_to_be_told() {
    scenario(async {
        let (listener, address) = listener();
        let layers = ServiceBuilder::new().peer_addr();
        let served = Served::new(Way::IncomingTls, Server::new(), listener, layers);
        let mut client = TcpStream::connect(address).await.unwrap();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        served.finish().await;
    });
}

#[test]
fn a_request_that_is_not_grpc_is_told_nothing_of_tonic() {
    scenario(async {
        let (listener, address) = listener();
        let service = service_fn(|request: http::Request<_>| async move {
            let told = request.extensions().get::<TcpConnectInfo>();
            let told = told.map_or("nothing".to_owned(), |told| format!("{told:?}"));
            let _request: http::Request<portcullis::service::http::RequestBody> = request;
            Ok::<_, std::convert::Infallible>(http::Response::new(told))
        });
        let stack = ServiceBuilder::new()
            .peer_addr()
            .service(HttpService::new(service));
        let handle = Server::new().listen(listener, stack).spawn().unwrap();
        // gRPC knows no other method than POST.
        for (method, kind, nothing) in [
            ("POST", "text/plain", true),
            ("POST", "application/connect+proto", true),
            ("POST", "application/grpc+proto", false),
            ("POST", "application/grpc-web", false),
            ("GET", "application/grpc", true),
        ] {
            let mut client = TcpStream::connect(address).await.unwrap();
            let request = format!(
                "{method} / HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert_eq!(
                answer.ends_with("\r\n\r\nnothing"),
                nothing,
                "{kind}: {answer}"
            );
        }
        handle.stop();
        handle.wait().await;
    });
}

#[test]
fn the_connection_comes_out_of_tonics_hands_as_it_went_in() {
    scenario(async {
        let (listener, address) = listener();
        let layers = ServiceBuilder::new().peer_addr();
        let incoming = Server::new().incoming(listener, layers).unwrap();
        let handle = incoming.handle().unwrap().clone();
        let mut incoming = incoming.tonic();
        let mut client = TcpStream::connect(address).await.unwrap();
        let next = futures_util::StreamExt::next(&mut incoming).await;
        let Ok(io) = next.unwrap();
        let id = io.get_ref().id();
        let mut connection: Connection<Socket<TcpStream>> = io.into_inner();
        assert_eq!(connection.id(), id);
        connection.write_all(b"hi").await.unwrap();
        client.read_exact(&mut [0; 2]).await.unwrap();
        drop((connection, incoming));
        handle.wait().await;
    });
}

const CLAIMED: &str = "203.0.113.7:4711";
const FRONT: &str = "198.51.100.1:443";
