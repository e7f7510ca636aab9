//! What lives on while it is silent, and who holds what meanwhile.

use super::{
    Served, Way,
    probe::{Chat, Client},
    tls,
};
use crate::support::{eventually, paused_scenario, scenario};
use hyper_util::rt::TokioIo;
use portcullis::{
    Server, ServiceBuilderExt,
    listener::{MemoryConnector, MemoryListener, TcpListener},
    middleware::{limit::ConnectionLimitLayer, timeout::IoTimeoutLayer},
};
use std::{future::ready, io, time::Duration};
use tokio::{io::DuplexStream, net::TcpStream, time::sleep};
use tonic::transport::{Channel, Endpoint};
use tower::{ServiceBuilder, service_fn};

/// A channel whose connections are in memory, made when they are needed.
pub(crate) fn channel(connector: MemoryConnector) -> Channel {
    let connect = service_fn(move |_| ready(connector.connect().map(TokioIo::new)));
    Endpoint::from_static("http://memory").connect_with_connector_lazy(connect)
}

/// A channel with this one connection.
pub(crate) fn channel_over(io: DuplexStream) -> Channel {
    let mut io = Some(io);
    let connect = service_fn(move |_| {
        let io = io.take().ok_or(io::Error::other("there was but one"));
        ready(io.map(TokioIo::new))
    });
    Endpoint::from_static("http://memory").connect_with_connector_lazy(connect)
}

async fn chat(connector: MemoryConnector) -> Chat {
    let mut chat = Client::new(channel(connector)).chat().await.unwrap();
    assert!(chat.echoes("first").await.unwrap());
    chat
}

#[test]
fn a_stream_may_be_silent_for_longer_than_any_bound() {
    paused_scenario(async {
        for way in [Way::HttpService, Way::Incoming] {
            let (listener, connector) = MemoryListener::pair();
            let bounds = IoTimeoutLayer::new()
                .without_read_timeout()
                .with_write_timeout(Duration::from_secs(2));
            let layers = ServiceBuilder::new().peer_addr().layer(bounds);
            let served = Served::new(way, Server::new(), listener, layers);
            let mut chat = chat(connector).await;
            for _ in 0..3 {
                sleep(Duration::from_secs(80)).await;
                assert!(chat.echoes("still there").await.unwrap(), "{way:?}");
            }
            chat.end().await.unwrap();
            served.finish().await;
        }
    });
}

#[test]
fn a_bound_on_reads_ends_a_silent_stream_as_the_documentation_warns() {
    paused_scenario(async {
        let (listener, connector) = MemoryListener::pair();
        let bounds = IoTimeoutLayer::new().with_read_timeout(Duration::from_secs(2));
        let layers = ServiceBuilder::new().peer_addr().layer(bounds);
        let served = Served::new(Way::Incoming, Server::new(), listener, layers);
        let mut chat = chat(connector).await;
        sleep(Duration::from_secs(1)).await;
        assert!(chat.echoes("in time").await.unwrap());
        sleep(Duration::from_secs(3)).await;
        chat.echoes("too late").await.unwrap_err();
        drop(chat);
        served.finish().await;
    });
}

#[test]
fn a_permit_is_held_for_as_long_as_tonic_has_the_connection() {
    scenario(async {
        for way in [Way::HttpService, Way::Incoming] {
            let (listener, connector) = MemoryListener::pair();
            let (layer, limit) = ConnectionLimitLayer::pair(5);
            let layers = ServiceBuilder::new().peer_addr().layer(layer);
            let served = Served::new(way, Server::new(), listener, layers);
            let mut chat = chat(connector).await;
            assert_eq!(limit.active(), 1);
            assert!(chat.echoes("still there").await.unwrap());
            assert_eq!(limit.active(), 1);
            drop(chat);
            eventually("the permit is free", || limit.active() == 0).await;
            served.finish().await;
        }
    });
}

#[test]
fn a_handshake_that_takes_its_time_delays_nobody() {
    scenario(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let layers = ServiceBuilder::new().peer_addr().layer(tls::layer());
        let served = Served::new(Way::IncomingTls, Server::new(), listener, layers);
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
        let endpoint = endpoint.tls_config(tls::anonymous()).unwrap();
        let mut client = Client::new(endpoint.connect().await.unwrap());
        client.who().await.unwrap();
        assert_eq!(served.handle.status().active, 21);
        drop((client, silent));
        served.finish().await;
    });
}
