//! Routers of axum behind a stack, both ways: served by `HttpService`, and by `axum::serve`.

mod as_listener;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod with_tls;

use crate::support::{Fixture, assert_ended, scenario};
use axum::{Extension, Router, extract::ConnectInfo, http::StatusCode, routing::get};
use portcullis::{
    Connection, Server, ServiceBuilderExt,
    axum::{ClientCertificate, Info, MakeService, ServerName},
    connection::{Address, Extensions, UnixAddress},
    listener::TcpListener,
    middleware::handler::{Next, from_fn},
    server::Stack,
    server::{Handle, Report},
    service::{HandOff, HttpService, Incoming},
};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};
use tower::{Layer, ServiceBuilder};

type Plain = portcullis::connection::Socket<TcpStream>;

/// `axum::serve` with a stack as its listener, until its server is stopped.
struct OtherWay {
    handle: Handle,
    address: SocketAddr,
    axum: JoinHandle<std::io::Result<()>>,
}

impl OtherWay {
    fn serve<IO>(incoming: Incoming<IO>, router: Router) -> Self
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handle = incoming.handle().unwrap().clone();
        let drained = incoming.drained();
        let listener = incoming.into_axum();
        // In memory there is none.
        let nowhere = ([0, 0, 0, 0], 0).into();
        let address = axum::serve::Listener::local_addr(&listener).unwrap_or(nowhere);
        let serve = axum::serve(listener, MakeService::new(router));
        let axum = tokio::spawn(serve.with_graceful_shutdown(drained).into_future());
        Self {
            handle,
            address,
            axum,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Stops the server; axum ends by itself.
    async fn finish(self) -> Report {
        self.handle.stop();
        self.ended().await
    }

    async fn ended(self) -> Report {
        self.axum.await.unwrap().unwrap();
        let report = self.handle.wait().await;
        assert_ended(&self.handle);
        report
    }
}

fn incoming<L, IO>(layers: ServiceBuilder<L>) -> Incoming<IO>
where
    L: Layer<HandOff<IO>>,
    L::Service: Stack<TcpStream>,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Server::new().incoming(listener, layers).unwrap()
}

/// Has `router` served behind `layers` in one way, then in the other.
async fn both_ways<L, IO>(layers: ServiceBuilder<L>, router: Router, test: impl AsyncFn(SocketAddr))
where
    L: Layer<HttpService<Router>, Service: Stack<TcpStream>>
        + Layer<HandOff<IO>, Service: Stack<TcpStream>>
        + Clone,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stack = layers.clone().service(HttpService::new(router.clone()));
    let server = Fixture::serve(stack);
    test(server.address).await;
    server.finish().await;

    let server = OtherWay::serve(incoming(layers), router);
    test(server.address).await;
    server.finish().await;
}

/// Status and body of the answer to one request; the connection ends with it.
async fn request(stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> (StatusCode, String) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut stream = stream;
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    answer(stream).await
}

async fn answer(mut stream: impl AsyncRead + Unpin) -> (StatusCode, String) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Answers each question that the extractors can.
fn curious() -> Router {
    Router::new()
        .route(
            "/info",
            get(|Info(info): Info| async move { info.peer().to_string() }),
        )
        .route(
            "/name",
            get(|name: ServerName| async move { name.to_string() }),
        )
        .route(
            "/maybe-name",
            get(|name: Option<ServerName>| async move { format!("{name:?}") }),
        )
        .route("/certificate", get(certificate))
        .route(
            "/maybe-certificate",
            get(|found: Option<ClientCertificate>| async move { found.is_some().to_string() }),
        )
}

async fn certificate(certificate: ClientCertificate) -> String {
    let Some(leaf) = certificate.chain().first() else {
        return "no chain".to_owned();
    };
    assert_eq!(certificate.der(), leaf);
    leaf.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn connect_info_works_unchanged_both_ways() {
    scenario(async {
        let router = Router::new().route(
            "/",
            get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }),
        );
        let told = async |address| {
            let client = connect(address).await;
            let own = client.local_addr().unwrap().to_string();
            assert_eq!(request(client, "/").await, (StatusCode::OK, own));
        };
        let layers = ServiceBuilder::new().peer_addr();
        both_ways(layers, router.clone(), told).await;

        // And with axum's own make service.
        let incoming: Incoming<Plain> = incoming(ServiceBuilder::new().peer_addr());
        let handle = incoming.handle().unwrap().clone();
        let address = handle.config().unwrap().listeners[0]
            .address()
            .ip()
            .unwrap();
        let drained = incoming.drained();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let serve = axum::serve(incoming.into_axum(), service).with_graceful_shutdown(drained);
        let axum = tokio::spawn(serve.into_future());
        told(address).await;
        handle.stop();
        axum.await.unwrap().unwrap();
        handle.wait().await;
    });
}

#[test]
fn the_client_address_is_the_one_that_a_trusted_proxy_told() {
    scenario(async {
        async fn proxied(
            connection: Connection<Plain>,
            next: Next<Plain, ()>,
        ) -> Result<(), portcullis::BoxError> {
            let client: SocketAddr = "192.0.2.7:4000".parse()?;
            connection
                .info()
                .set_effective(client.into(), Address::Unknown);
            next.run(connection).await
        }
        let router = Router::new().route(
            "/",
            get(
                |ConnectInfo(peer): ConnectInfo<SocketAddr>, Info(info): Info| async move {
                    format!("{peer} {:?}", info.peer_addr() == Some(peer))
                },
            ),
        );
        let layers = ServiceBuilder::new().peer_addr().layer(from_fn(proxied));
        both_ways(layers, router, async |address| {
            let (status, body) = request(connect(address).await, "/").await;
            assert_eq!((status, &*body), (StatusCode::OK, "192.0.2.7:4000 true"));
        })
        .await;
    });
}

#[test]
fn without_tls_there_is_a_connection_but_no_certificate_and_no_name() {
    scenario(async {
        let layers = ServiceBuilder::new().peer_addr();
        both_ways(layers, curious(), async |address| {
            let client = connect(address).await;
            let own = client.local_addr().unwrap().to_string();
            assert_eq!(request(client, "/info").await, (StatusCode::OK, own));
            let text = |text: &str| text.to_owned();
            for (path, expected) in [
                (
                    "/name",
                    (
                        StatusCode::BAD_REQUEST,
                        text("the client sent no host name in its TLS handshake"),
                    ),
                ),
                ("/maybe-name", (StatusCode::OK, text("None"))),
                (
                    "/certificate",
                    (
                        StatusCode::FORBIDDEN,
                        text("a client certificate is required"),
                    ),
                ),
                ("/maybe-certificate", (StatusCode::OK, text("false"))),
            ] {
                assert_eq!(
                    request(connect(address).await, path).await,
                    expected,
                    "{path}"
                );
            }
        })
        .await;
    });
}

#[test]
fn what_layers_left_in_the_connection_reaches_handlers_both_ways() {
    scenario(async {
        #[derive(Clone)]
        struct Tenant(&'static str);
        async fn tenant(
            mut connection: Connection<Plain>,
            next: Next<Plain, ()>,
        ) -> Result<(), portcullis::BoxError> {
            connection.extensions_mut().insert(Tenant("acme"));
            next.run(connection).await
        }
        let router = Router::new().route(
            "/",
            get(|Extension(left): Extension<Extensions>| async move {
                left.get::<Tenant>().map_or("nobody", |tenant| tenant.0)
            }),
        );
        let layers = ServiceBuilder::new().peer_addr().layer(from_fn(tenant));
        both_ways(layers, router, async |address| {
            let (_, body) = request(connect(address).await, "/").await;
            assert_eq!(body, "acme");
        })
        .await;
    });
}

#[test]
fn the_extractors_work_with_the_make_service_of_axum_too() {
    scenario(async {
        let incoming: Incoming<Plain> = incoming(ServiceBuilder::new().peer_addr());
        let handle = incoming.handle().unwrap().clone();
        let drained = incoming.drained();
        let listener = incoming.into_axum();
        let address = axum::serve::Listener::local_addr(&listener).unwrap();
        let service = curious().into_make_service_with_connect_info::<Info>();
        let serve = axum::serve(listener, service).with_graceful_shutdown(drained);
        let axum = tokio::spawn(serve.into_future());
        let client = connect(address).await;
        let own = client.local_addr().unwrap().to_string();
        assert_eq!(request(client, "/info").await, (StatusCode::OK, own));
        handle.stop();
        axum.await.unwrap().unwrap();
        handle.wait().await;
    });
}

#[test]
fn a_router_that_is_told_nothing_says_how_to_serve_it() {
    scenario(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = tokio::spawn(axum::serve(listener, curious()).into_future());
        for path in [
            "/info",
            "/name",
            "/maybe-name",
            "/certificate",
            "/maybe-certificate",
        ] {
            let (status, body) = request(connect(address).await, path).await;
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
            assert!(
                body.contains("HttpService") && body.contains("MakeService"),
                "{body}"
            );
        }
        serve.abort();
        assert!(serve.await.unwrap_err().is_cancelled());
    });
}

#[cfg(unix)]
#[test]
fn a_peer_without_an_ip_address_is_nowhere() {
    use portcullis::listener::UnixListener;
    scenario(async {
        let path = std::env::temp_dir().join(format!("portcullis-axum-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let layers = ServiceBuilder::new().peer_addr();
        let incoming = Server::new().incoming(listener, layers).unwrap();
        let mut listener = incoming.into_axum();
        assert!(axum::serve::Listener::local_addr(&listener).is_err());
        let _client = tokio::net::UnixStream::connect(&path).await.unwrap();
        let (connection, peer) = axum::serve::Listener::accept(&mut listener).await;
        assert_eq!(
            (connection.get_ref().peer_addr(), peer),
            (None, ([0, 0, 0, 0], 0).into())
        );
        drop((connection, listener));
    });
}

/// As behind a proxy that names a Unix socket as its client's address.
#[test]
fn a_peer_without_an_ip_address_is_the_same_to_handlers_both_ways() {
    scenario(async {
        async fn proxied(
            connection: Connection<Plain>,
            next: Next<Plain, ()>,
        ) -> Result<(), portcullis::BoxError> {
            let client = Address::Unix(UnixAddress::new("/run/client"));
            connection.info().set_effective(client, Address::Unknown);
            next.run(connection).await
        }
        let router = Router::new().route(
            "/",
            get(
                |ConnectInfo(peer): ConnectInfo<SocketAddr>, Info(info): Info| async move {
                    format!("{peer} {:?}", info.peer_addr())
                },
            ),
        );
        let layers = ServiceBuilder::new().peer_addr().layer(from_fn(proxied));
        both_ways(layers, router, async |address| {
            let (status, body) = request(connect(address).await, "/").await;
            assert_eq!((status, &*body), (StatusCode::OK, "0.0.0.0:0 None"));
        })
        .await;
    });
}
