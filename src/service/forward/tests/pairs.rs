//! All pairs of sides: over TCP and Unix sockets, plain and under TLS, with and without a way to the socket.

use super::{
    bytes::{byte, exchange, receive},
    support::{Forwards, Random, until},
};
use crate::{connect::ReturnConnection, service::forward::transfer::SPLICED};
use portcullis_middleware::{
    Connection, ConnectionInfo, TlsLayer,
    connection::{AnyStream, Socket},
    io::{BoxIo, Passthrough},
    testing,
    tls::{TlsClientIo, TlsConnector, TlsIo},
};
use socket2::SockRef;
use std::{
    cell::Cell,
    future::pending,
    io::{self, ErrorKind},
    ops::Range,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
    time::{sleep, timeout},
};
use tower::{Layer, ServiceExt};

const SOCKETS: [Kind; 2] = [Kind::Tcp, Kind::Unix];
const FORMS: [Form; 4] = [Form::Socket, Form::Boxed, Form::Tls, Form::BufferedTls];
/// Enough for several pieces.
const MOST: usize = 400_000;
/// Enough for pipes.
const BULK: usize = 3_000_000;
const PIECE: usize = 64 * 1024;
/// What a side may send to one that does not read: more than eight buffers of sockets and what the forwarder holds.
const MOST_UNREAD: usize = 2 * 1024 * 1024;
/// What the forwarder holds of a direction: a pipe, or 128 KiB and 136 KiB of a TLS session, and some records.
const MOST_HELD: u64 = 300 * 1024;
/// Far more than any step takes.
const GUARD: Duration = Duration::from_secs(60);

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

/// What a side sends to one that resets the connection.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Nothing,
    /// A little, which is not read.
    Unread,
    /// Until the end.
    Endless,
}

type Plain = Connection<Socket<AnyStream>>;

#[tokio::test]
async fn random_streams_arrive_whole_between_all_pairs_of_sides_and_through_pipes_between_sockets()
{
    #[cfg(target_os = "linux")]
    let _all = crate::service::forward::pipes::ALL_PIPES.lock().await;
    let identity = Identity::new(Buffers::OfSystem);
    for (seed, sides) in pairs() {
        let is_socket = |(_, form): &(Kind, Form)| matches!(form, Form::Socket);
        let splices = cfg!(target_os = "linux") && sides.iter().all(is_socket);
        let Pair { forwards, peers } = identity.forward(sides).await;
        let [theirs, server] = peers.map(|peer| peer.io);
        // The forwarder is in the thread of this test.
        let before = SPLICED.get();
        let most = if splices { BULK } else { MOST };
        exchange(forwards, theirs, server, seed, most).await;
        assert_eq!(SPLICED.get() > before, splices, "{sides:?}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_reset_arrives_after_all_bytes_between_all_pairs_of_sides() {
    let identity = Identity::new(Buffers::Small);
    for (number, pair) in pairs() {
        for case in 0..6 {
            let from_backend = case & 1 != 0;
            let answer = [Answer::Nothing, Answer::Unread, Answer::Endless][case as usize / 2];
            let (mut forwarded, mut sides) = (identity.forward(pair).await, pair);
            if from_backend {
                forwarded.peers.reverse();
                sides.reverse();
            }
            let resetting = reset(forwarded, sides, number << 3 | case, answer);
            timeout(GUARD, resetting).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_side_that_does_not_read_stops_the_other_one_in_all_pairs_of_sides() {
    let identity = Identity::new(Buffers::Small);
    for (seed, sides) in pairs() {
        let Pair { forwards, peers } = identity.forward(sides).await;
        let [mut client, mut server] = peers;
        let stopping = async {
            let up = stop(&mut client, &mut server, seed << 1).await;
            let down = stop(&mut server, &mut client, seed << 1 | 1).await;
            let forwarded = forwards.result().await.unwrap();
            assert_eq!([forwarded.to_backend, forwarded.to_client], [up, down]);
        };
        timeout(GUARD, stopping).await.unwrap();
    }
}

/// The first peer sends and then resets its connection, while a part of what it has sent is still on its way.
async fn reset(
    Pair { forwards, peers }: Pair,
    sides: [(Kind, Form); 2],
    seed: u64,
    answer: Answer,
) {
    let [mut sender, mut receiver] = peers;
    let mut random = Random::new(seed);
    if matches!(answer, Answer::Unread) {
        receiver.send(&vec![7; 1 + random.below(PIECE / 2)]).await;
    }
    let sent = bytes(seed, 0..MOST + random.below(MOST / 2));
    let early = match sides[1] {
        // The forwarder cannot wait until the system has sent everything.
        (Kind::Tcp, Form::Boxed) => sent.len(),
        // More than the system sends to it.
        _ => sent.len() - 4 * PIECE,
    };
    let mut received = Vec::new();
    let is_sent = Cell::new(false);
    let sending = async {
        sender.send(&sent).await;
        is_sent.set(true);
    };
    let receiving = async {
        let mut piece = [0; 16_384];
        while received.len() < early || !is_sent.get() && received.len() < sent.len() {
            if received.len() >= early {
                // Reads no more than it takes for the forwarder to read everything.
                sleep(Duration::from_millis(1)).await;
            }
            let read = receiver.io.read(&mut piece).await.unwrap();
            assert_ne!(read, 0);
            received.extend_from_slice(&piece[..read]);
        }
    };
    tokio::join!(sending, receiving);
    match sides[0].1 {
        Form::Socket | Form::Boxed => sender.io.abort(),
        // Without `close_notify`.
        Form::Tls | Form::BufferedTls => drop(sender),
    }
    let (mut input, mut output) = tokio::io::split(receiver.io);
    let answering = async {
        while matches!(answer, Answer::Endless) && output.write_all(&[7; 16_384]).await.is_ok() {}
        pending().await
    };
    let end = tokio::select! {
        end = input.read_to_end(&mut received) => end,
        end = answering => end,
    };
    assert!(received == sent, "{} of {}", received.len(), sent.len());
    if matches!(answer, Answer::Endless) {
        // The receiver has unread bytes on its way, so each kind of end may become another one.
        drop((input, output));
        let _ = forwards.result().await;
        return;
    }
    let (is_reset, expected) = match sides {
        // A Unix domain socket has no reset, except that Linux reports unread input as one.
        [(Kind::Unix, Form::Socket | Form::Boxed), _]
            if matches!(answer, Answer::Nothing) || !cfg!(target_os = "linux") =>
        {
            (false, Ok(()))
        }
        [_, (_, Form::Tls | Form::BufferedTls)] => (true, Err(ErrorKind::UnexpectedEof)),
        [_, (Kind::Tcp, _)] => (true, Err(ErrorKind::ConnectionReset)),
        [_, (Kind::Unix, _)] => (true, Ok(())),
    };
    assert_eq!(end.map(drop).map_err(|error| error.kind()), expected);
    drop((input, output));
    assert_eq!(forwards.result().await.is_err(), is_reset);
}

/// Sends until nothing more is accepted, because `receiver` does not read; then everything arrives. Returns how much.
async fn stop(sender: &mut Peer, receiver: &mut Peer, seed: u64) -> u64 {
    let mut sent = 0;
    let mut piece = bytes(seed, 0..PIECE);
    // If a slow machine takes longer, less was sent, which also passes.
    while let Ok(written) = timeout(Duration::from_millis(20), sender.io.write(&piece)).await {
        sent += written.unwrap();
        assert!(sent < MOST_UNREAD, "{sent} bytes were accepted");
        piece = bytes(seed, sent..sent + PIECE);
    }
    let read = sender.forwarder.bytes_read();
    let held = read.saturating_sub(receiver.forwarder.bytes_written());
    assert!(held < MOST_HELD, "{held} bytes are held");
    let length = sent + piece.len();
    let sending = async {
        sender.io.write_all(&piece).await.unwrap();
        sender.io.shutdown().await.unwrap();
    };
    tokio::join!(sending, receive(&mut receiver.io, seed, length, PIECE));
    length as u64
}

fn bytes(seed: u64, range: Range<usize>) -> Vec<u8> {
    range.map(|position| byte(seed, position)).collect()
}

/// All pairs of a client's side and a backend's, with numbers.
fn pairs() -> impl Iterator<Item = (u64, [(Kind, Form); 2])> {
    let sides = || {
        SOCKETS
            .into_iter()
            .flat_map(|kind| FORMS.map(|form| (kind, form)))
    };
    let pairs = sides().flat_map(move |client| sides().map(move |backend| [client, backend]));
    (1..).zip(pairs).inspect(|pair| println!("{pair:?}"))
}

/// A forwarded connection with the peers on both sides, the client first.
struct Pair {
    forwards: Forwards,
    peers: [Peer; 2],
}

/// A client or a backend.
struct Peer {
    io: Connection<BoxIo>,
    /// The info of the forwarder's end.
    forwarder: ConnectionInfo,
}

impl Peer {
    /// Sends `bytes` and waits until the forwarder has read them. A reset would discard the rest.
    async fn send(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
        self.io.flush().await.unwrap();
        until(|| self.forwarder.bytes_read() >= self.io.info().bytes_written()).await;
    }
}

impl Pair {
    fn start<IO, BackendIo>(
        client: Connection<IO>,
        backend: Connection<BackendIo>,
        [theirs, server]: [Connection<BoxIo>; 2],
    ) -> Self
    where
        IO: AsyncRead + AsyncWrite + Passthrough + Unpin + Send + 'static,
        BackendIo: AsyncRead + AsyncWrite + Passthrough + Unpin + Send + 'static,
    {
        let peers = [
            Peer {
                io: theirs,
                forwarder: client.info().clone(),
            },
            Peer {
                io: server,
                forwarder: backend.info().clone(),
            },
        ];
        let forwards = Forwards::start(client, backend, |s| s);
        Self { forwards, peers }
    }
}

/// Makes connections, under TLS with this identity.
struct Identity {
    root: String,
    key: String,
    buffers: Buffers,
}

/// Those of the sockets.
#[derive(Clone, Copy)]
enum Buffers {
    OfSystem,
    /// So that a side that does not read soon stops the other one.
    Small,
}

impl Identity {
    fn new(buffers: Buffers) -> Self {
        let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self {
            root: identity.cert.pem(),
            key: identity.signing_key.serialize_pem(),
            buffers,
        }
    }

    async fn forward(&self, [(kind, form), backend]: [(Kind, Form); 2]) -> Pair {
        let (ours, theirs) = over(kind, self.buffers).await;
        match form {
            Form::Socket => self.to(backend, ours, theirs.box_io()).await,
            Form::Boxed => self.to(backend, ours.box_io(), theirs.box_io()).await,
            Form::Tls | Form::BufferedTls => {
                let buffered = matches!(form, Form::BufferedTls);
                let (ours, theirs) = self.tls(ours, theirs, buffered).await;
                self.to(backend, ours, theirs.box_io()).await
            }
        }
    }

    async fn to<IO>(
        &self,
        (kind, form): (Kind, Form),
        client: Connection<IO>,
        theirs: Connection<BoxIo>,
    ) -> Pair
    where
        IO: AsyncRead + AsyncWrite + Passthrough + Unpin + Send + 'static,
    {
        let (backend, server) = over(kind, self.buffers).await;
        match form {
            Form::Socket => Pair::start(client, backend, [theirs, server.box_io()]),
            Form::Boxed => Pair::start(client, backend.box_io(), [theirs, server.box_io()]),
            Form::Tls | Form::BufferedTls => {
                let buffered = matches!(form, Form::BufferedTls);
                let (server, backend) = self.tls(server, backend, buffered).await;
                Pair::start(client, backend, [theirs, server.box_io()])
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

/// Both ends of a new connection, the forwarder's first.
async fn over(kind: Kind, buffers: Buffers) -> (Plain, Plain) {
    let (ours, theirs): (AnyStream, AnyStream) = match kind {
        Kind::Tcp => {
            let (ours, theirs) = testing::over_tcp().await;
            let ours = ours.into_parts().0.into_inner();
            buffers
                .limit(SockRef::from(&ours), SockRef::from(&theirs))
                .unwrap();
            (ours.into(), theirs.into())
        }
        Kind::Unix => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            buffers
                .limit(SockRef::from(&ours), SockRef::from(&theirs))
                .unwrap();
            (ours.into(), theirs.into())
        }
    };
    (Connection::accept(ours), Connection::accept(theirs))
}

impl Buffers {
    /// The system doubles these sizes.
    fn limit(self, ours: SockRef<'_>, theirs: SockRef<'_>) -> io::Result<()> {
        if matches!(self, Self::OfSystem) {
            return Ok(());
        }
        for socket in [&ours, &theirs] {
            socket.set_send_buffer_size(2 * PIECE)?;
        }
        ours.set_recv_buffer_size(2 * PIECE)?;
        // So little that the system of the forwarder still holds something when the peer resets.
        theirs.set_recv_buffer_size(PIECE)
    }
}
