//! TLS of a listener: which certificates are admitted, the limit on handshakes, and resumed sessions.

use crate::{
    gate::{Authority, Folder, Gate, backend, line},
    tls::{self, client, client_hello, server_name},
};
use portcullis::middleware::tls::rustls::{ClientConfig, HandshakeKind};
use rcgen::{CertificateParams, CustomExtension};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// A gate with TLS, whose files can be changed.
struct TlsGate {
    folder: Folder,
    authority: Authority,
    server: String,
    gate: Gate,
}

impl TlsGate {
    /// With these keys of the listener.
    async fn run(keys: &str) -> Self {
        let (folder, authority) = (Folder::new(), Authority::new());
        let (chain, key) = authority.sign(&["shop.example", "blog.example"]);
        for (name, text) in [
            ("own.pem", chain),
            ("own.key", key),
            ("ca.pem", authority.pem()),
        ] {
            folder.write(name, text);
        }
        let server = backend("one").await.to_string();
        let file = folder.write("gate.toml", configuration(&server, keys));
        let gate = Gate::run(&file, 1).await;
        Self {
            folder,
            authority,
            server,
            gate,
        }
    }

    async fn reload(&mut self, keys: &str) {
        let text = configuration(&self.server, keys);
        self.folder.write("gate.toml", text);
        self.gate.child.signal("HUP").await;
        self.gate.child.says("was reloaded").await;
    }

    /// Whether a client with this certificate is served.
    async fn serves(&self, identity: Option<(String, String)>) -> bool {
        let stream = self.gate.connect().await;
        let stream = tls::connect(&self.authority, identity, "shop.example", stream).await;
        // In TLS 1.3 the client has ended its handshake before the server judges its certificate.
        let Ok(mut stream) = stream else {
            return false;
        };
        let greeting = timeout(PATIENCE, line(&mut stream)).await;
        matches!(greeting.expect("it is neither served nor closed"), Ok(text) if text == "one")
    }

    /// A client that begins a handshake and never ends it.
    async fn begin(&self, name: &str) -> TcpStream {
        let mut stream = self.gate.connect().await;
        let hello = client_hello(client(&self.authority, None), name);
        stream.write_all(&hello).await.expect("it is open");
        let flight = timeout(PATIENCE, stream.read_u8()).await;
        flight
            .expect("it is answered")
            .expect("the server's flight");
        stream
    }

    /// Whether the session of this client was resumed.
    async fn is_resumed(&self, config: &Arc<ClientConfig>) -> bool {
        let stream = self.gate.connect().await;
        let connector = TlsConnector::from(config.clone());
        let stream = connector.connect(server_name("shop.example"), stream);
        let mut stream = stream.await.expect("a handshake");
        assert_eq!(line(&mut stream).await.expect("the greeting"), "one");
        stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

fn configuration(server: &str, keys: &str) -> String {
    format!(
        "version = 1\n[[certificate]]\nname = \"own\"\nchain = \"own.pem\"\nkey = \"own.key\"\n\
         [[backend]]\nname = \"b\"\nservers = \"{server}\"\n\
         [[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\ntimeouts.handshake = \"10m\"\n{keys}\n"
    )
}

/// Whether it is closed, after what the server has sent.
async fn is_closed(stream: &mut TcpStream, within: Duration) -> bool {
    let mut rest = [0; 4096];
    let end = async { while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    timeout(within, end).await.is_ok()
}

const PATIENCE: Duration = Duration::from_secs(30);
/// Nothing happens in this time.
const A_WHILE: Duration = Duration::from_millis(500);

/// aws-lc gathers entropy before its first random byte, which takes 30 to 90 ms of a core. A later handshake takes 1 to 12 ms
/// without optimization, and the first one, whose code is not in the cache, up to 11 ms on the fastest machine.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_first_handshake_does_not_wait_for_entropy() {
    let gate = TlsGate::run("backend = \"b\"\ntls = { certificates = \"own\" }").await;
    let process = gate.gate.child.id();
    let mut spent = Vec::new();
    for _ in 0..4 {
        let before = cpu_time(process);
        assert!(gate.serves(None).await);
        spent.push(cpu_time(process).saturating_sub(before));
    }
    let later = spent[1..].iter().min().expect("three of them");
    assert!(!later.is_zero(), "schedstat has no times");
    let most = (4 * *later).max(Duration::from_millis(20));
    assert!(spent[0] < most, "{spent:?}");
}

/// What the threads of a process have used.
#[cfg(target_os = "linux")]
fn cpu_time(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let spent = threads.filter_map(|thread| {
        // A thread may have ended meanwhile.
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        let nanoseconds = text.split(' ').next()?.parse().expect("a number");
        Some(Duration::from_nanos(nanoseconds))
    });
    spent.sum()
}

#[tokio::test]
async fn a_certificate_whose_names_are_unreadable_or_unlisted_is_rejected() {
    for auth in ["required", "optional"] {
        let gate = TlsGate::run(&format!(
            "backend = \"b\"\ntls = {{ certificates = \"own\", client = {{ auth = \"{auth}\", \
             roots = \"ca.pem\", allow = \"dns:batch.mesh\" }} }}"
        ))
        .await;
        let sign = |names: &[&str]| Some(gate.authority.sign(names));
        assert!(gate.serves(sign(&["batch.mesh"])).await);
        assert!(!gate.serves(sign(&["other.mesh"])).await, "{auth}");
        assert!(!gate.serves(sign(&[])).await, "{auth}");
        assert_eq!(gate.serves(None).await, auth == "optional");
        // The authority has copied what the client wrote: a name of five bytes, of which one is there.
        let mut params = CertificateParams::new([]).expect("no names");
        let content = vec![0x30, 3, 0x82, 5, 0x61];
        let names = CustomExtension::from_oid_content(&[2, 5, 29, 17], content);
        params.custom_extensions.push(names);
        let damaged = gate.authority.sign_params(params);
        assert!(!gate.serves(Some(damaged)).await, "{auth}");
    }
}

#[tokio::test]
async fn beyond_the_limit_the_oldest_unfinished_handshake_is_reset() {
    let gate =
        TlsGate::run("backend = \"b\"\ntls.certificates = \"own\"\nlimits.handshakes = 2").await;
    let mut first = gate.begin("shop.example").await;
    assert!(!is_closed(&mut first, A_WHILE).await);
    let mut second = gate.begin("shop.example").await;
    assert!(!is_closed(&mut second, A_WHILE).await);
    let mut third = gate.begin("shop.example").await;
    assert!(is_closed(&mut first, PATIENCE).await);
    // Those who answer are served.
    assert!(gate.serves(None).await);
    assert!(is_closed(&mut second, PATIENCE).await);
    assert!(!is_closed(&mut third, A_WHILE).await);
}

#[tokio::test]
async fn the_routes_of_a_listener_share_the_limit_on_handshakes_also_over_a_reload() {
    let keys = "limits.handshakes = 1\n\
         [[listener.route]]\nnames = \"shop.example\"\nbackend = \"b\"\ntls.certificates = \"own\"\n\
         [[listener.route]]\nnames = \"blog.example\"\nbackend = \"b\"\ntls.certificates = \"own\"";
    let mut gate = TlsGate::run(keys).await;
    let mut first = gate.begin("shop.example").await;
    // It counts as waiting for its client a moment after its answer.
    assert!(!is_closed(&mut first, A_WHILE).await);
    let mut second = gate.begin("blog.example").await;
    assert!(is_closed(&mut first, PATIENCE).await);
    gate.reload(keys).await;
    assert!(!is_closed(&mut second, A_WHILE).await);
    let mut third = gate.begin("blog.example").await;
    assert!(is_closed(&mut second, PATIENCE).await);
    assert!(!is_closed(&mut third, A_WHILE).await);
}

#[tokio::test]
async fn sessions_are_resumed_over_a_reload_unless_clients_must_show_other_certificates() {
    let keys = "backend = \"b\"\ntls.certificates = \"own\"";
    let mut gate = TlsGate::run(keys).await;
    let config = client(&gate.authority, None);
    assert!(!gate.is_resumed(&config).await);
    assert!(gate.is_resumed(&config).await);
    gate.reload(keys).await;
    assert!(gate.is_resumed(&config).await);

    let asking = format!("{keys}\ntls.client = {{ auth = \"optional\", roots = \"ca.pem\" }}");
    gate.reload(&asking).await;
    assert!(!gate.is_resumed(&config).await);
    assert!(gate.is_resumed(&config).await);
    gate.reload(keys).await;
    assert!(!gate.is_resumed(&config).await);
}

#[tokio::test]
async fn a_name_without_a_route_gets_an_alert_also_if_the_client_sends_more() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let text = format!(
        "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\n[[listener.route]]\n\
         names = [\"a.test\"]\npass = true\nbackend = \"b\"\n[[backend]]\nname = \"b\"\nservers = \"{}\"\n",
        backend("one").await
    );
    let mut gate = Gate::run(&folder.write("gate.toml", text), 1).await;
    let stream = gate.connect().await;
    let error = tls::connect(&authority, None, "c.test", stream).await;
    let error = error.expect_err("there is no route").to_string();
    assert!(error.contains("UnrecognisedName"), "{error}");
    let line = gate.child.says("refused").await;
    assert!(
        line.contains("no route matches") && line.contains("c.test"),
        "{line}"
    );

    for more in [0, 100_000] {
        let mut stream = gate.connect().await;
        let hello = client_hello(client(&authority, None), "c.test");
        stream.write_all(&hello).await.expect("it is open");
        // Unread, it would make the system reset the connection.
        stream.write_all(&vec![0; more]).await.expect("it is open");
        let mut alert = Vec::new();
        let read = stream.read_to_end(&mut alert).await;
        read.expect("the end is in order");
        assert_eq!(alert, [21, 3, 3, 0, 2, 2, 112]);
    }
}
