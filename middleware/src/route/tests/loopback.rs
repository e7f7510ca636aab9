//! One port over real sockets: some names are terminated here, others are passed through.

use super::*;
use crate::{
    ServiceBuilderExt,
    connection::Socket,
    io::PrefixedIo,
    peek::PeekLayer,
    tls::{TlsConnector, TlsLayer},
};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tower::ServiceBuilder;

type Peeked = PrefixedIo<Socket<TcpStream>>;

/// TLS for `name` by a certificate of its own.
struct Site {
    tls: TlsLayer,
    client: TlsConnector,
    name: &'static str,
}

impl Site {
    fn new(name: &'static str) -> Self {
        let identity = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (chain, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
        Self {
            tls: TlsLayer::from_pem(chain.as_bytes(), key.as_bytes()).unwrap(),
            client: TlsConnector::with_roots_pem(chain.as_bytes()).unwrap(),
            name,
        }
    }

    /// Terminates TLS and writes `answer`.
    fn terminates(
        &self,
        answer: &'static str,
    ) -> impl Service<Connection<Peeked>, Response = (), Error = BoxError, Future: Send>
    + Clone
    + Sync
    + use<> {
        ServiceBuilder::new().layer(self.tls.clone()).service_fn(
            move |mut connection: Connection<_>| async move {
                connection.write_all(answer.as_bytes()).await?;
                connection.close().await
            },
        )
    }

    /// What the server at `address` writes to a client that verifies this site's certificate.
    async fn ask(&self, address: SocketAddr) -> Result<String, BoxError> {
        let tcp = Connection::accept(TcpStream::connect(address).await?);
        let mut tls = self.client.connect(self.name, tcp).await?;
        let mut answer = String::new();
        tls.read_to_string(&mut answer).await?;
        tls.close().await?;
        Ok(answer)
    }
}

/// Passes the bytes on to the server at `address`.
async fn forward(mut connection: Connection<Peeked>, address: SocketAddr) -> Result<(), BoxError> {
    let mut server = TcpStream::connect(address).await?;
    copy_bidirectional(&mut connection, &mut server).await?;
    Ok(connection.close().await?)
}

/// Serves connections until it is dropped.
struct Serving(SocketAddr, JoinHandle<()>);

impl Serving {
    async fn new(router: Router<Peeked>) -> Self {
        let stack = ServiceBuilder::new().peer_addr().layer(PeekLayer::new());
        let mut stack = stack.service(router);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(stack.call(stream));
            }
        });
        Self(address, serving)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.1.abort();
    }
}

#[tokio::test]
async fn one_port_terminates_some_names_and_passes_others_through_with_the_right_certificates() {
    let (here, there) = (Site::new("here.example"), Site::new("www.there.example"));
    let backend = Routes::new().with_default(there.terminates("from the backend"));
    let backend = Serving::new(Router::new(backend)).await;
    let behind = backend.0;
    let pass = service_fn(move |connection| forward(connection, behind));
    let routes = Routes::new()
        .with_name("here.example", here.terminates("terminated here"))
        .and_then(|routes| routes.with_name("*.there.example", pass))
        .unwrap();
    let router = Router::new(routes);
    let handle = router.handle();
    let front = Serving::new(router).await;

    for _ in 0..3 {
        assert_eq!(here.ask(front.0).await.unwrap(), "terminated here");
        assert_eq!(there.ask(front.0).await.unwrap(), "from the backend");
    }
    // A name without a route, although its client would trust the certificate.
    let other = Site {
        name: "there.example",
        ..there
    };
    assert!(other.ask(front.0).await.is_err());

    // Replaced at run time.
    let pass = service_fn(move |connection| forward(connection, behind));
    let routes = Routes::new().with_name("*.there.example", pass).unwrap();
    handle.replace(routes.with_default(here.terminates("terminated by default")));
    assert_eq!(here.ask(front.0).await.unwrap(), "terminated by default");
    let there = Site {
        name: "www.there.example",
        ..other
    };
    assert_eq!(there.ask(front.0).await.unwrap(), "from the backend");
}
