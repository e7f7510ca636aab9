//! Which route is chosen.

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod loopback;

use super::*;
use crate::{
    BoxError, Connection, ConnectionInfo,
    connection::{Address, Hello, Phase},
    error::{Refused, find},
    outcome::Outcome,
    peek::Protocol,
    testing::Peer,
};
use std::{convert::Infallible, sync::mpsc};
use tokio::io::{AsyncReadExt, empty};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Service, ServiceExt, limit::ConcurrencyLimit, service_fn};

type Io = tokio::io::Empty;

/// Routes that report their label.
struct Labels(mpsc::Sender<&'static str>);

impl Labels {
    fn route(
        &self,
        label: &'static str,
    ) -> impl Service<Connection<Io>, Response = (), Error = Infallible, Future: Send>
    + Clone
    + Sync
    + use<> {
        let sender = self.0.clone();
        service_fn(move |_| {
            sender.send(label).unwrap();
            std::future::ready(Ok(()))
        })
    }
}

fn labels() -> (Labels, mpsc::Receiver<&'static str>) {
    let (sender, labels) = mpsc::channel();
    (Labels(sender), labels)
}

fn connection(hello: Option<Hello>, protocol: Option<Protocol>) -> Connection<Io> {
    let info = ConnectionInfo::new(Address::Unknown, Address::Unknown);
    if let Some(hello) = hello {
        info.set_hello(hello);
    }
    let mut connection = Connection::new(empty(), info);
    if let Some(protocol) = protocol {
        connection.extensions_mut().insert(protocol);
    }
    connection
}

/// A TLS client that requests `name` and offers `alpn`.
fn tls(name: Option<&str>, alpn: &[&str]) -> Connection<Io> {
    let name_with_length = |name: &&str| [&[name.len() as u8], name.as_bytes()].concat();
    let alpn: Vec<u8> = alpn.iter().flat_map(name_with_length).collect();
    connection(Some(Hello::new(name, &alpn, None)), Some(Protocol::Tls))
}

#[tokio::test]
async fn the_first_match_counts_in_the_documented_order() {
    let (route, chosen) = labels();
    let routes = Routes::new()
        .with_name("shop.example", route.route("exact"))
        .and_then(|routes| routes.with_name("*.example", route.route("wildcard")))
        .and_then(|routes| routes.with_name("*.a.EXAMPLE.", route.route("deeper")))
        .and_then(|routes| routes.with_alpn("acme-tls/1", route.route("acme")))
        .and_then(|routes| routes.with_alpn("h3", route.route("h3")))
        .and_then(|routes| routes.with_protocol(Protocol::Tls, route.route("tls")))
        .and_then(|routes| routes.with_protocol(Protocol::Ssh, route.route("ssh")))
        .unwrap()
        .with_default(route.route("default"));
    let mut router = Router::new(routes);
    for (connection, label) in [
        (tls(Some("shop.example"), &["h2"]), "exact"),
        (tls(Some("SHOP.example"), &[]), "exact"),
        (tls(Some("other.example"), &[]), "wildcard"),
        (tls(Some("x.a.example"), &[]), "deeper"),
        (tls(Some("a.shop.example"), &[]), "tls"),
        (tls(Some("example"), &[]), "tls"),
        (tls(None, &[]), "tls"),
        (
            tls(Some("shop.example"), &["h2", "acme-tls/1", "h3"]),
            "acme",
        ),
        (tls(Some("shop.example"), &["h3", "acme-tls/1"]), "h3"),
        (tls(None, &["acme-tls/1"]), "acme"),
        (connection(None, Some(Protocol::Ssh)), "ssh"),
        (connection(None, Some(Protocol::Http1)), "default"),
        (connection(None, None), "default"),
    ] {
        let shown = format!("{connection:?}");
        router.call(connection).await.unwrap();
        assert_eq!(chosen.recv().unwrap(), label, "{shown}");
    }
}

#[tokio::test]
async fn without_a_route_the_connection_is_refused_with_what_it_requested() {
    let (connection, seen) = Peer::new().connection();
    let info = connection.info().clone();
    info.set_hello(Hello::new(Some("other.example"), &[], None));
    let error = Router::new(Routes::new()).oneshot(connection).await;
    let error = error.unwrap_err();
    let refused = find::<Refused>(&*error).unwrap();
    assert_eq!(
        (refused.by(), refused.reason()),
        ("route", "no route matches")
    );
    let source = std::error::Error::source(refused).unwrap();
    assert_eq!(source.to_string(), "server name other.example");
    assert_eq!(Outcome::of(&info, Some(&*error)), Outcome::Refused);
    assert!(seen.is_reset());
}

#[test]
fn routes_that_contradict_each_other_or_match_nothing_are_errors() {
    let (route, _chosen) = labels();
    let new = || Routes::new().with_name("shop.example", route.route("first"));
    let problem = |routes: Result<Routes<Io>, InvalidRoute>| routes.unwrap_err().to_string();
    for (name, expected) in [
        ("SHOP.example.", "\"SHOP.example.\" has two routes"),
        ("*.*.example", "\"*.*.example\" is not a host name"),
        ("*", "\"*\" is not a host name"),
        ("*.", "\"*.\" is not a host name"),
        ("a*.example", "\"a*.example\" is not a host name"),
        ("a\nb", "\"a\\nb\" is not a host name"),
        ("", "\"\" is not a host name"),
        (
            "192.0.2.1",
            "\"192.0.2.1\" is an address, and clients send only host names",
        ),
    ] {
        let routes = new().unwrap().with_name(name, route.route("second"));
        assert_eq!(problem(routes), format!("invalid route: {expected}"));
    }
    let twice = |routes: Routes<Io>| {
        let routes = routes.with_protocol(Protocol::Ssh, route.route("first"))?;
        routes.with_protocol(Protocol::Ssh, route.route("second"))
    };
    assert_eq!(
        problem(new().and_then(twice)),
        "invalid route: \"Ssh\" has two routes"
    );
    let empty = new().unwrap().with_alpn("", route.route("second"));
    assert_eq!(
        problem(empty),
        "invalid route: \"ALPN \" has to have 1 to 255 bytes"
    );
}

#[tokio::test]
async fn replaced_routes_serve_the_next_connection() {
    let (route, chosen) = labels();
    let mut router = Router::new(Routes::new().with_default(route.route("old")));
    let handle = router.handle();
    let before = router.call(tls(None, &[]));
    handle.replace(Routes::new().with_default(route.route("new")));
    router.clone().call(tls(None, &[])).await.unwrap();
    before.await.unwrap();
    assert_eq!(
        [chosen.recv().unwrap(), chosen.recv().unwrap()],
        ["new", "old"]
    );
}

#[tokio::test]
async fn a_route_that_is_not_ready_delays_only_its_own_connections() {
    let (route, chosen) = labels();
    let full = ConcurrencyLimit::new(
        service_fn(
            |mut connection: Connection<_>| async move { connection.read_u8().await.map(drop) },
        ),
        1,
    );
    let routes = Routes::new().with_name("full.example", full).unwrap();
    let mut router = Router::new(routes.with_default(service_fn(move |_| {
        route.0.send("default").unwrap();
        std::future::ready(Ok::<_, Infallible>(()))
    })));
    let connect = |name| {
        let (connection, client) = crate::testing::in_memory(8);
        connection
            .info()
            .set_hello(Hello::new(Some(name), &[], None));
        (connection, client)
    };
    let (first, _client) = connect("full.example");
    let mut first = task::spawn(router.call(first));
    assert_pending!(first.poll());
    let (second, _other) = connect("full.example");
    let info = second.info().clone();
    let mut second = task::spawn(router.call(second));
    assert_pending!(second.poll());
    assert_eq!(info.phase(), Phase::Waiting);
    assert!(assert_ready!(task::spawn(router.ready()).poll()).is_ok());
    let (third, _third) = connect("shop.example");
    router.call(third).await.unwrap();
    assert_eq!(chosen.recv().unwrap(), "default");
    drop(first);
    assert!(second.is_woken());
    assert_pending!(second.poll());
    assert_eq!(info.phase(), Phase::Serving);
}

#[test]
fn router_and_handle_are_send_and_sync() {
    fn check<T: Send + Sync>(_: &T) {}
    let router = Router::<Io>::new(Routes::new());
    check(&router);
    check(&router.handle());
    let _: &dyn Service<_, Response = (), Error = BoxError, Future = RouterFuture<Io>> = &router;
}
