//! TLS behind a prelude, over real sockets.

use super::*;
use crate::{
    ServiceBuilderExt,
    tls::{TlsConnector, TlsLayer},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tower::{Service, ServiceBuilder};

/// Says `requests`, each after the end of the reply before, then performs the handshake and reads.
async fn ask<P>(prelude: P, requests: &[(&[u8], &[u8])]) -> String
where
    P: Prelude + Send + Sync + 'static,
{
    let identity = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (chain, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
    let mut stack = ServiceBuilder::new()
        .peer_addr()
        .layer(PreludeLayer::new(prelude))
        .layer(TlsLayer::from_pem(chain.as_bytes(), key.as_bytes()).unwrap())
        .service_fn(|mut connection: Connection<_>| async move {
            let name = connection.tls().and_then(|tls| tls.server_name.clone());
            connection.write_all(name.unwrap().as_bytes()).await?;
            connection.close().await
        });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let serving = stack.call(listener.accept().await.unwrap().0);
    let client = async {
        let mut connection = Connection::accept(tcp);
        for (request, reply) in requests {
            connection.write_all(request).await?;
            let mut received = Vec::new();
            while !received.ends_with(reply) {
                received.push(connection.read_u8().await?);
            }
        }
        let connector = TlsConnector::with_roots_pem(chain.as_bytes())?;
        let mut tls = connector.connect("localhost", connection).await?;
        let mut output = String::new();
        tls.read_to_string(&mut output).await?;
        tls.close().await?;
        Ok::<_, BoxError>(output)
    };
    let (served, output) = tokio::join!(serving, client);
    served.unwrap();
    output.unwrap()
}

#[tokio::test]
async fn a_handshake_follows_each_prelude() {
    let (ssl, gss) = (packet(8, SSL), packet(8, GSS));
    for requests in [
        &[][..],
        &[(&ssl[..], &b"S"[..])],
        &[(&gss, b"N"), (&ssl, b"S")],
    ] {
        assert_eq!(ask(Postgres::new(), requests).await, "localhost");
    }
    let smtp: &[(&[u8], &[u8])] = &[
        (b"EHLO a\r\n", b"250 STARTTLS\r\n"),
        (b"STARTTLS\r\n", b"TLS\r\n"),
    ];
    assert_eq!(ask(Smtp::new("mail.example"), smtp).await, "localhost");
    let imap: &[(&[u8], &[u8])] = &[(b"1 STARTTLS\r\n", b"1 OK begin TLS\r\n")];
    assert_eq!(ask(Imap::new(), imap).await, "localhost");
    let xmpp: &[(&[u8], &[u8])] = &[
        (STREAM.as_bytes(), b"</stream:features>"),
        (STARTTLS.as_bytes(), b"xmpp-tls'/>"),
    ];
    assert_eq!(ask(Xmpp::new("chat.example"), xmpp).await, "localhost");
}
