//! Health checks with TLS of their own: certificates, ALPN, TLS on request, and what a reload keeps.

use crate::{
    backend_tls::{demanding, serve},
    gate::{Authority, Folder, Gate, program},
    tls,
};
use portcullis::middleware::tls::{provider, rustls::ServerConfig};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

/// A gate that passes TLS through to `servers`, and checks them with these settings.
fn gate(servers: &[SocketAddr], health: &str) -> String {
    let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
    format!(
        "version = 1\n[[certificate]]\nname = \"gate\"\nchain = \"gate.pem\"\nkey = \"gate.key\"\n\
         [[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
         [[backend]]\nname = \"b\"\nservers = {servers:?}\nhealth = {{ {health} }}\n"
    )
}

fn write(folder: &Folder, (chain, key): &(String, String)) {
    folder.write("gate.pem", chain);
    folder.write("gate.key", key);
}

const TLS: &str = "tls = { name = \"127.0.0.1\", roots = \"ca.pem\"";
/// The timeout is longer than a busy machine takes for a handshake.
const OFTEN: &str = "interval = \"100ms\", timeout = \"20s\", fall = 1, rise = 1";

#[tokio::test]
async fn a_check_shows_its_certificate_to_a_server_that_clients_reach_untouched() {
    let (folder, authority) = (Folder::new(), Authority::new());
    folder.write("ca.pem", authority.pem());
    let server = demanding(&authority).await;
    let (own, stranger) = (authority.sign(&[]), Authority::new().sign(&[]));
    write(&folder, &own);
    let with = format!("{TLS}, certificate = \"gate\" }}, {OFTEN}");
    let file = folder.write("gate.toml", gate(&[server], &with));
    let mut running = Gate::run(&file, 1).await;
    running.child.says("server is up").await;
    // The files are watched.
    write(&folder, &stranger);
    let why = running.child.says("server is down").await;
    assert!(why.contains("alert"), "{why}");
    write(&folder, &own);
    running.child.says("server is up").await;
    // The watch goes on after a reload that changes nothing.
    running.child.signal("HUP").await;
    running.child.says("the configuration was reloaded").await;
    write(&folder, &stranger);
    running.child.says("server is down").await;
    write(&folder, &own);
    running.child.says("server is up").await;

    let without = with.replace(", certificate = \"gate\"", "");
    let used = gate(&[server], &without) + "tls = { roots = \"ca.pem\", certificate = \"gate\" }\n";
    folder.write("gate.toml", used);
    running.child.signal("HUP").await;
    let why = running.child.says("server is down").await;
    assert!(why.contains("CertificateRequired"), "{why}");
}

/// A server that speaks `h2` alone, behind the request of PostgreSQL.
async fn on_request(authority: &Authority) -> SocketAddr {
    let (chain, key) = authority.sign(&["127.0.0.1"]);
    let (chain, key) = tls::parse(&chain, &key);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they match");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    serve(move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut request = [0; 8];
            stream.read_exact(&mut request).await?;
            if request != [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f] {
                return Err(io::ErrorKind::InvalidData.into());
            }
            stream.write_all(b"S").await?;
            let mut stream = acceptor.accept(stream).await?;
            stream.read(&mut [0]).await.map(drop)
        }
    })
    .await
}

#[tokio::test]
async fn a_check_requests_tls_and_offers_its_protocols() {
    let (folder, authority) = (Folder::new(), Authority::new());
    folder.write("ca.pem", authority.pem());
    write(&folder, &authority.sign(&[]));
    let server = on_request(&authority).await;
    let mut running = None;
    for (keys, refusal) in [
        (", prelude = \"postgres\", alpn = \"h2\"", None),
        // It gets no request.
        ("", Some("server is down")),
        (", prelude = \"postgres\"", None),
        (
            ", prelude = \"postgres\", alpn = \"x\"",
            Some("NoApplicationProtocol"),
        ),
    ] {
        let health = format!("{TLS}{keys} }}, {OFTEN}");
        let file = folder.write("gate.toml", gate(&[server], &health));
        match &mut running {
            None => running = Some(Gate::run(&file, 1).await),
            Some(running) => running.child.signal("HUP").await,
        }
        let child = &mut running.as_mut().expect("it was started").child;
        let said = child.says(if refusal.is_some() {
            "server is down"
        } else {
            "server is up"
        });
        let said = said.await;
        assert!(said.contains(refusal.unwrap_or_default()), "{said}");
    }
}

/// A server that counts the connections that it gets, and closes them.
async fn counting() -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let address = serve(move |stream| {
        counter.fetch_add(1, Ordering::SeqCst);
        drop(stream);
        std::future::ready(Ok(()))
    });
    (address.await, count)
}

async fn reaches(count: &AtomicUsize, expected: usize) {
    let reached = async {
        while count.load(Ordering::SeqCst) < expected {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let reached = timeout(Duration::from_secs(30), reached).await;
    reached.expect("the server is checked");
}

#[tokio::test]
async fn a_reload_that_changes_nothing_about_a_check_over_tls_lets_it_go_on() {
    let (folder, authority) = (Folder::new(), Authority::new());
    folder.write("ca.pem", authority.pem());
    write(&folder, &authority.sign(&[]));
    let ((one, checks), (two, others)) = (counting().await, counting().await);
    let health = format!("{TLS}, certificate = \"gate\", alpn = \"h2\" }}, interval = \"1h\"");
    let file = folder.write("gate.toml", gate(&[one], &health));
    let running = Gate::run(&file, 1).await;
    reaches(&checks, 1).await;
    // The check of the server that is added shows that this reload has begun its checks.
    folder.write("gate.toml", gate(&[one, two], &health));
    running.child.signal("HUP").await;
    reaches(&others, 1).await;
    // Another name is another check, of both.
    let other = health.replace("name = \"127.0.0.1\"", "name = \"b.example\"");
    folder.write("gate.toml", gate(&[one, two], &other));
    running.child.signal("HUP").await;
    reaches(&checks, 2).await;
    reaches(&others, 2).await;
    // So are other roots in the same file.
    folder.write("ca.pem", Authority::new().pem());
    running.child.signal("HUP").await;
    reaches(&checks, 3).await;
    reaches(&others, 3).await;
    assert_eq!(checks.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn the_certificate_of_a_check_has_to_exist_and_is_listed() {
    let (folder, authority) = (Folder::new(), Authority::new());
    folder.write("ca.pem", authority.pem());
    write(&folder, &authority.sign(&["gate.test"]));
    let server = "127.0.0.1:1".parse().expect("an address");
    let check = async |name: &str, more: &[&str]| {
        let health = format!("{TLS}, certificate = \"{name}\" }}");
        let file = folder.write("gate.toml", gate(&[server], &health));
        let file = file.to_str().expect("it is UTF-8");
        let mut command = program(["check", "--config", file]);
        let output = command.args(more).output().await.expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = check("gaet", &[]).await;
    let expected =
        "backend \"b\": there is no certificate \"gaet\"; the nearest name is \"gate\" (line 3)";
    assert!(text.contains(expected), "{text}");
    let text = check("gate", &[]).await;
    assert!(!text.contains("is not used"), "{text}");
    // It is among those whose end is reported ahead.
    let text = check("gate", &["--at", "now+1000000d"]).await;
    assert!(text.contains("certificate \"gate\": it ends in"), "{text}");
}
