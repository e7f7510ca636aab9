//! `portcullis demo`: a gate before services of its own. Nothing is written to disk, and all is on loopback.

mod load;

use crate::{
    args,
    config::{Config, ListenAddress, Placed, Problems, Secret, Source, TokenSource},
    exit, output, run, small,
    system::Sockets,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use portcullis::{
    BoxError, ConnectionInfo, Server, ServiceBuilderExt,
    listener::{AnyListener, TcpListener},
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
    env,
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
};
use tokio::{net::TcpStream, time::Instant};
use tower::{ServiceBuilder, service_fn};

const CONFIGURATION: &str = include_str!("demo.toml");

pub(crate) fn demo(args: &args::Demo) -> ExitCode {
    if args.print {
        let text = with_addresses(PORTS.map(local));
        let ports = [8001, 8002, 8003, 7001];
        return output::end_with(&with_servers(text, ports.map(local)), exit::OK);
    }
    let runtime = run::runtime();
    let prepared = {
        let _guard = runtime.enter();
        prepare()
    };
    let Demo {
        config,
        problems,
        sockets,
        addresses,
        chain,
        token,
    } = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return failed(&error),
    };
    run::serve_on(&runtime, config, problems, None, sockets, || {
        output::try_print(&describe(addresses, token.expose()))?;
        if args.load {
            let [web, sni, echo, _] = addresses;
            tokio::spawn(load::run(load::Listeners { web, sni, echo }, chain));
        }
        Ok(())
    })
}

/// A gate whose sockets are open, and whose servers run.
struct Demo {
    config: Config,
    problems: Problems,
    sockets: Sockets,
    /// In the order of [`LISTENERS`].
    addresses: [SocketAddr; 4],
    /// The certificate of the gate.
    chain: String,
    token: Secret,
}

fn prepare() -> Result<Demo, BoxError> {
    let identity = Identity::new()?;
    let servers = start_servers(&identity)?;
    let [web, sni, echo, admin] = PORTS.map(bind);
    let bound = [web?, sni?, echo?, admin?];
    let addresses = bound.each_ref().map(|(address, _)| *address);
    let text = with_servers(with_addresses(addresses), servers);
    let mut problems = Problems::default();
    let mut config = Config::parse(&Source::unnamed(text), &mut problems);
    for certificate in &mut config.certificates {
        certificate.in_memory = Some((identity.chain.clone(), identity.key.clone()));
    }
    let token = Secret::random()?;
    if let Some(admin) = &mut config.admin {
        admin.token = Some(Placed {
            value: TokenSource::InMemory(token.clone()),
            place: admin.listen.place.clone(),
        });
    }
    let mut sockets = Sockets::default();
    for (address, socket) in bound {
        sockets.add_open(ListenAddress::Tcp(address), socket);
    }
    Ok(Demo {
        config,
        problems,
        sockets,
        addresses,
        chain: identity.chain,
        token,
    })
}

/// As the configuration has them in place of addresses.
const LISTENERS: [&str; 4] = ["WEB", "SNI", "ECHO", "ADMIN"];
const PORTS: [u16; 4] = [8443, 8444, 7007, 9900];

/// Listens on the usual port, or on any if another program has that one.
fn bind(port: u16) -> Result<(SocketAddr, AnyListener), BoxError> {
    let listener = TcpListener::bind(local(port)).or_else(|_| TcpListener::bind(local(0)))?;
    Ok((listener.local_addr()?, listener.into()))
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn with_addresses(addresses: [SocketAddr; 4]) -> String {
    put(CONFIGURATION.to_owned(), LISTENERS, addresses)
}

fn with_servers(text: String, servers: [SocketAddr; 4]) -> String {
    put(text, ["SERVER1", "SERVER2", "SERVER3", "SERVER4"], servers)
}

/// Puts addresses in the place of names.
fn put(text: String, names: [&str; 4], addresses: [SocketAddr; 4]) -> String {
    let named = names.into_iter().zip(addresses);
    named.fold(text, |text, (name, address)| {
        text.replace(name, &address.to_string())
    })
}

fn failed(error: &BoxError) -> ExitCode {
    output::say(format_args!("portcullis: {error}"));
    ExitCode::from(exit::FAILED)
}

fn describe([web, sni, echo, admin]: [SocketAddr; 4], token: &str) -> String {
    let (sni_port, echo_port) = (sni.port(), echo.port());
    format!(
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
  {program} ctl --admin http://{admin} status
  {program} demo --load   makes gentle traffic, so that the page has something to show

The configuration as a file: {program} demo --print

",
        version = env!("CARGO_PKG_VERSION"),
        program = program(),
    )
}

/// This program as it was started, for a shell in the same folder. After `cargo run` that is a path.
fn program() -> String {
    let name = env::args_os().next();
    let name = name.map_or("portcullis".into(), |name| {
        name.to_string_lossy().into_owned()
    });
    quoted(&name)
}

/// A word of a shell.
fn quoted(word: &str) -> String {
    let is_plain = |sign: char| sign.is_ascii_alphanumeric() || "/\\:._-+".contains(sign);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_is_used_while_it_is_free() {
        let is_used = || {
            let free = std::net::TcpListener::bind(local(0)).expect("a port is free");
            let usual = free.local_addr().expect("it is bound");
            drop(free);
            let (address, _open) = bind(usual.port()).expect("some port is free");
            let (other, _open) = bind(usual.port()).expect("some port is free");
            assert_ne!(other, address);
            address == usual
        };
        // Another program may be faster.
        assert!((0..5).any(|_| is_used()));
    }
}
