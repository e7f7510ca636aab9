//! `backend`: how servers are connected to, and what they are sent first.

use super::{Running, end, serve, silent_server};
use crate::{
    gate::{Authority, Folder, backend},
    tls,
};
use portcullis::middleware::tls::{
    provider,
    rustls::{
        ClientConfig, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[tokio::test]
async fn a_server_that_does_not_end_its_handshake_is_given_up() {
    let (folder, authority) = (Folder::new(), Authority::new());
    folder.write("ca.pem", authority.pem());
    let keys = format!(
        "servers = \"{}\"\nhealth = \"off\"\nconnect-timeout = \"300ms\"\n\
         tls = {{ name = \"a.test\", roots = \"ca.pem\" }}",
        silent_server().await
    );
    let running = Running::in_folder(folder, "", &[""], &keys).await;
    let took = end(&mut running.connect().await).await;
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(took < Duration::from_millis(2_800), "{took:?}");
}

#[tokio::test]
async fn without_a_healthy_server_clients_are_refused_or_all_servers_tried() {
    // It speaks no HTTP, so each check fails.
    let server = backend("one").await;
    for (when, is_tried) in [("refuse", false), ("try-all", true)] {
        let keys = format!(
            "servers = \"{server}\"\nwhen-none-healthy = \"{when}\"\n\
             health = {{ http = \"/\", interval = \"100ms\", fall = 1 }}"
        );
        let mut running = Running::backend(&keys).await;
        running.says("server is down").await;
        let client = running.connect().await;
        assert_eq!(super::is_served(client).await, is_tried, "{when}");
    }
}

/// The fields of a PROXY header of version 2 for TCP over IPv4, by their type.
fn fields(header: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut fields = BTreeMap::new();
    let mut rest = &header[16 + 12..];
    while let [kind, high, low, value @ ..] = rest {
        let (value, next) = value.split_at(u16::from_be_bytes([*high, *low]).into());
        fields.insert(*kind, value.to_vec());
        rest = next;
    }
    fields
}

#[tokio::test]
async fn servers_get_the_listed_fields_of_the_header() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let (chain, key) = authority.sign(&["a.test"]);
    folder.write("c.pem", chain);
    folder.write("c.key", key);
    let (sender, mut headers) = mpsc::unbounded_channel();
    let server = serve(move |mut stream| {
        let sender = sender.clone();
        async move {
            let mut header = vec![0; 16];
            stream.read_exact(&mut header).await?;
            let length = u16::from_be_bytes([header[14], header[15]]);
            let begin = header.len();
            header.resize(begin + usize::from(length), 0);
            stream.read_exact(&mut header[begin..]).await?;
            sender.send(header).expect("the test runs");
            stream.write_all(b"one\n").await
        }
    });
    let server = server.await;
    let whole = "[[certificate]]\nname = \"c\"\nchain = \"c.pem\"\nkey = \"c.key\"\n";
    let all = [
        ("alpn", 0x01),
        ("authority", 0x02),
        ("crc32c", 0x03),
        ("unique-id", 0x05),
        ("tls", 0x20),
    ];
    let names = all.map(|(name, _)| name);
    let mut cases: Vec<_> = all.map(|(name, kind)| (vec![name], vec![kind])).into();
    cases.push((names.to_vec(), all.map(|(_, kind)| kind).to_vec()));
    // A listener and a backend for each.
    let mut text = format!("version = 1\n{whole}");
    for (number, (send, _)) in cases.iter().enumerate() {
        text += &format!(
            "[[listener]]\nname = \"l{number}\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b{number}\"\n\
             tls = {{ certificates = \"c\", alpn = \"h2\" }}\n\
             [[backend]]\nname = \"b{number}\"\nservers = \"{server}\"\nhealth = \"off\"\n\
             proxy-protocol.send = {send:?}\n"
        );
    }
    let running = Running::of(folder, &text, cases.len()).await;
    for (number, (send, expected)) in cases.into_iter().enumerate() {
        let mut config = ClientConfig::clone(&tls::client(&authority, None));
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let stream = running.connect_to(number).await;
        let client = connector.connect(tls::server_name("a.test"), stream).await;
        let mut client = client.expect("a handshake");
        let greeted = super::greeting(&mut client).await;
        assert_eq!(greeted.expect("a greeting"), "one");
        let header = headers.recv().await.expect("a header");
        let fields = fields(&header);
        let kinds: Vec<_> = fields.keys().copied().collect();
        assert_eq!(kinds, expected, "{send:?}");
        for (kind, value) in [(0x01, &b"h2"[..]), (0x02, b"a.test")] {
            let field = fields.get(&kind);
            assert!(field.is_none_or(|field| field == value), "{field:?}");
        }
    }
}

#[tokio::test]
async fn servers_are_offered_protocols() {
    let (folder, authority) = (Folder::new(), Authority::new());
    folder.write("ca.pem", authority.pem());
    let (chain, key) = authority.sign(&["a.test"]);
    let chain = CertificateDer::from_pem_slice(chain.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .expect("they match");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    // It greets with the protocol.
    let server = serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await?;
            let chosen = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            stream.write_all(&chosen.unwrap_or_default()).await?;
            stream.write_all(b"\n").await?;
            stream.shutdown().await
        }
    });
    let keys = format!(
        "servers = \"{}\"\nhealth = \"off\"\n\
         tls = {{ name = \"a.test\", roots = \"ca.pem\", alpn = [\"http/1.1\"] }}",
        server.await
    );
    let running = Running::in_folder(folder, "", &[""], &keys).await;
    let chosen = super::greeting(&mut running.connect().await).await;
    assert_eq!(chosen.expect("a greeting"), "http/1.1");
}
