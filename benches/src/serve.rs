//! The role of the server, which runs until its standard input ends.

use super::{Protocol, Variant, backend::Backend, forward, http, load::RECORD, program, tls};
use harness::{
    child::Role,
    server::{announce, serve_input},
};
use portcullis::{
    BoxError, Connection, Server, ServiceBuilderExt, listener,
    middleware::{
        access::{Acl, AclLayer},
        ip_set::IpSet,
        limit::{ClientIp, KeyedLimitLayer, Rate, RateLimitLayer},
        observe::ByteCounter,
        timeout::{ConnectionTimeoutLayer, IoTimeoutLayer},
    },
    server::Stack,
};
use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    sync::Arc,
    task::ready,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tower::{ServiceBuilder, util::MapRequestLayer};

/// First argument of the server's process; the variant, the handler and the backend follow.
pub(crate) const ROLE: &str = "serve";

/// How a server is started in a child process.
pub(crate) fn role<H: Handler>(
    variant: Variant,
    _: H,
    backend: Option<&Backend>,
) -> Result<Role, BoxError> {
    if let (Protocol::Program, Some(backend)) = (variant.protocol(), backend) {
        return program::role(variant, backend);
    }
    let backend = backend.map_or(NO_BACKEND.to_owned(), |backend| {
        backend.address().to_string()
    });
    Ok(Role {
        program: None,
        arguments: [ROLE, variant.name(), H::NAME, &backend]
            .map(Into::into)
            .into(),
        environment: match variant.protocol() {
            Protocol::Tls => tls::environment(),
            Protocol::Echo | Protocol::Http | Protocol::Forward | Protocol::Program => Vec::new(),
        },
    })
}

/// Serves until standard input ends. The first line of the output is the address.
pub(crate) fn serve(variant: &str, handler: &str, backend: &str) -> Result<(), BoxError> {
    let variant = Variant::parse(variant)?;
    // Work distribution among several workers is random.
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    if variant.protocol() == Protocol::Forward {
        return forward::start(variant, &runtime, backend.parse()?);
    }
    match (variant.protocol(), handler) {
        (Protocol::Tls, Unbuffered::NAME) => tls::start(variant, &runtime, Unbuffered),
        (Protocol::Tls, _) => tls::start(variant, &runtime, WHOLE_RECORDS),
        (_, <Buffered>::NAME) => start(variant, &runtime, BUFFERED),
        (_, Unbuffered::NAME) => start(variant, &runtime, Unbuffered),
        _ => Err(format!("there is no handler {handler}").into()),
    }
}

fn start(variant: Variant, runtime: &Runtime, handler: impl Handler) -> Result<(), BoxError> {
    /// A separate closure for each stack, because each has a different type of connection.
    macro_rules! echo {
        () => {
            move |connection: Connection<_>| handler.serve(connection)
        };
    }
    let stack = ServiceBuilder::new().peer_addr();
    match variant {
        Variant::Bare => run_bare(runtime, handler),
        Variant::BareTimer => {
            runtime.spawn(async { sleep(Duration::from_secs(3600)).await });
            run_bare(runtime, handler)
        }
        Variant::BareTimeouts => run_bare_timeouts(runtime, handler),
        Variant::PortcullisBare => run(runtime, stack.service_fn(echo!())),
        Variant::Stack => run(
            runtime,
            stack
                .trace_connections("bench")
                .connection_limit(LIMIT)
                .catch_panics()
                .io_timeout()
                .service_fn(echo!()),
        ),
        Variant::StackPlus => run(
            runtime,
            stack
                .trace_connections("bench")
                .connection_limit(LIMIT)
                .catch_panics()
                .count_bytes(ByteCounter::new())
                .io_timeout()
                .service_fn(echo!()),
        ),
        Variant::Limit => run(runtime, stack.connection_limit(LIMIT).service_fn(echo!())),
        Variant::Timeouts => run(runtime, stack.io_timeout().service_fn(echo!())),
        Variant::Trace => run(
            runtime,
            stack.trace_connections("bench").service_fn(echo!()),
        ),
        Variant::CatchPanic => run(runtime, stack.catch_panics().service_fn(echo!())),
        Variant::CountBytes => run(
            runtime,
            stack.count_bytes(ByteCounter::new()).service_fn(echo!()),
        ),
        Variant::Acl => {
            let networks = IpSet::new(["10.0.0.0/8", "127.0.0.0/8", "192.168.0.0/16"])?;
            let layer = AclLayer::new(Acl::new().allow(networks));
            run(runtime, stack.layer(layer).service_fn(echo!()))
        }
        Variant::KeyedLimit => {
            let layer = KeyedLimitLayer::new(ClientIp::default(), LIMIT);
            run(runtime, stack.layer(layer).service_fn(echo!()))
        }
        Variant::RateLimit => {
            let rate = Rate::new(1_000_000, Duration::from_secs(1));
            let layer = RateLimitLayer::new(ClientIp::default(), rate);
            run(runtime, stack.layer(layer).service_fn(echo!()))
        }
        Variant::ConnectionTimeout => {
            let layer = ConnectionTimeoutLayer::new()
                .with_idle_timeout(Duration::from_secs(3600))
                .with_max_lifetime(Duration::from_secs(86_400));
            run(runtime, stack.layer(layer).service_fn(echo!()))
        }
        Variant::TlsBare
        | Variant::TlsPortcullis
        | Variant::TlsRecommended
        | Variant::TlsRecommendedPlus => Err(format!("{variant} has TLS").into()),
        Variant::HttpHyper => http::run_hyper(runtime),
        Variant::HttpHyperPlus => http::run_hyper_plus(runtime),
        Variant::HttpAxum => http::run_axum(runtime),
        Variant::HttpPortcullis => run(runtime, stack.service(http::service())),
        Variant::HttpStack => run(
            runtime,
            stack
                .trace_connections("bench")
                .connection_limit(LIMIT)
                .catch_panics()
                .layer(IoTimeoutLayer::new().without_read_timeout())
                .service(http::service()),
        ),
        Variant::HttpValues => run(
            runtime,
            stack
                .trace_connections("bench")
                .connection_limit(LIMIT)
                .catch_panics()
                .layer(IoTimeoutLayer::new().without_read_timeout())
                .layer(MapRequestLayer::new(with_values))
                .service(http::service()),
        ),
        Variant::ForwardBare | Variant::Forward | Variant::ForwardStack => {
            Err("a forwarder has no handler".into())
        }
        Variant::Program | Variant::ProgramAdmin => Err("it is another program".into()),
    }
}

/// Puts two values into the extensions, as two layers would.
fn with_values<IO>(mut connection: Connection<IO>) -> Connection<IO> {
    #[derive(Clone)]
    struct Tenant(#[expect(dead_code, reason = "only its size counts")] u64);
    #[derive(Clone)]
    struct Region(#[expect(dead_code, reason = "only its size counts")] &'static str);
    connection.extensions_mut().insert(Tenant(1));
    connection.extensions_mut().insert(Region("here"));
    connection
}

/// The server that portcullis is compared to.
fn run_bare(runtime: &Runtime, handler: impl Handler) -> Result<(), BoxError> {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    announce(listener.local_addr()?)?;
    let accept = runtime.spawn(async move {
        while let Ok((stream, _peer)) = listener.accept().await {
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                handler.serve(stream).await
            });
        }
    });
    serve_input();
    accept.abort();
    Ok(())
}

/// The same with a semaphore as connection limit, and a timeout for each read and write.
fn run_bare_timeouts(runtime: &Runtime, handler: impl Handler) -> Result<(), BoxError> {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    announce(listener.local_addr()?)?;
    let accept = runtime.spawn(async move {
        let limit = Arc::new(Semaphore::new(LIMIT));
        while let Ok(permit) = limit.clone().acquire_owned().await
            && let Ok((stream, _peer)) = listener.accept().await
        {
            tokio::spawn(async move {
                let _permit = permit;
                stream.set_nodelay(true)?;
                handler.serve_with_timeouts(stream).await
            });
        }
    });
    serve_input();
    accept.abort();
    Ok(())
}

pub(crate) fn run(runtime: &Runtime, stack: impl Stack<TcpStream>) -> Result<(), BoxError> {
    let listener = listener::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = Server::new().listen(listener, stack);
    let _in_runtime = runtime.enter();
    let handle = server.spawn()?;
    announce(address)?;
    serve_input();
    handle.stop_at_once();
    runtime.block_on(handle.wait());
    Ok(())
}

/// What a server does with a connection.
///
/// In async blocks, because the future of an `async fn` holds its arguments twice, with the connection.
pub(crate) trait Handler: Copy + Send + Sync + 'static {
    const NAME: &str;

    fn serve<Io>(self, io: Io) -> impl Future<Output = io::Result<()>> + Send
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send;

    /// Does the same, with [`TIMEOUT`] around each read and write.
    fn serve_with_timeouts<Io>(self, io: Io) -> impl Future<Output = io::Result<()>> + Send
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send;
}

/// Echoes with a buffer per connection. It is left uninitialized, because valgrind counts zeroing byte by
/// byte, which would hide everything else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffered<const SIZE: usize = BUFFER>;

pub(crate) const BUFFERED: Buffered = Buffered;

/// The same, for a whole record of TLS at a time.
const WHOLE_RECORDS: Buffered<{ RECORD + 1 }> = Buffered;

impl<const SIZE: usize> Handler for Buffered<SIZE> {
    const NAME: &str = "buffered";

    #[expect(clippy::manual_async_fn, reason = "see the trait")]
    fn serve<Io>(self, mut io: Io) -> impl Future<Output = io::Result<()>> + Send
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send,
    {
        async move {
            let mut buffer = Vec::with_capacity(SIZE);
            while io.read_buf(&mut buffer).await? > 0 {
                io.write_all(&buffer).await?;
                buffer.clear();
            }
            Ok(())
        }
    }

    #[expect(clippy::manual_async_fn, reason = "see the trait")]
    fn serve_with_timeouts<Io>(self, mut io: Io) -> impl Future<Output = io::Result<()>> + Send
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send,
    {
        async move {
            let mut buffer = Vec::with_capacity(SIZE);
            // Through one more reference, so that the code is separate from that of `serve`. The compiler
            // would not inline shared code, and the reference would cost 40 instructions more.
            while timeout(TIMEOUT, io.read_buf(&mut &mut buffer)).await?? > 0 {
                timeout(TIMEOUT, io.write_all(&buffer)).await??;
                buffer.clear();
            }
            Ok(())
        }
    }
}

/// Echoes without holding a buffer while it waits, like a server of many idle connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unbuffered;

impl Handler for Unbuffered {
    const NAME: &str = "unbuffered";

    #[expect(clippy::manual_async_fn, reason = "see the trait")]
    fn serve<Io>(self, mut io: Io) -> impl Future<Output = io::Result<()>> + Send
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send,
    {
        async move {
            loop {
                let message = read_some(&mut io).await?;
                if message.is_empty() {
                    return Ok(());
                }
                io.write_all(&message).await?;
            }
        }
    }

    #[expect(clippy::manual_async_fn, reason = "see the trait")]
    fn serve_with_timeouts<Io>(self, mut io: Io) -> impl Future<Output = io::Result<()>> + Send
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send,
    {
        async move {
            loop {
                let message = timeout(TIMEOUT, read_some(&mut io)).await??;
                if message.is_empty() {
                    return Ok(());
                }
                timeout(TIMEOUT, io.write_all(&message)).await??;
            }
        }
    }
}

/// Reads what has arrived, and allocates only then.
async fn read_some(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut io = pin!(io);
    poll_fn(|cx| {
        let mut space = [MaybeUninit::uninit(); BUFFER];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *io).poll_read(cx, &mut read))?;
        Ok(read.filled().to_vec()).into()
    })
    .await
}

/// In place of a backend.
const NO_BACKEND: &str = "-";

/// More than a message. tokio reads once more after a read that fills the buffer.
const BUFFER: usize = 1024;

/// The default of `IoTimeoutLayer`.
const TIMEOUT: Duration = Duration::from_secs(60);

/// More connections than are ever open.
pub(crate) const LIMIT: usize = 100_000;
