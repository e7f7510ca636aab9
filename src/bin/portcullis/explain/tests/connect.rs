//! Real connections through the stack of a listener, over loopback.

use super::{Client, Files, Shown, Speaks, Via};
use crate::{
    build::Gate,
    config::{Listener, Prelude},
    explain::client::first_bytes,
};
use portcullis::{
    BoxError,
    connection::AnyStream,
    middleware::{
        error::{Refused, find},
        proxy_protocol::ProxyHeaderError,
        tls::{
            provider,
            rustls::{
                ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
                client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
                pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
            },
        },
    },
    upstream::NoBackend,
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tower::{Service, ServiceExt};

/// Servers that greet each client with their number.
pub(super) struct Backends {
    pub(super) addresses: Vec<SocketAddr>,
    /// What they send before that.
    greeting: Arc<Mutex<&'static str>>,
}

impl Backends {
    /// Greets as servers behind the prelude of `listener` do.
    pub(super) fn greet_behind(&self, listener: &Listener) {
        let prelude = listener.prelude.as_ref().map(|it| it.value);
        *self.greeting.lock().expect("no panic") = match prelude {
            Some(Prelude::Smtp) => "220 ready\r\n",
            Some(Prelude::Imap) => "* OK ready\r\n",
            Some(Prelude::Pop3) => "+OK ready\r\n",
            Some(Prelude::Postgres | Prelude::Xmpp) | None => "",
        };
    }

    pub(super) async fn start() -> Self {
        let mut addresses = Vec::new();
        let greeting = Arc::new(Mutex::new(""));
        for number in 0..4 {
            let listener = TcpListener::bind("127.0.0.1:0")
                .await
                .expect("a port is free");
            addresses.push(listener.local_addr().expect("it is bound"));
            let greeting = greeting.clone();
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let greeting = *greeting.lock().expect("no panic");
                    tokio::spawn(async move {
                        let greeting = format!("{greeting}#{number}");
                        stream.write_all(greeting.as_bytes()).await?;
                        // Until the client ends the connection.
                        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
                    });
                }
            });
        }
        Self {
            addresses,
            greeting,
        }
    }
}

/// What became of a client.
pub(super) struct Outcome {
    /// The number of the server that has greeted it.
    pub(super) server: Option<usize>,
    /// The guard, by the error of the stack.
    pub(super) rejected_by: Option<String>,
    error: Option<BoxError>,
    /// The connection, while it is kept open.
    pub(super) stream: Option<Box<dyn Stream>>,
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "server {:?}, rejected by {:?}, {:?}",
            self.server, self.rejected_by, self.error
        )
    }
}

/// Connects as `client` does, and waits until a server greets it or the stack has ended it.
pub(super) async fn connect(
    gate: &Gate,
    listener: &Listener,
    client: &Client,
    files: &Files,
) -> Outcome {
    let acceptor = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let port = acceptor.local_addr().expect("it is bound").port();
    let (socket, header) = match (listener.proxy_protocol.is_some(), client.via) {
        (false, _) | (true, Via::Direct) => (client.address, None),
        (true, Via::TrustedProxy) => (Ipv4Addr::new(127, 0, 0, 3).into(), Some(client.address)),
        (true, Via::Proxy(proxy)) => (proxy, Some(client.address)),
    };
    let dialed = dial(socket, port);
    let (stream, accepted) = tokio::join!(dialed, acceptor.accept());
    let (mut stream, (accepted, _)) = (stream.expect("it listens"), accepted.expect("a client"));
    let mut stack = gate.stack.clone();
    let served = tokio::spawn(async move {
        let stack = stack.ready().await?;
        stack.call(AnyStream::from(accepted)).await
    });
    if let Some(address) = header {
        let addresses = match address {
            IpAddr::V4(address) => format!("TCP4 {address} 192.0.2.1"),
            IpAddr::V6(address) => format!("TCP6 {address} 2001:db8::1"),
        };
        let header = format!("PROXY {addresses} 4000 443\r\n");
        // The stack may have rejected it already.
        let _reset = stream.write_all(header.as_bytes()).await;
    }
    let (server, stream) = match timeout(PATIENCE, speak(stream, listener, client, files)).await {
        Ok(Ok((server, stream))) => (Some(server), stream),
        Ok(Err(_)) => (None, None),
        Err(_) => panic!("neither greeted nor rejected"),
    };
    if server.is_some() {
        return Outcome {
            server,
            rejected_by: None,
            error: None,
            stream,
        };
    }
    let ended = timeout(PATIENCE, served).await.expect("the stack ends it");
    let error = ended.expect("no panic").err();
    let rejected_by = error.as_deref().map(|error| guard_of(error, listener));
    Outcome {
        server,
        rejected_by,
        error,
        stream: None,
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

async fn dial(from: IpAddr, port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_nodelay(true)?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, port).into()).await
}

/// The guard of an error, as `explain` names it.
fn guard_of(
    error: &(dyn std::error::Error + Send + Sync + 'static),
    listener: &Listener,
) -> String {
    if let Some(refused) = find::<Refused>(error) {
        return refused.by().to_owned();
    }
    if find::<NoBackend>(error).is_some() {
        return "backend".into();
    }
    if find::<ProxyHeaderError>(error).is_some() {
        return "proxy_protocol".into();
    }
    // A client that goes away before it has requested TLS.
    if listener.prelude.is_some() && error.is::<io::Error>() {
        return "prelude".into();
    }
    "tls".into()
}

/// Speaks as the client does, and returns the number of the server that greets it.
async fn speak(
    mut stream: TcpStream,
    listener: &Listener,
    client: &Client,
    files: &Files,
) -> io::Result<(usize, Option<Box<dyn Stream>>)> {
    let (name, alpn) = match &client.speaks {
        Speaks::Tls { name, alpn } => (name, alpn),
        Speaks::Other(protocol) => {
            stream.write_all(first_bytes(*protocol)).await?;
            if listener.prelude.is_some() {
                // The prelude may wait for more, as XMPP does behind empty lines.
                stream.shutdown().await?;
            }
            let server = greeting(&mut stream).await?;
            return Ok((server, Some(Box::new(stream))));
        }
        Speaks::Expected => unreachable!("it is not tried"),
    };
    if let Some(prelude) = &listener.prelude {
        request_tls(&mut stream, prelude.value).await?;
    }
    let plain = Arc::new(Mutex::new(Vec::new()));
    let recording = Recording {
        stream,
        plain: plain.clone(),
    };
    let name = match name {
        Some(name) => ServerName::try_from(name.clone()).expect("a name"),
        None => IpAddr::V4(Ipv4Addr::LOCALHOST).into(),
    };
    let config = config(client, alpn, files);
    match TlsConnector::from(Arc::new(config))
        .connect(name, recording)
        .await
    {
        Ok(mut stream) => {
            let server = greeting(&mut stream).await?;
            Ok((server, Some(Box::new(stream))))
        }
        // A server behind the gate that speaks no TLS has greeted. The connection is closed by now.
        Err(error) => {
            let plain = plain.lock().expect("no panic");
            match number(&plain) {
                Some(server) => Ok((server, None)),
                None => Err(error),
            }
        }
    }
}

/// Requests TLS in the plain text of the protocol.
async fn request_tls(stream: &mut TcpStream, prelude: Prelude) -> io::Result<()> {
    // Servers of mail greet first. The request does not wait for it, so that a missing PROXY header is noticed.
    let requests: [(&[u8], &str); 2] = match prelude {
        Prelude::Postgres => [(b"\0\0\0\x08\x04\xd2\x16\x2f", "S"), (b"", "")],
        Prelude::Smtp => [(b"STARTTLS\r\n", "\r\n"), (b"", "\r\n")],
        Prelude::Imap => [(b"a STARTTLS\r\n", "\r\n"), (b"", "\r\n")],
        Prelude::Pop3 => [(b"STLS\r\n", "\r\n"), (b"", "\r\n")],
        Prelude::Xmpp => [
            (b"<stream:stream to='a'>", "</stream:features>"),
            (b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "/>"),
        ],
    };
    let mut reply = Vec::new();
    for (request, end) in requests {
        stream.write_all(request).await?;
        reply.clear();
        while !reply.ends_with(end.as_bytes()) {
            reply.push(stream.read_u8().await?);
        }
    }
    // Behind a PROXY header that was taken for a command, it is the answer to that.
    let consents: [&[u8]; 4] = [b"220", b"a OK", b"+OK", b"<proceed"];
    match prelude == Prelude::Postgres || consents.iter().any(|it| reply.starts_with(it)) {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

async fn greeting(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).await?;
    number(&greeting).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn number(greeting: &[u8]) -> Option<usize> {
    let digit = char::from(*greeting.strip_prefix(b"#")?.first()?).to_digit(10)?;
    Some(digit as usize)
}

fn config(client: &Client, alpn: &[String], files: &Files) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting));
    let mut config = match &client.certificate {
        Shown::Chain(chain) => {
            let shown = |(pem, _): &&(String, String)| {
                let own = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
                *own == *chain[0]
            };
            let (_, key) = files.clients.iter().find(shown).expect("one of them");
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            let chain = chain.iter().map(|der| CertificateDer::from(der.clone()));
            builder
                .with_client_auth_cert(chain.collect(), key)
                .expect("they match")
        }
        Shown::None | Shown::Names(_) => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.clone().into_bytes()).collect();
    config
}

/// Accepts each certificate of a server, because the names do not matter here.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// Keeps the first bytes that are read.
struct Recording {
    stream: TcpStream,
    plain: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Recording {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let mut plain = self.plain.lock().expect("no panic");
        if plain.len() < 2 {
            plain.extend_from_slice(&buf.filled()[before..]);
        }
        drop(plain);
        read
    }
}

impl AsyncWrite for Recording {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
