//! `recheck`: open connections that would not be admitted now are closed.

use crate::{
    gate::{Authority, Folder, Gate, backend, line},
    tls,
};
use rcgen::{CertificateParams, SerialNumber};
use std::time::{Duration, SystemTime};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

async fn is_open(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> bool {
    let echo = async {
        stream.write_all(b"still here\n").await?;
        line(stream).await
    };
    matches!(timeout(PATIENCE, echo).await, Ok(Ok(text)) if text == "still here")
}

/// Waits for the end of a connection.
async fn ends(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = [0; 16];
    let end = timeout(PATIENCE, stream.read(&mut rest)).await;
    let end = end.expect("it is not closed");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

const PATIENCE: Duration = Duration::from_secs(30);

fn plain(server: &str, keys: &str) -> String {
    format!(
        "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n{keys}\n\
         [[listener]]\nname = \"c\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\naccess.deny = \"127.0.0.1\"\n\
         access.observe = true\nrecheck = true\n\
         [[backend]]\nname = \"b\"\nservers = \"{server}\"\n"
    )
}

async fn greeted(address: std::net::SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    assert_eq!(line(&mut stream).await.expect("the greeting"), "one");
    stream
}

#[tokio::test]
async fn a_reload_closes_those_whom_the_new_access_list_denies() {
    let folder = Folder::new();
    let server = backend("one").await.to_string();
    let file = folder.write("gate.toml", plain(&server, "recheck = true"));
    let mut gate = Gate::run(&file, 2).await;
    let mut denied = greeted(gate.addresses[0]).await;
    let mut observed = greeted(gate.addresses[1]).await;

    // Without recheck, the open connection stays.
    folder.write("gate.toml", plain(&server, "access.deny = \"127.0.0.1\""));
    gate.child.signal("HUP").await;
    gate.child.says("was reloaded").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(is_open(&mut denied).await);

    let keys = "recheck = true\naccess.deny = \"127.0.0.1\"";
    folder.write("gate.toml", plain(&server, keys));
    gate.child.signal("HUP").await;
    let reason = gate.child.says("closed by recheck").await;
    assert!(reason.contains("deny list"), "{reason}");
    assert!(reason.contains("connection.id"), "{reason}");
    ends(&mut denied).await;
    assert!(is_open(&mut observed).await);
}

#[tokio::test]
async fn a_client_behind_a_balancer_is_judged_by_its_own_address_once_the_header_names_it() {
    let folder = Folder::new();
    let server = backend("one").await.to_string();
    let keys = "recheck = true\nproxy-protocol = { trust = \"127.0.0.1\" }\ntimeouts.proxy-header = \"60s\"";
    let file = folder.write("gate.toml", plain(&server, keys));
    let mut gate = Gate::run(&file, 2).await;
    let mut good = gate.connect().await;
    let mut denied = gate.connect().await;
    // Greeted in the order of the accepts, so that the others were accepted before the reload.
    let mut last = gate.connect().await;
    announce(&mut last, "192.0.2.8").await;

    let deny = "access.deny = [\"127.0.0.1\", \"192.0.2.66\"]";
    folder.write("gate.toml", plain(&server, &format!("{keys}\n{deny}")));
    gate.child.signal("HUP").await;
    gate.child.says("was reloaded").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for (stream, client) in [(&mut good, "192.0.2.7"), (&mut denied, "192.0.2.66")] {
        // The stack of the accept, which does not deny it.
        announce(stream, client).await;
    }
    ends(&mut denied).await;
    assert!(is_open(&mut good).await);
}

/// Sends the PROXY header of `client`, and waits for the greeting.
async fn announce(stream: &mut TcpStream, client: &str) {
    let header = format!("PROXY TCP4 {client} 192.0.2.1 4000 443\r\n");
    let sent = stream.write_all(header.as_bytes()).await;
    sent.expect("it is open");
    assert_eq!(line(stream).await.expect("the greeting"), "one");
}

/// A gate that requires client certificates and rechecks them.
struct Mesh {
    folder: Folder,
    authority: Authority,
    gate: Gate,
}

impl Mesh {
    async fn new() -> Self {
        let (folder, authority) = (Folder::new(), Authority::new());
        let (chain, key) = authority.sign(&["pay.example"]);
        for (name, text) in [
            ("pay.pem", chain),
            ("pay.key", key),
            ("ca.pem", authority.pem()),
            ("mesh.crl", authority.revoke_none()),
        ] {
            folder.write(name, text);
        }
        let server = backend("one").await;
        let file = folder.write(
            "gate.toml",
            format!(
                "version = 1\n[[listener]]\nname = \"pay\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
                 recheck = true\n[listener.tls]\ncertificates = \"pay\"\n\
                 client = {{ roots = \"ca.pem\", crl = \"mesh.crl\" }}\n\
                 [[certificate]]\nname = \"pay\"\nchain = \"pay.pem\"\nkey = \"pay.key\"\n\
                 [[backend]]\nname = \"b\"\nservers = \"{server}\"\n"
            ),
        );
        let gate = Gate::run(&file, 1).await;
        Self {
            folder,
            authority,
            gate,
        }
    }

    /// A client whose certificate has this number, and ends after a time.
    async fn connect(&self, serial: u64, ends_after: Option<Duration>) -> TlsStream<TcpStream> {
        let mut params = CertificateParams::new(["batch.mesh".to_owned()]).expect("a name");
        params.serial_number = Some(SerialNumber::from(serial));
        if let Some(ends_after) = ends_after {
            params.not_after = (SystemTime::now() + ends_after).into();
        }
        let identity = self.authority.sign_params(params);
        let stream = self.gate.connect().await;
        let stream = tls::connect(&self.authority, Some(identity), "pay.example", stream).await;
        let mut stream = stream.expect("a handshake");
        assert_eq!(line(&mut stream).await.expect("the greeting"), "one");
        stream
    }
}

#[tokio::test]
async fn a_client_that_is_revoked_is_closed_without_a_reload() {
    let mut mesh = Mesh::new().await;
    let mut revoked = mesh.connect(7_001, None).await;
    let mut other = mesh.connect(7_002, None).await;
    mesh.folder
        .write("mesh.crl", mesh.authority.revoke(&[7_001]));
    ends(&mut revoked).await;
    assert!(is_open(&mut other).await);
    let reason = mesh.gate.child.says("closed by recheck").await;
    assert!(
        reason.contains("the client's certificate was revoked (`tls.client.crl`)"),
        "{reason}"
    );
}

#[tokio::test]
async fn clients_are_closed_when_the_list_of_their_authority_goes_out_of_date() {
    let mut mesh = Mesh::new().await;
    let until = SystemTime::now() + Duration::from_secs(20);
    let list = mesh.authority.revoke_until(until, &[]);
    mesh.folder.write("mesh.crl", list);
    mesh.gate.child.says("files were reloaded").await;
    let mut client = mesh.connect(7_006, None).await;
    assert!(is_open(&mut client).await);
    ends(&mut client).await;
    assert!(SystemTime::now() + Duration::from_secs(1) > until);
    let reason = mesh.gate.child.says("closed by recheck").await;
    assert!(
        reason.contains("is out of date (`tls.client.crl`"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_client_of_a_listener_that_gets_routes_is_judged_by_the_route_of_its_name() {
    let mut mesh = Mesh::new().await;
    let mut client = mesh.connect(7_005, None).await;
    let file = mesh.folder.path("gate.toml");
    let text = std::fs::read_to_string(file).expect("it was written");
    let text = text.replacen("backend = \"b\"\n", "", 1);
    let route =
        "[[listener.route]]\nnames = \"pay.example\"\nbackend = \"b\"\n[listener.route.tls]";
    let text = text.replace("[listener.tls]", route);
    let text = text.replace("crl =", "allow = \"dns:other.mesh\", crl =");
    mesh.folder.write("gate.toml", text);
    mesh.gate.child.signal("HUP").await;
    let reason = mesh.gate.child.says("closed by recheck").await;
    assert!(
        reason.contains("no listed name, only dns:batch.mesh"),
        "{reason}"
    );
    ends(&mut client).await;
}

#[tokio::test]
async fn a_client_is_closed_when_its_certificate_ends() {
    let mesh = Mesh::new().await;
    let mut long = mesh.connect(7_004, None).await;
    // On a busy machine, a handshake and an echo take seconds.
    let mut short = mesh.connect(7_003, Some(Duration::from_secs(12))).await;
    assert!(is_open(&mut short).await);
    ends(&mut short).await;
    assert!(is_open(&mut long).await);
}
