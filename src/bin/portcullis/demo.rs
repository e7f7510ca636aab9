//! `portcullis demo`: a gate before services of its own. Nothing is written to disk, and all is on loopback.

mod load;

use crate::{
    args,
    config::{Config, Placed, Problems, Secret, Source, TokenSource},
    exit, run, small,
    system::Sockets,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use portcullis::{
    BoxError, ConnectionInfo, Server, ServiceBuilderExt,
    listener::TcpListener,
    middleware::{
        proxy_protocol::{ProxyProtocolLayer, TrustedSources},
        tls::TlsLayer,
    },
    server::Stack,
    service::{
        HttpService,
        http::{RequestBody, RequestService},
    },
};
use std::{
    convert::Infallible,
    net::{self, SocketAddr},
    process::ExitCode,
};
use tokio::{net::TcpStream, time::Instant};
use tower::{ServiceBuilder, service_fn};

const CONFIGURATION: &str = include_str!("demo.toml");

pub(crate) fn demo(args: &args::Demo) -> ExitCode {
    let addresses = [
        ("WEB", 8443),
        ("SNI", 8444),
        ("ECHO", 7007),
        ("ADMIN", 9900),
    ];
    let addresses = addresses.map(|(name, port)| (name, free(port)));
    let [web, sni, echo, _] = addresses.map(|(_, address)| address);
    let listeners = load::Listeners { web, sni, echo };
    let addresses = addresses.map(|(name, address)| (name, address.to_string()));
    let mut text = CONFIGURATION.to_owned();
    for (name, address) in &addresses {
        text = text.replace(name, address);
    }
    if args.print {
        print!(
            "{}",
            with_servers(
                text,
                [
                    "127.0.0.1:8001",
                    "127.0.0.1:8002",
                    "127.0.0.1:8003",
                    "127.0.0.1:7001"
                ]
            )
        );
        return ExitCode::from(exit::OK);
    }
    let identity = match Identity::new() {
        Ok(identity) => identity,
        Err(error) => return failed(&error),
    };
    let runtime = run::runtime();
    let servers = {
        let _guard = runtime.enter();
        match start_servers(&identity) {
            Ok(servers) => servers.map(|address| address.to_string()),
            Err(error) => return failed(&error),
        }
    };
    let text = with_servers(text, servers.each_ref().map(|address| &**address));
    let mut problems = Problems::default();
    let mut config = Config::parse(&Source::new("demo", text), &mut problems);
    for certificate in &mut config.certificates {
        certificate.in_memory = Some((identity.chain.clone(), identity.key.clone()));
    }
    let token = match Secret::random() {
        Ok(token) => token,
        Err(error) => return failed(&error.into()),
    };
    if let Some(admin) = &mut config.admin {
        admin.token = Some(Placed {
            value: TokenSource::InMemory(token.clone()),
            place: admin.listen.place.clone(),
        });
    }
    let [web, sni, echo, admin] = addresses.map(|(_, address)| address);
    describe([&web, &sni, &echo, &admin], token.expose());
    if args.load {
        runtime.spawn(load::run(listeners, identity.chain));
    }
    run::serve_on(&runtime, config, problems, None, Sockets::default())
}

fn failed(error: &BoxError) -> ExitCode {
    eprintln!("portcullis: {error}");
    ExitCode::from(exit::FAILED)
}

fn describe([web, sni, echo, admin]: [&str; 4], token: &str) {
    let (sni_port, echo_port) = (port_of(sni), port_of(echo));
    println!(
        "portcullis {version}, demo: a gate before services of its own, all in memory. Ctrl-C shuts it down.

  web   https://{web}   TLS ends here; one of its two servers is down every other half minute
  sni   {sni}   a.test is terminated, b.test is passed through, others are refused
  echo  {echo}   3 connections per client, 64 KiB/s each
  page  http://{admin}   live connections, endings, plots; the token for changes is
        {token}

try:
  curl -k https://{web}
  curl -k --resolve a.test:{sni_port}:127.0.0.1 https://a.test:{sni_port}
  curl -k --resolve b.test:{sni_port}:127.0.0.1 https://b.test:{sni_port}
  nc 127.0.0.1 {echo_port}   in four terminals: the fourth one is refused, and the page says why
  portcullis ctl --admin http://{admin} status
  portcullis demo --load   makes gentle traffic, so that the page has something to show

The configuration as a file: portcullis demo --print
",
        version = env!("CARGO_PKG_VERSION"),
    );
}

fn port_of(address: &str) -> &str {
    address.rsplit(':').next().unwrap_or(address)
}

fn with_servers(text: String, servers: [&str; 4]) -> String {
    let names = ["SERVER1", "SERVER2", "SERVER3", "SERVER4"];
    let named = names.into_iter().zip(servers);
    named.fold(text, |text, (name, server)| text.replace(name, server))
}

/// The usual port, or any if another program has that one.
fn free(port: u16) -> SocketAddr {
    let bound = net::TcpListener::bind(("127.0.0.1", port))
        .or_else(|_| net::TcpListener::bind("127.0.0.1:0"));
    bound
        .and_then(|listener| listener.local_addr())
        .unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], port)))
}

/// A self-signed certificate.
struct Identity {
    chain: String,
    key: String,
}

impl Identity {
    fn new() -> Result<Self, BoxError> {
        let names = ["localhost", "a.test", "b.test"].map(str::to_owned);
        let certified = rcgen::generate_simple_self_signed(names)?;
        Ok(Self {
            chain: certified.cert.pem(),
            key: certified.signing_key.serialize_pem(),
        })
    }
}

/// The services behind the gate: two web servers, one with TLS, and an echo.
fn start_servers(identity: &Identity) -> Result<[SocketAddr; 4], BoxError> {
    let web = |name: &'static str, flaps: bool| {
        let proxies = ProxyProtocolLayer::new(TrustedSources::new(["127.0.0.1"])?);
        let stack = ServiceBuilder::new()
            .peer_addr()
            .connection_limit(1_000)
            .layer(proxies)
            .service(page(name, flaps));
        serve(stack)
    };
    let tls = TlsLayer::from_pem(identity.chain.as_bytes(), identity.key.as_bytes())?;
    let with_tls = ServiceBuilder::new()
        .peer_addr()
        .connection_limit(1_000)
        .layer(tls)
        .service(page("the server that terminates TLS itself", false));
    let echo = ServiceBuilder::new()
        .peer_addr()
        .connection_limit(1_000)
        .service_fn(small::send_back);
    Ok([
        web("server 1", false)?,
        web("server 2", true)?,
        serve(with_tls)?,
        serve(echo)?,
    ])
}

fn serve(stack: impl Stack<TcpStream>) -> Result<SocketAddr, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // It ends with the process.
    drop(Server::new().listen(listener, stack).spawn()?);
    Ok(address)
}

/// A page that names the server and the client. If it `flaps`, its health checks fail every other half minute.
fn page(name: &'static str, flaps: bool) -> HttpService<impl RequestService> {
    const HALF: u64 = 30;
    let started = Instant::now();
    HttpService::new(service_fn(
        move |request: Request<RequestBody>| async move {
            let is_down = flaps && started.elapsed().as_secs() / HALF % 2 == 1;
            let mut response = Response::new(Full::new(Bytes::new()));
            if request.uri().path() == "/healthz" {
                if is_down {
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                }
            } else {
                let client = request.extensions().get::<ConnectionInfo>();
                let client = client.map_or_else(String::new, |info| format!(", {}", info.peer()));
                *response.body_mut() =
                    Full::new(Bytes::from(format!("hello{client}, from {name}\n")));
            }
            Ok::<_, Infallible>(response)
        },
    ))
}
