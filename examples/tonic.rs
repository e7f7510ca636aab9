//! A gRPC server with tonic at the end of a stack, over TLS with a self-signed certificate.
//!
//! ```text
//! cargo run --release --example tonic --features tonic              # or: -- 127.0.0.1:50051
//! cargo run --release --example tonic --features tonic -- --plain   # without TLS
//! python3 tests/grpc_client.py PORT CERTIFICATE                     # the exact line is printed
//! ```
//!
//! `Hello` greets once, `Chat` once for each name. Streams may stay silent indefinitely. Ctrl-C or SIGTERM
//! shuts the server down. It keeps accepting for half a second, ends the chats, and force-closes the
//! remaining clients after ten seconds.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use futures_util::{Stream, StreamExt, TryStreamExt};
use portcullis::{
    BoxError, ConnectionInfo, Server, ServiceBuilderExt,
    listener::TcpListener,
    middleware::{timeout::IoTimeoutLayer, tls::TlsLayer},
    server::Drain,
    service::HttpService,
};
use std::{
    convert::Infallible,
    env, fs,
    future::ready,
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    process,
    task::{Context, Poll},
    time::Duration,
};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    server::{Grpc, NamedService},
    service::Routes,
};
use tonic_prost::ProstCodec;
use tower::{Service, ServiceBuilder, service_fn};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();
    let (options, address): (Vec<_>, Vec<_>) =
        env::args().skip(1).partition(|a| a.starts_with("--"));
    let address = address.first().map_or("127.0.0.1:0", String::as_str);
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    println!("listening on {address}");

    let layers = ServiceBuilder::new()
        .peer_addr()
        .trace_connections("grpc")
        .connection_limit(1000);
    // Clients that do not read time out. Clients that do not send may simply be idle.
    let io_timeout = IoTimeoutLayer::new().without_read_timeout();
    let service = HttpService::new(Routes::new(Greeter).prepare()).with_streaming_calls();

    let server = Server::new()
        .drain(
            Drain::new()
                .with_notice_period(Duration::from_millis(500))
                .with_deadline(Duration::from_secs(10)),
        )
        .stop_on_signals();
    if options.iter().any(|option| option == "--plain") {
        println!("try: python3 tests/grpc_client.py {}", address.port());
        let stack = layers.layer(io_timeout).service(service);
        server.listen(listener, stack).run().await?;
    } else {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let identity = rcgen::generate_simple_self_signed(names)?;
        let (chain, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
        // Half of the connection limit, so that silent clients cannot fill it.
        let tls = TlsLayer::from_pem(chain.as_bytes(), key.as_bytes())?
            .with_alpn(["h2"])
            .with_max_handshakes(500);
        let certificate = CertificateFile::new(&chain, address)?;
        println!(
            "try: python3 tests/grpc_client.py {} {}",
            address.port(),
            certificate.0.display()
        );
        let stack = layers.layer(tls).layer(io_timeout).service(service);
        server.listen(listener, stack).run().await?;
    }
    println!("ended");
    Ok(())
}

async fn hello(request: Request<Name>) -> Result<Response<Greeting>, Status> {
    let caller = request.remote_addr();
    Ok(Response::new(greet(request.get_ref(), caller)))
}

async fn chat(
    request: Request<Streaming<Name>>,
) -> Result<Response<impl Stream<Item = Result<Greeting, Status>>>, Status> {
    let caller = request.remote_addr();
    let info: Option<&ConnectionInfo> = request.extensions().get();
    let drain = info.expect("HttpService tells it").drain();
    let greetings = request
        .into_inner()
        .map_ok(move |name| greet(&name, caller));
    let good_bye = futures_util::stream::once(ready(Ok(Greeting {
        text: "Good-bye!".to_owned(),
    })));
    Ok(Response::new(greetings.take_until(drain).chain(good_bye)))
}

fn greet(Name { name }: &Name, caller: Option<SocketAddr>) -> Greeting {
    let from = caller.map_or("somewhere".to_owned(), |caller| caller.to_string());
    Greeting {
        text: format!("Hello {name} from {from}!"),
    }
}

// The code below is usually generated from a file like this one:
//
//     package greeter;
//     message Name     { string name = 1; }
//     message Greeting { string text = 1; }
//     service Greeter {
//         rpc Hello(Name) returns (Greeting);
//         rpc Chat(stream Name) returns (stream Greeting);
//     }

#[derive(Clone, PartialEq, prost::Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Greeting {
    #[prost(string, tag = "1")]
    text: String,
}

#[derive(Clone)]
struct Greeter;

impl NamedService for Greeter {
    const NAME: &'static str = "greeter.Greeter";
}

impl Service<http::Request<Body>> for Greeter {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default());
            Ok(match request.uri().path() {
                "/greeter.Greeter/Hello" => grpc.unary(service_fn(hello), request).await,
                "/greeter.Greeter/Chat" => grpc.streaming(service_fn(chat), request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// The server's certificate in a file for clients. Dropping this removes the file.
struct CertificateFile(PathBuf);

impl CertificateFile {
    fn new(pem: &str, address: SocketAddr) -> io::Result<Self> {
        let name = format!("portcullis-{}-{}.pem", process::id(), address.port());
        let path = env::temp_dir().join(name);
        // Creates a new file, so that it neither overwrites a file nor follows a symbolic link.
        fs::File::create_new(&path)?.write_all(pem.as_bytes())?;
        Ok(Self(path))
    }
}

impl Drop for CertificateFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
