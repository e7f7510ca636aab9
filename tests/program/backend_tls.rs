//! TLS to servers: the certificate that is shown to them, and TLS on request.

use crate::{
    gate::{Authority, Folder, Gate, line, program},
    tls,
};
use portcullis::middleware::tls::{
    provider,
    rustls::{
        RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// A server that requires certificates of `authority`. It tells its clients theirs, as the length and the sum of its
/// bytes, and answers requests of health checks.
pub(crate) async fn demanding(authority: &Authority) -> SocketAddr {
    let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(root).expect("it is usable");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let (chain, key) = authority.sign(&["127.0.0.1"]);
    let chain = CertificateDer::from_pem_slice(chain.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_client_cert_verifier(verifier.build().expect("there are roots"))
        .with_single_cert(vec![chain], key)
        .expect("they match");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await?;
            let certificates = stream.get_ref().1.peer_certificates();
            let shown = certificates.map_or_else(Vec::new, |it| it[0].to_vec());
            let mut request = Vec::new();
            while !request.ends_with(b"\n") {
                request.push(stream.read_u8().await?);
            }
            let answer = match request.starts_with(b"GET ") {
                true => "HTTP/1.1 204 Fine\r\n\r\n".to_owned(),
                false => format!("{}\n", print(&shown)),
            };
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await
        }
    })
    .await
}

fn print(der: &[u8]) -> String {
    let sum: u64 = der.iter().map(|&byte| u64::from(byte)).sum();
    format!("{} {sum}", der.len())
}

/// What the server says about a certificate in PEM.
fn print_pem(pem: &str) -> String {
    print(&CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate"))
}

pub(crate) async fn serve<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

fn gate(backend: &str) -> String {
    format!(
        "version = 1\n[[certificate]]\nname = \"gate\"\nchain = \"gate.pem\"\nkey = \"gate.key\"\n\
         [[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
         [[backend]]\nname = \"b\"\n{backend}\n"
    )
}

fn write(folder: &Folder, (chain, key): &(String, String)) {
    folder.write("gate.pem", chain);
    folder.write("gate.key", key);
}

/// What the server behind the gate says about the gate's certificate.
async fn shown(gate: &Gate) -> io::Result<String> {
    let mut client = gate.connect().await;
    client.write_all(b"who\n").await?;
    line(&mut client).await
}

#[tokio::test]
async fn a_certificate_is_shown_to_servers_and_renewed_while_the_program_runs() {
    let (folder, authority) = (Folder::new(), Authority::new());
    folder.write("ca.pem", authority.pem());
    let server = demanding(&authority).await;
    // Batch jobs and the like have no DNS names.
    let [old, new] = [(); 2].map(|()| authority.sign(&[]));
    let stranger = Authority::new().sign(&[]);
    write(&folder, &old);
    for health in ["{ tls = true }", "{ http = \"/\", expect = [200, 204] }"] {
        let health = health.replace(
            " }",
            ", interval = \"100ms\", timeout = \"20s\", fall = 1 }",
        );
        let backend = format!(
            "servers = \"{server}\"\nhealth = {health}\n\
             tls = {{ name = \"127.0.0.1\", roots = \"ca.pem\", certificate = \"gate\" }}"
        );
        write(&folder, &old);
        let file = folder.write("gate.toml", gate(&backend));
        let mut running = Gate::run(&file, 1).await;
        assert_eq!(
            shown(&running).await.expect("it answers"),
            print_pem(&old.0)
        );

        write(&folder, &new);
        running
            .child
            .says("certificates were reloaded, 1 changed")
            .await;
        assert_eq!(
            shown(&running).await.expect("it answers"),
            print_pem(&new.0)
        );
        // Checks present it as well. Under TLS 1.3, the server rejects another one behind the handshake.
        write(&folder, &stranger);
        running.child.says("server is down").await;
        write(&folder, &new);
        running.child.says("server is up").await;
        assert_eq!(
            shown(&running).await.expect("it answers"),
            print_pem(&new.0)
        );

        // The next connection has the certificate of the next configuration.
        let without = backend.replace(", certificate = \"gate\"", "");
        folder.write("gate.toml", gate(&without).replace(&health, "\"tcp\""));
        running.child.signal("HUP").await;
        running.child.says("the configuration was reloaded").await;
        shown(&running).await.expect_err("the server requires one");
    }
}

#[tokio::test]
async fn a_server_to_which_tls_is_passed_through_is_checked_over_tls_of_its_own() {
    let (folder, authority) = (Folder::new(), Authority::new());
    folder.write("ca.pem", authority.pem());
    let mut params = rcgen::CertificateParams::new(["legacy.example".to_owned()]).expect("a name");
    let end = std::time::SystemTime::now() + Duration::from_secs(3 * 86_400 + 1_800);
    params.not_after = end.into();
    let identity = authority.sign_params(params);
    let server = serve(move |stream| {
        let identity = identity.clone();
        async move {
            let mut stream = tls::accept(&identity, stream).await?;
            let request = line(&mut stream).await?;
            stream.write_all(format!("{request}\n").as_bytes()).await?;
            stream.shutdown().await
        }
    })
    .await;
    let text = |name: &str| {
        format!(
            "version = 1\n[[listener]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
             [[listener.route]]\nnames = \"legacy.example\"\npass = true\nbackend = \"legacy\"\n\
             [[backend]]\nname = \"legacy\"\nservers = \"{server}\"\n\
             health = {{ tls = {{ name = \"{name}\", roots = \"ca.pem\" }}, interval = \"100ms\", timeout = \"20s\", fall = 1 }}\n"
        )
    };
    let file = folder.write("gate.toml", text("legacy.example"));
    let mut running = Gate::run(&file, 1).await;
    running
        .child
        .says("the certificate of a server expires in 3 days")
        .await;
    let client = running.connect().await;
    let client = tls::connect(&authority, None, "legacy.example", client).await;
    let mut client = client.expect("the handshake of the server");
    client.write_all(b"hello\n").await.expect("it is open");
    assert_eq!(line(&mut client).await.expect("an echo"), "hello");

    // A reload changes what is verified.
    folder.write("gate.toml", text("other.example"));
    running.child.signal("HUP").await;
    let why = running.child.says("server is down").await;
    assert!(why.contains("other.example"), "{why}");
    folder.write("gate.toml", text("legacy.example"));
    running.child.signal("HUP").await;
    running.child.says("server is up").await;
}

#[tokio::test]
async fn roots_of_a_check_that_cannot_be_read_are_reported_at_their_place() {
    let folder = Folder::new();
    let text = "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
                [[backend]]\nname = \"b\"\nservers = \"127.0.0.1:1\"\n\
                health = { tls = { name = \"b\", roots = \"none.pem\" } }\n";
    let file = folder.write("gate.toml", text);
    let file = file.to_str().expect("it is UTF-8");
    let output = program(["check", "--config", file]).output().await;
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("gate.toml:9:40: backend \"b\": "), "{text}");
    assert!(text.contains("none.pem cannot be read"), "{text}");
}

#[tokio::test]
async fn an_unknown_certificate_and_one_whose_key_does_not_fit_are_reported() {
    let (folder, authority) = (Folder::new(), Authority::new());
    folder.write("ca.pem", authority.pem());
    let [one, other] = [(); 2].map(|()| authority.sign(&["gate"]));
    write(&folder, &(one.0, other.1));
    for (name, expected) in [
        (
            "gaet",
            "gate.toml:13:53: backend \"b\": there is no certificate \"gaet\"; the nearest name is \"gate\" (line 3)",
        ),
        ("gate", "certificate \"gate\": "),
    ] {
        let backend = format!(
            "servers = \"127.0.0.1:1\"\ntls = {{ name = \"b\", roots = \"ca.pem\", certificate = \"{name}\" }}"
        );
        let file = folder.write("gate.toml", gate(&backend));
        let file = file.to_str().expect("it is UTF-8");
        let output = program(["check", "--config", file])
            .output()
            .await
            .expect("it runs");
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(expected), "{text}");
    }
}

/// A mail server whose TLS begins on request. It echoes what it gets under TLS.
async fn mail_server(
    identity: (String, String),
    conversation: &'static [(&str, &str)],
) -> SocketAddr {
    serve(move |mut stream| {
        let identity = identity.clone();
        async move {
            for (request, reply) in conversation {
                if !request.is_empty() {
                    let line = line(&mut stream).await?;
                    assert!(line.starts_with(request), "{line}");
                }
                stream.write_all(reply.as_bytes()).await?;
            }
            let mut stream = tls::accept(&identity, stream).await?;
            let request = line(&mut stream).await?;
            stream.write_all(format!("{request}\n").as_bytes()).await?;
            stream.shutdown().await
        }
    })
    .await
}

const SMTP: &[(&str, &str)] = &[
    ("", "220-mail\r\n220 ESMTP\r\n"),
    ("EHLO [127.0.0.1]\r", "250-mail\r\n250 STARTTLS\r\n"),
    ("STARTTLS\r", "220 go\r\n"),
];
const IMAP: &[(&str, &str)] = &[
    (
        "",
        "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] hello\r\n",
    ),
    ("a STARTTLS\r", "a OK go\r\n"),
];
const POP3: &[(&str, &str)] = &[("", "+OK <1@mail>\r\n"), ("STLS\r", "+OK go\r\n")];

#[tokio::test]
async fn servers_that_start_tls_on_request_greet_clients_of_every_kind() {
    let (folder, authority) = (Folder::new(), Authority::new());
    folder.write("ca.pem", authority.pem());
    let identity = authority.sign(&["127.0.0.1"]);
    write(&folder, &identity);
    for (prelude, conversation, greeting) in [
        ("smtp", SMTP, "220-mail\r\n220 ESMTP\r\n"),
        ("imap", IMAP, "* OK ready\r\n"),
        ("pop3", POP3, "+OK <1@mail>\r\n"),
    ] {
        let server = mail_server(identity.clone(), conversation).await;
        let backend = format!(
            "servers = \"{server}\"\nhealth = \"off\"\n\
             tls = {{ name = \"127.0.0.1\", roots = \"ca.pem\", prelude = \"{prelude}\" }}\n\
             [[listener]]\nname = \"tls\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\ntls.certificates = \"gate\"\n\
             [[listener]]\nname = \"prelude\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
             prelude = \"{prelude}\"\ntls.certificates = \"gate\"\n"
        );
        let file = folder.write("gate.toml", gate(&backend));
        let gate = Gate::run(&file, 3).await;

        // Plain clients, and clients whose TLS begins immediately, wait for the greeting.
        let mut plain = gate.connect().await;
        plain.write_all(b"hello\n").await.expect("it is open");
        assert_eq!(whole(&mut plain).await, format!("{greeting}hello\n"));
        let client = TcpStream::connect(gate.addresses[1])
            .await
            .expect("it listens");
        let client = tls::connect(&authority, None, "127.0.0.1", client).await;
        let mut client = client.expect("a handshake");
        client.write_all(b"hello\n").await.expect("it is open");
        assert_eq!(whole(&mut client).await, format!("{greeting}hello\n"));

        // The gate has greeted these itself.
        let mut client = TcpStream::connect(gate.addresses[2])
            .await
            .expect("it listens");
        line(&mut client).await.expect("the greeting of the gate");
        let request = match prelude {
            "smtp" => "STARTTLS\r\n",
            "imap" => "1 STARTTLS\r\n",
            _ => "STLS\r\n",
        };
        client
            .write_all(request.as_bytes())
            .await
            .expect("it is open");
        line(&mut client).await.expect("the answer of the gate");
        let client = tls::connect(&authority, None, "127.0.0.1", client).await;
        let mut client = client.expect("a handshake");
        client.write_all(b"hello\n").await.expect("it is open");
        assert_eq!(whole(&mut client).await, "hello\n");
    }
}

async fn whole(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    let read = timeout(Duration::from_secs(30), stream.read_to_string(&mut text)).await;
    read.expect("it ends").expect("it ends well");
    text
}

#[tokio::test]
async fn a_server_that_refuses_tls_or_the_connection_is_quoted_in_the_log() {
    let folder = Folder::new();
    let authority = Authority::new();
    folder.write("ca.pem", authority.pem());
    write(&folder, &authority.sign(&["127.0.0.1"]));
    let busy = mail_server(authority.sign(&["127.0.0.1"]), &[("", "421 too busy\r\n")]).await;
    let plain = format!("servers = \"{busy}\"\nhealth = \"off\"\n");
    let starting = format!(
        "{plain}tls = {{ name = \"127.0.0.1\", roots = \"ca.pem\", prelude = \"smtp\" }}\n"
    );
    let ended = "prelude = \"smtp\"\ntls.certificates = \"gate\"\nbackend = \"b\"\n[[backend]]";
    for text in [
        gate(&starting),
        gate(&plain).replace("backend = \"b\"\n[[backend]]", ended),
    ] {
        let file = folder.write("gate.toml", &text);
        let mut running = Gate::run(&file, 1).await;
        let mut client = running.connect().await;
        if text.contains(ended) {
            line(&mut client).await.expect("the greeting of the gate");
            client.write_all(b"STARTTLS\r\n").await.expect("it is open");
            line(&mut client).await.expect("the answer of the gate");
            let client = tls::connect(&authority, None, "127.0.0.1", client).await;
            let mut client = client.expect("a handshake");
            let end = client.read(&mut [0]).await;
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        } else {
            assert_eq!(whole(&mut client).await, "");
        }
        running.child.says("421 too busy").await;
    }
}

#[tokio::test]
async fn a_plain_server_that_refuses_in_its_greeting_is_followed_by_the_next() {
    let (folder, authority) = (Folder::new(), Authority::new());
    write(&folder, &authority.sign(&["127.0.0.1"]));
    let greeting = |greeting: &'static [u8]| {
        serve(move |mut stream| async move {
            stream.write_all(greeting).await?;
            let request = line(&mut stream).await?;
            stream.write_all(format!("{request}\n").as_bytes()).await?;
            stream.shutdown().await
        })
    };
    let busy = greeting(b"* BYE busy\r\n").await;
    let ready = greeting(b"* OK hello\r\n").await;
    let text = gate(&format!(
        "servers = [\"{busy}\", \"{ready}\"]\nbalance = \"first\"\nhealth = \"off\""
    ));
    let text = text.replace(
        "backend = \"b\"\n",
        "backend = \"b\"\nprelude = \"imap\"\ntls.certificates = \"gate\"\n",
    );
    let mut running = Gate::run(&folder.write("gate.toml", text), 1).await;
    // The fifth failure ejects the first server.
    for _ in 0..6 {
        let mut client = running.connect().await;
        line(&mut client).await.expect("the greeting of the gate");
        client
            .write_all(b"1 STARTTLS\r\n")
            .await
            .expect("it is open");
        line(&mut client).await.expect("the answer of the gate");
        let client = tls::connect(&authority, None, "127.0.0.1", client).await;
        let mut client = client.expect("a handshake");
        client.write_all(b"hello\n").await.expect("it is open");
        assert_eq!(whole(&mut client).await, "hello\n");
    }
    running.child.says("server is ejected").await;
}
