//! Guards under a server: one client floods, another is served.

use crate::support::{echo, echoed, eventually, scenario};
use portcullis::{
    Server, ServiceBuilderExt,
    listener::TcpListener,
    middleware::limit::{ClientIp, KeyedLimitLayer, Refusal},
};
use std::{net::SocketAddr, time::Duration};
use tokio::net::{TcpSocket, TcpStream};
use tower::ServiceBuilder;

async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(from.parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

#[test]
fn a_client_that_floods_fills_its_own_limit_and_the_tarpit_and_others_are_served() {
    scenario(async {
        let tarpit = Refusal::Tarpit {
            hold: Duration::from_secs(600),
            at_most: 50,
        };
        let layer = KeyedLimitLayer::new(ClientIp::new(), 10).with_refusal(tarpit);
        let limit = layer.handle();
        let stack = ServiceBuilder::new()
            .peer_addr()
            .layer(layer)
            .service_fn(echo);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new().listen(listener, stack).spawn().unwrap();

        let mut flood = Vec::new();
        for _ in 0..200 {
            flood.push(connect("127.0.0.1:0", address).await);
        }
        eventually("all are judged", || limit.refused() == 190).await;
        // Ten are served and fifty are held.
        eventually("the others are closed", || server.connections().len() == 60).await;
        assert_eq!((limit.active(), limit.keys()), (10, 1));

        let mut good = connect("127.0.0.2:0", address).await;
        assert!(echoed(&mut good, b"served").await.unwrap());
        assert!(echoed(&mut flood[0], b"also served").await.unwrap());
        assert_eq!((limit.active(), limit.keys()), (11, 2));

        // Clients that disconnect leave the tarpit and the table.
        drop(flood);
        eventually("the flood is gone", || server.connections().len() == 1).await;
        assert_eq!((limit.active(), limit.keys()), (1, 1));

        // A shutdown does not wait for the tarpit.
        limit.set_limit(0);
        let _held = connect("127.0.0.3:0", address).await;
        eventually("it is held", || server.connections().len() == 2).await;
        drop(good);
        server.stop();
        assert!(server.wait().await.force_closed().is_empty());
        assert_eq!((limit.active(), limit.keys()), (0, 0));
    });
}
