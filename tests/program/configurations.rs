//! The files in `examples/config`, each with real clients.

use crate::{
    gate::{Authority, Folder, Gate, backend, line, program},
    tls,
};
use rcgen::{CertificateParams, SanType, SerialNumber};
use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener},
};

const NAMES: [&str; 8] = [
    "web.toml",
    "grpc.toml",
    "postgres.toml",
    "redis.toml",
    "edge.toml",
    "mesh.toml",
    "behind-balancer.toml",
    "mail.toml",
];

/// An example with other addresses and files, in `folder`.
fn example(folder: &Folder, name: &str, changes: &[(&str, &str)]) -> PathBuf {
    let mut text = read(&format!("examples/config/{name}"));
    for (from, to) in changes {
        assert!(text.contains(from), "{name} has no {from}");
        text = text.replace(from, to);
    }
    folder.write(name, moved(folder, &text))
}

/// A file of the repository.
fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    fs::read_to_string(root.join(path)).expect("the file is there")
}

/// A configuration whose files are in `folder`.
fn moved(folder: &Folder, text: &str) -> String {
    let here = folder.path("");
    let here = here.to_str().expect("it is UTF-8");
    text.replace(
        "/etc/letsencrypt/live/shop.example/fullchain.pem",
        "shop.pem",
    )
    .replace("/etc/letsencrypt/live/shop.example/privkey.pem", "shop.key")
    .replace("/etc/portcullis/", here)
    .replace("/run/portcullis/", here)
    .replace("/run/", here)
}

/// A folder with all files that the examples name. The servers have certificates for `names`.
fn files(names: &[&str]) -> (Folder, Authority) {
    let (folder, authority) = (Folder::new(), Authority::new());
    let (chain, key) = authority.sign(names);
    for stem in ["shop", "api", "db", "payments", "mail"] {
        folder.write(&format!("{stem}.pem"), &chain);
        folder.write(&format!("{stem}.key"), &key);
    }
    for roots in ["mesh-ca.pem", "internal-ca.pem"] {
        folder.write(roots, authority.pem());
    }
    folder.write("mesh.crl", authority.revoke_none());
    folder.write("tickets", [7; 48]);
    (folder, authority)
}

#[tokio::test]
async fn every_example_is_a_usable_configuration() {
    let (folder, _) = files(&["shop.example"]);
    for name in NAMES {
        let file = example(&folder, name, &[]);
        let file = file.to_str().expect("it is UTF-8");
        let output = program(["check", "--config", file]).output().await;
        let output = output.expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{name}: {text}");
    }
}

#[tokio::test]
async fn all_cases_fit_into_one_file() {
    let (folder, authority) = files(&["shop.example"]);
    let mut params = CertificateParams::new(["pg.example".to_owned()]).expect("a name");
    params.serial_number = Some(SerialNumber::from(42));
    let (chain, key) = authority.sign_params(params);
    folder.write("db.pem", chain);
    folder.write("db.key", key);
    folder.write("db.ocsp", ocsp_response());
    folder.write("office.txt", "198.51.100.0/24 # the office\n");
    folder.write("token", "a-token-of-some-length");
    fs::create_dir(folder.path("conf.d")).expect("the folder is writable");
    let certificate = |name: &str| {
        format!(
            "[[certificate]]\nname = \"{name}\"\nchain = \"../{name}.pem\"\nkey = \"../{name}.key\"\n"
        )
    };
    for name in ["payments", "mail"] {
        folder.write(&format!("conf.d/{name}.toml"), certificate(name));
    }
    let text = moved(&folder, &read("tests/program/all_cases.toml"));
    let file = folder.write("gate.toml", text);
    let file = file.to_str().expect("it is UTF-8");
    let output = program(["check", "--config", file]).output().await;
    let output = output.expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("usable; 8 listeners, 8 backends"), "{text}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.is_empty(), "{errors}");
}

/// An OCSP response by which the certificate of serial number 42 is good.
pub(crate) fn ocsp_response() -> Vec<u8> {
    // All lengths are below 256.
    let der = |tag: u8, parts: &[&[u8]]| {
        let content = parts.concat();
        let length = u8::try_from(content.len()).expect("it is short");
        let length: &[u8] = if length < 0x80 {
            &[length]
        } else {
            &[0x81, length]
        };
        [&[tag], length, &content].concat()
    };
    let algorithm = der(0x30, &[&der(6, &[&[0x2b, 14, 3, 2, 26]])]);
    let hash = der(4, &[&[7; 20]]);
    let certificate = der(0x30, &[&algorithm, &hash, &hash, &der(2, &[&[42]])]);
    let (good, date) = (der(0x80, &[]), der(0x18, &[b"20240101000000Z"]));
    let single = der(0x30, &[&certificate, &good, &date]);
    let responses = der(0x30, &[&single]);
    let data = der(0x30, &[&der(0xa2, &[&hash]), &date, &responses]);
    let basic = der(0x30, &[&data, &algorithm, &der(3, &[&[0, 1]])]);
    let kind = der(6, &[&[0x2b, 6, 1, 5, 5, 7, 48, 1, 1]]);
    let bytes = der(0xa0, &[&der(0x30, &[&kind, &der(4, &[&basic])])]);
    der(0x30, &[&der(0x0a, &[&[0]]), &bytes])
}

#[tokio::test]
async fn a_web_application_gets_plain_http_and_the_address_of_the_client() {
    let (folder, authority) = files(&["shop.example"]);
    let server = web_server().await.to_string();
    let file = example(
        &folder,
        "web.toml",
        &[
            ("[\"0.0.0.0:443\", \"[::]:443\"]", "\"127.0.0.1:0\""),
            ("10.0.1.10:8080", &server),
        ],
    );
    let gate = Gate::run(&file, 1).await;
    let client = gate.connect().await;
    let address = client.local_addr().expect("it is connected");
    let mut client = tls::connect(&authority, None, "shop.example", client)
        .await
        .expect("a handshake");
    let request = b"GET / HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n";
    client.write_all(request).await.expect("it is open");
    let mut answer = String::new();
    client
        .read_to_string(&mut answer)
        .await
        .expect("it ends well");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with(&format!("client {address}")), "{answer}");
}

/// An HTTP server that reads a PROXY header and answers with the client's address.
async fn web_server() -> SocketAddr {
    serve(|mut stream| async move {
        let client = proxy_header(&mut stream).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let body = format!(
            "client {}",
            client.map_or("none".into(), |it| it.to_string())
        );
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    })
    .await
}

/// Reads a header of version 2. `None` for the health checks of a proxy.
async fn proxy_header(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut begin = [0; 16];
    stream.read_exact(&mut begin).await?;
    assert_eq!(begin[..12], *b"\r\n\r\n\0\r\nQUIT\n");
    let mut rest = vec![0; u16::from_be_bytes([begin[14], begin[15]]).into()];
    stream.read_exact(&mut rest).await?;
    Ok((begin[12] == 0x21).then(|| {
        let address: [u8; 4] = rest[..4].try_into().expect("four bytes");
        (address, u16::from_be_bytes([rest[8], rest[9]])).into()
    }))
}

#[tokio::test]
async fn postgres_is_reached_with_tls_on_both_sides_until_its_server_becomes_a_replica() {
    let (folder, authority) = files(&["db.example"]);
    let primary = Arc::new(AtomicBool::new(true));
    let patroni = patroni(primary.clone()).await;
    let server = postgres_server(&authority).await;
    let file = example(
        &folder,
        "postgres.toml",
        &[
            ("0.0.0.0:5432", "127.0.0.1:0"),
            (
                "\"pg1.internal:5432\", \"pg2.internal:5432\"",
                &format!("\"{server}\""),
            ),
            ("192.0.2.0/24", "127.0.0.1"),
            (
                "port = 8008",
                &format!("port = {}, interval = \"100ms\", fall = 1", patroni.port()),
            ),
        ],
    );
    let gate = Gate::run(&file, 1).await;
    let mut client = gate.connect().await;
    client.write_all(&SSL_REQUEST).await.expect("it is open");
    assert_eq!(client.read_u8().await.expect("an answer"), b'S');
    let mut client = tls::connect(&authority, None, "db.example", client)
        .await
        .expect("a handshake");
    client.write_all(b"select 1\n").await.expect("it is open");
    assert_eq!(line(&mut client).await.expect("an answer"), "select 1");

    primary.store(false, Ordering::Relaxed);
    let end = client.read_to_end(&mut Vec::new()).await;
    assert!(end.is_err() || end.is_ok_and(|read| read == 0));
}

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Answers health checks by whether the server is the primary.
async fn patroni(primary: Arc<AtomicBool>) -> SocketAddr {
    serve(move |mut stream| {
        let primary = primary.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            assert!(head.starts_with(b"GET /primary HTTP/1."));
            let status = if primary.load(Ordering::Relaxed) {
                "200 OK"
            } else {
                "503 No"
            };
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await
        }
    })
    .await
}

/// Starts TLS on request, then echoes.
async fn postgres_server(authority: &Authority) -> SocketAddr {
    let identity = authority.sign(&["pg.internal"]);
    serve(move |mut stream| {
        let identity = identity.clone();
        async move {
            let mut request = [0; 8];
            stream.read_exact(&mut request).await?;
            assert_eq!(request, SSL_REQUEST);
            stream.write_all(b"S").await?;
            echo(tls::accept(&identity, stream).await?).await
        }
    })
    .await
}

#[tokio::test]
async fn redis_is_checked_with_a_ping_and_an_observed_list_lets_all_in() {
    let (folder, _) = files(&[]);
    let server = serve(|mut stream| async move {
        let mut command = [0; 6];
        stream.read_exact(&mut command).await?;
        assert_eq!(command, *b"PING\r\n");
        stream.write_all(b"+PONG\r\n").await?;
        echo(stream).await
    })
    .await
    .to_string();
    let changes = [
        ("10.0.0.5:6379", "127.0.0.1:0"),
        ("10.0.2.1:6379", &*server),
    ];
    let file = example(&folder, "redis.toml", &changes);
    let mut gate = Gate::run(&file, 1).await;
    let mut client = gate.connect().await;
    client.write_all(b"PING\r\n").await.expect("it is open");
    assert_eq!(line(&mut client).await.expect("an answer"), "+PONG\r");
    gate.child.says("\"by\":\"acl\"").await;
}

#[tokio::test]
async fn one_port_terminates_one_name_passes_another_and_serves_ssh() {
    let (folder, authority) = files(&["shop.example", "*.shop.example"]);
    let shop = backend("shop").await.to_string();
    let bastion = backend("bastion").await.to_string();
    let identity = authority.sign(&["legacy.example"]);
    let legacy = serve(move |mut stream| {
        let identity = identity.clone();
        async move {
            let client = proxy_header(&mut stream).await?;
            let mut stream = tls::accept(&identity, stream).await?;
            if let Some(client) = client {
                stream
                    .write_all(format!("legacy for {client}\n").as_bytes())
                    .await?;
            }
            stream.shutdown().await
        }
    })
    .await
    .to_string();
    let file = example(
        &folder,
        "edge.toml",
        &[
            ("0.0.0.0:8443", "127.0.0.1:0"),
            ("10.0.1.10:8080", &shop),
            ("10.0.3.1:443", &legacy),
            ("10.0.3.2:22", &bastion),
        ],
    );
    let gate = Gate::run(&file, 1).await;

    for name in ["shop.example", "PAY.shop.example"] {
        let client = gate.connect().await;
        let mut client = tls::connect(&authority, None, name, client)
            .await
            .expect("a handshake");
        assert_eq!(line(&mut client).await.expect("the greeting"), "shop");
    }

    let client = gate.connect().await;
    let address = client.local_addr().expect("it is connected");
    let mut client = tls::connect(&authority, None, "legacy.example", client)
        .await
        .expect("a handshake");
    let greeting = line(&mut client).await.expect("the greeting");
    assert_eq!(greeting, format!("legacy for {address}"));

    let mut client = gate.connect().await;
    client
        .write_all(b"SSH-2.0-test\r\n")
        .await
        .expect("it is open");
    assert_eq!(line(&mut client).await.expect("the greeting"), "bastion");
    assert_eq!(line(&mut client).await.expect("an echo"), "SSH-2.0-test\r");

    let client = gate.connect().await;
    let other = tls::connect(&authority, None, "other.example", client).await;
    other.expect_err("no route has this name");
}

#[tokio::test]
async fn only_the_listed_identities_reach_a_service_behind_mutual_tls() {
    let (folder, authority) = files(&["payments.mesh"]);
    let listener =
        UnixListener::bind(folder.path("payments.sock")).expect("the folder is writable");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    let file = example(&folder, "mesh.toml", &[("0.0.0.0:7443", "127.0.0.1:0")]);
    let gate = Gate::run(&file, 1).await;
    let attempt = async |identity: Option<(String, String)>| {
        let client = gate.connect().await;
        let mut client = tls::connect(&authority, identity, "payments.mesh", client).await?;
        client.write_all(b"pay\n").await?;
        line(&mut client).await
    };
    let named = |uri: &str| {
        let mut params = CertificateParams::default();
        let uri = uri.try_into().expect("ASCII");
        params.subject_alt_names.push(SanType::URI(uri));
        Some(authority.sign_params(params))
    };
    assert_eq!(
        attempt(named("spiffe://mesh/ns/shop/cart"))
            .await
            .expect("it is listed"),
        "pay"
    );
    assert_eq!(
        attempt(Some(authority.sign(&["batch.mesh"])))
            .await
            .expect("it is listed"),
        "pay"
    );
    attempt(named("spiffe://mesh/ns/other/cart"))
        .await
        .expect_err("it is not listed");
    attempt(Some(Authority::new().sign(&["batch.mesh"])))
        .await
        .expect_err("another authority");
    attempt(None).await.expect_err("no certificate");
}

#[tokio::test]
async fn behind_a_load_balancer_the_client_is_that_of_the_header() {
    let (folder, authority) = files(&["shop.example"]);
    let shop = backend("shop").await.to_string();
    let changes = [
        ("0.0.0.0:9443", "127.0.0.1:0"),
        ("10.0.1.10:8080", &*shop),
        ("\"10.0.0.0/8\"", "\"127.0.0.1\""),
    ];
    let file = example(&folder, "behind-balancer.toml", &changes);
    let mut gate = Gate::run(&file, 1).await;
    let mut client = gate.connect().await;
    client
        .write_all(b"PROXY TCP4 203.0.113.7 192.0.2.1 4000 443\r\n")
        .await
        .expect("it is open");
    let mut client = tls::connect(&authority, None, "shop.example", client)
        .await
        .expect("a handshake");
    assert_eq!(line(&mut client).await.expect("the greeting"), "shop");
    drop(client);
    let closed = gate.child.says("outcome").await;
    assert!(closed.contains("203.0.113.7"), "{closed}");

    let client = gate.connect().await;
    let without = tls::connect(&authority, None, "shop.example", client).await;
    without.expect_err("the header is required");
}

#[tokio::test]
async fn smtps_is_passed_through_to_a_server_that_learns_the_client_s_address() {
    let (folder, authority) = files(&["mail.example"]);
    let identity = authority.sign(&["mail.example"]);
    let smtps = serve(move |mut stream| {
        let identity = identity.clone();
        async move {
            let client = proxy_header(&mut stream).await?;
            let mut stream = tls::accept(&identity, stream).await?;
            let client = client.map_or("none".into(), |it| it.to_string());
            stream
                .write_all(format!("220 hello {client}\r\n").as_bytes())
                .await?;
            echo(stream).await
        }
    })
    .await
    .to_string();
    let changes = [
        ("[\"0.0.0.0:587\", \"[::]:587\"]", "\"127.0.0.1:0\""),
        ("[\"0.0.0.0:465\", \"[::]:465\"]", "\"127.0.0.1:0\""),
        ("10.0.3.3:10465", &*smtps),
    ];
    let file = example(&folder, "mail.toml", &changes);
    let gate = Gate::run(&file, 2).await;
    let client = TcpStream::connect(gate.addresses[1]).await;
    let client = client.expect("it listens");
    let address = client.local_addr().expect("it is connected");
    let client = tls::connect(&authority, None, "mail.example", client).await;
    let mut client = client.expect("a handshake");
    let greeting = line(&mut client).await.expect("the greeting");
    assert_eq!(greeting, format!("220 hello {address}\r"));
    client
        .write_all(b"EHLO client.example\r\n")
        .await
        .expect("it is open");
    let answer = line(&mut client).await.expect("an echo");
    assert_eq!(answer, "EHLO client.example\r");
}

#[tokio::test]
async fn submission_ends_starttls_in_front_of_a_plain_server_whose_greeting_is_discarded() {
    let (folder, authority) = files(&["mail.example"]);
    let server = serve(|mut stream| async move {
        let client = proxy_header(&mut stream).await?;
        stream
            .write_all(b"220-internal ESMTP\r\n220 ready\r\n")
            .await?;
        let client = client.map_or("none".into(), |it| it.to_string());
        let hello = line(&mut stream).await?;
        let answer = format!("250 {} of {client}\r\n", hello.trim_end());
        stream.write_all(answer.as_bytes()).await?;
        echo(stream).await
    })
    .await
    .to_string();
    let changes = [
        ("[\"0.0.0.0:587\", \"[::]:587\"]", "\"127.0.0.1:0\""),
        ("[\"0.0.0.0:465\", \"[::]:465\"]", "\"127.0.0.1:0\""),
        ("10.0.3.3:10587", &*server),
    ];
    let file = example(&folder, "mail.toml", &changes);
    let mut gate = Gate::run(&file, 2).await;
    let mut client = gate.connect().await;
    let address = client.local_addr().expect("it is connected");
    let mut ask = async |request: &str, answer: &str| {
        client
            .write_all(request.as_bytes())
            .await
            .expect("it is open");
        assert_eq!(line(&mut client).await.expect("an answer"), answer);
    };
    ask("", "220 mail.example ESMTP\r").await;
    ask("EHLO a.example\r\n", "250-mail.example\r").await;
    ask("", "250 STARTTLS\r").await;
    ask(
        "MAIL FROM:<a@a.example>\r\n",
        "530 Must issue a STARTTLS command first\r",
    )
    .await;
    ask("STARTTLS\r\n", "220 Ready to start TLS\r").await;
    let client = tls::connect(&authority, None, "mail.example", client).await;
    let mut client = client.expect("a handshake");
    client
        .write_all(b"EHLO a.example\r\n")
        .await
        .expect("it is open");
    let answer = line(&mut client).await.expect("an answer");
    assert_eq!(answer, format!("250 EHLO a.example of {address}\r"));
    drop(client);

    // Without TLS there is no way to the server.
    let mut client = gate.connect().await;
    client
        .write_all(b"STARTTLS\r\nMAIL\r\n")
        .await
        .expect("it is open");
    let mut received = String::new();
    client
        .read_to_string(&mut received)
        .await
        .expect("it is closed");
    assert_eq!(received, "220 mail.example ESMTP\r\n");
    gate.child.says("bytes follow the request for TLS").await;
}

/// Serves each connection of a new listener.
async fn serve<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
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

async fn echo(stream: impl AsyncRead + AsyncWrite) -> io::Result<()> {
    let (mut read, mut write) = tokio::io::split(stream);
    tokio::io::copy(&mut read, &mut write).await?;
    write.shutdown().await
}
