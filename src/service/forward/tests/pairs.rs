//! All pairs of sides: over TCP and Unix sockets, plain and under TLS, with and without a way to the socket.

use super::{bytes::exchange, support::Forwards};
use crate::connect::ReturnConnection;
use portcullis_middleware::{
    Connection, TlsLayer,
    connection::{AnyStream, Socket},
    io::Passthrough,
    testing,
    tls::{TlsClientIo, TlsConnector, TlsIo},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};
use tower::{Layer, ServiceExt};

const SOCKETS: [Kind; 2] = [Kind::Tcp, Kind::Unix];
const FORMS: [Form; 4] = [Form::Socket, Form::Boxed, Form::Tls, Form::BufferedTls];
/// Enough for several pieces of 64 KiB, and for pipes.
const MOST: usize = 400_000;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Tcp,
    Unix,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    /// Bytes between two of these move by `splice(2)`.
    Socket,
    /// Hides its socket.
    Boxed,
    Tls,
    /// A TLS session with buffers, which is the default of the layer.
    BufferedTls,
}

type Plain = Connection<Socket<AnyStream>>;

#[tokio::test]
async fn random_streams_arrive_whole_between_all_pairs_of_sides() {
    let identity = Identity::new();
    let sides = || {
        SOCKETS
            .into_iter()
            .flat_map(|kind| FORMS.map(|form| (kind, form)))
    };
    let mut seed = 0;
    for client in sides() {
        for backend in sides() {
            seed += 1;
            println!("pair {seed}: {client:?} to {backend:?}");
            identity.forward(client, backend, seed).await;
        }
    }
    assert_eq!(seed, 64);
}

struct Identity {
    root: String,
    key: String,
}

impl Identity {
    fn new() -> Self {
        let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self {
            root: identity.cert.pem(),
            key: identity.signing_key.serialize_pem(),
        }
    }

    async fn forward(&self, client: (Kind, Form), backend: (Kind, Form), seed: u64) {
        let (ours, theirs) = over(client.0).await;
        match client.1 {
            Form::Socket => self.to(backend, ours, theirs, seed).await,
            Form::Boxed => self.to(backend, ours.box_io(), theirs, seed).await,
            Form::Tls | Form::BufferedTls => {
                let buffered = matches!(client.1, Form::BufferedTls);
                let (ours, theirs) = self.tls(ours, theirs, buffered).await;
                self.to(backend, ours, theirs, seed).await;
            }
        }
    }

    async fn to<IO, Theirs>(
        &self,
        (kind, form): (Kind, Form),
        client: Connection<IO>,
        theirs: Theirs,
        seed: u64,
    ) where
        IO: AsyncRead + AsyncWrite + Passthrough + Unpin + Send + 'static,
        Theirs: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (server, backend) = over(kind).await;
        match form {
            Form::Socket => {
                let forwards = Forwards::start(client, backend, |s| s);
                exchange(forwards, theirs, server, seed, MOST).await;
            }
            Form::Boxed => {
                let forwards = Forwards::start(client, backend.box_io(), |s| s);
                exchange(forwards, theirs, server, seed, MOST).await;
            }
            Form::Tls | Form::BufferedTls => {
                let buffered = matches!(form, Form::BufferedTls);
                let (server, backend) = self.tls(server, backend, buffered).await;
                let forwards = Forwards::start(client, backend, |s| s);
                exchange(forwards, theirs, server, seed, MOST).await;
            }
        }
    }

    /// The same connection under TLS, at both ends.
    async fn tls(
        &self,
        server: Plain,
        client: Plain,
        buffered: bool,
    ) -> (
        Connection<TlsIo<Socket<AnyStream>>>,
        Connection<TlsClientIo<Socket<AnyStream>>>,
    ) {
        let mut layer = TlsLayer::from_pem(self.root.as_bytes(), self.key.as_bytes()).unwrap();
        let mut connector = TlsConnector::with_roots_pem(self.root.as_bytes()).unwrap();
        if !buffered {
            (layer, connector) = (layer.unbuffered(), connector.unbuffered());
        }
        let server = layer.layer(ReturnConnection::default()).oneshot(server);
        let (server, client) = tokio::join!(server, connector.connect("localhost", client));
        (server.unwrap(), client.unwrap())
    }
}

/// Both ends of a new connection.
async fn over(kind: Kind) -> (Plain, Plain) {
    let (one, other): (AnyStream, AnyStream) = match kind {
        Kind::Tcp => {
            let (server, client) = testing::over_tcp().await;
            (server.into_parts().0.into_inner().into(), client.into())
        }
        Kind::Unix => {
            let (one, other) = UnixStream::pair().unwrap();
            (one.into(), other.into())
        }
    };
    (Connection::accept(one), Connection::accept(other))
}
