//! TLS to servers, and TLS checks, over loopback.

use super::{super::dial::Script, log::Log, *};
use portcullis_middleware::{
    Connection,
    error::{HandshakeError, find},
    io::Passthrough,
    tls::{TlsConnectError, TlsConnector, TlsLayer, provider, rustls},
};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tower::{Layer, ServiceExt, service_fn};

/// Serves TLS with a certificate for `localhost` behind what `prelude` does, and sends `Hello!`.
async fn greeter(prelude: bool) -> (SocketAddr, TlsConnector, JoinHandle<()>) {
    let names = vec!["localhost".to_owned()];
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(names).unwrap();
    let (chain, key) = (cert.pem(), signing_key.serialize_pem());
    let layer = TlsLayer::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    let stack = layer.layer(service_fn(|mut connection: Connection<_>| async move {
        connection.write_all(b"Hello!").await?;
        connection.close().await
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if prelude && !requested(&mut stream).await {
                continue;
            }
            let stack = stack.clone();
            tokio::spawn(stack.oneshot(Connection::accept(stream)));
        }
    };
    let connector = TlsConnector::with_roots_pem(chain.as_bytes()).unwrap();
    (address, connector, tokio::spawn(serve))
}

/// Answers an `SSLRequest`.
async fn requested(stream: &mut TcpStream) -> bool {
    let mut request = [0; 8];
    let _ended = stream.read_exact(&mut request).await;
    let is_request = request == [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    let reply = if is_request { b"S" } else { b"E" };
    stream.write_all(reply).await.is_ok() && is_request
}

async fn received(pool: &Pool) -> Result<String, NoBackend> {
    let mut connection = pool.connect(&client()).await?;
    assert!(matches!(connection.get_ref(), BackendIo::Tls(_)));
    assert!(!connection.get_ref().is_passthrough());
    let mut text = String::new();
    connection.read_to_string(&mut text).await.unwrap();
    Ok(text)
}

#[tokio::test]
async fn the_certificate_is_verified_for_the_host_or_the_given_name() {
    let (address, connector, serve) = greeter(false).await;
    let named: Server = format!("localhost:{}", address.port()).parse().unwrap();
    let pool = Pool::new([named.with_tls(ServerTls::from(connector.clone()))]);
    assert_eq!(received(&pool).await.unwrap(), "Hello!");

    let tls = ServerTls::new(connector.clone()).with_name("localhost");
    let pool = Pool::new([Server::from(address).with_tls(tls)]);
    assert_eq!(received(&pool).await.unwrap(), "Hello!");

    // The certificate has no IP address.
    let pool = Pool::new([Server::from(address).with_tls(ServerTls::new(connector))]);
    let error = received(&pool).await.unwrap_err();
    let cause = error.attempts()[0]
        .error()
        .downcast_ref::<TlsConnectError>();
    assert!(cause.unwrap().is_wrong_name());
    assert!(find::<HandshakeError>(&error).is_some());
    serve.abort();
}

#[tokio::test]
async fn a_server_with_a_wrong_certificate_is_followed_by_the_next() {
    let (wrong, _, serve_wrong) = greeter(false).await;
    let (right, connector, serve_right) = greeter(false).await;
    let tls = ServerTls::new(connector).with_name("localhost");
    let servers = [wrong, right].map(|address| Server::from(address).with_tls(tls.clone()));
    let pool = Pool::builder().with_balance(Balance::First).build(servers);
    assert_eq!(received(&pool).await.unwrap(), "Hello!");
    assert_eq!(pool.servers()[0].connect_failures, 1);
    serve_wrong.abort();
    serve_right.abort();
}

#[tokio::test]
async fn tls_may_begin_on_request() {
    let (address, connector, serve) = greeter(true).await;
    let tls = ServerTls::new(connector).with_name("localhost");
    let postgres = tls.clone().with_prelude(ServerPrelude::Postgres);
    let pool = Pool::new([Server::from(address).with_tls(postgres.clone())]);
    assert_eq!(received(&pool).await.unwrap(), "Hello!");
    // A health check does the same.
    let pool = Pool::builder().with_health_check(HealthCheck::tls());
    let pool = pool.build([Server::from(address).with_tls(postgres.clone())]);
    let report = first_check(&pool).await;
    assert!(report.passed, "{}", report.text);

    for (reply, cause) in [
        ("N", "the server does not support TLS"),
        ("E", "the server replies with an error"),
    ] {
        let servers = Servers::new(1);
        servers.set(1, Answer::Sends(reply));
        let pool = servers
            .pool()
            .build([Servers::server(1).with_tls(postgres.clone())]);
        let error = pool.connect(&client()).await.unwrap_err().to_string();
        assert!(error.ends_with(cause), "{error}");
    }
    serve.abort();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_in_its_greeting_is_followed_by_the_next() {
    let (_, connector, serve) = greeter(false).await;
    let tls = ServerTls::new(connector).with_name("chat.example");
    for (prelude, one, two) in [
        (ServerPrelude::Smtp, "421 busy\r\n", "554 no\r\n"),
        (ServerPrelude::Imap, "* BYE busy\r\n", "* PREAUTH no\r\n"),
        (ServerPrelude::Pop3, "-ERR busy\r\n", "-ERR no\r\n"),
        (
            ServerPrelude::Xmpp,
            "<stream:error></stream:error>",
            "</stream:error>",
        ),
    ] {
        let servers = Servers::new(2);
        servers.set(1, Answer::Sends(one));
        servers.set(2, Answer::Sends(two));
        let tls = tls.clone().with_prelude(prelude);
        let both = [1, 2].map(|number| Servers::server(number).with_tls(tls.clone()));
        let error = servers
            .pool()
            .build(both)
            .connect(&client())
            .await
            .unwrap_err();
        let words = |number: usize| error.attempts()[number].error().to_string();
        let (first, second) = (words(0), words(1));
        let said = [one, two].map(str::trim_end);
        assert!(said.iter().any(|said| first.ends_with(said)), "{first}");
        assert!(said.iter().any(|said| second.ends_with(said)), "{second}");
        assert_ne!(first, second);
    }
    // A server that does not greet has the time of an attempt.
    let servers = Servers::new(1);
    let tls = tls.with_prelude(ServerPrelude::Smtp);
    let pool = servers.pool().build([Servers::server(1).with_tls(tls)]);
    let error = pool.connect(&client()).await.unwrap_err();
    assert_eq!(
        error.attempts()[0].error().to_string(),
        "connect timed out after 3s"
    );
    serve.abort();
}

async fn first_check(pool: &Pool) -> CheckReport {
    loop {
        if let Some(report) = pool.servers()[0].last_check.clone() {
            return report;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_tls_check_needs_no_tls_in_the_pool() {
    let (address, connector, serve) = greeter(false).await;
    let tls = ServerTls::new(connector).with_name("localhost");
    for (check, passes, text) in [
        (
            HealthCheck::tls().with_tls(tls),
            true,
            "completed a TLS handshake",
        ),
        (
            HealthCheck::tls(),
            false,
            "the server has no TLS settings; set them for the check",
        ),
    ] {
        let pool = Pool::builder().with_health_check(check).build([address]);
        let report = first_check(&pool).await;
        assert_eq!(report.passed, passes, "{}", report.text);
        assert!(report.text.starts_with(text), "{}", report.text);
    }
    serve.abort();
}

#[tokio::test]
async fn the_tls_of_a_check_verifies_the_host_of_the_server() {
    let (address, connector, serve) = greeter(false).await;
    let port = address.port();
    let check = HealthCheck::tls().with_tls(ServerTls::new(connector));
    for (server, check) in [
        (port, check.clone()),
        (port.wrapping_add(1), check.with_port(port)),
    ] {
        let resolver =
            |_: String, port| std::future::ready(Ok(vec![([127, 0, 0, 1], port).into()]));
        let connector = crate::connect::Connector::new().with_resolver(resolver);
        let server: Server = format!("localhost:{server}").parse().unwrap();
        let pool = Pool::builder().with_health_check(check);
        let pool = pool.with_connector(connector).build([server]);
        while pool.servers().is_empty() {
            tokio::task::yield_now().await;
        }
        let report = first_check(&pool).await;
        assert!(report.passed, "{}", report.text);
    }
    serve.abort();
}

/// A pool of one server that answers requests over TLS, with a certificate that is valid for this time.
fn certified_for(left: Duration, check: HealthCheck) -> Pool {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["legacy.example".to_owned()]).unwrap();
    params.not_after = (std::time::SystemTime::now() + left).into();
    let chain = params.self_signed(&key).unwrap().pem();
    let layer = TlsLayer::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let stack = layer.layer(service_fn(|mut connection: Connection<_>| async move {
        connection.write_all(b"HTTP/1.1 200 Fine\r\n").await?;
        connection.close().await
    }));
    let script = move |_: &ServerAddress| {
        let (ours, theirs) = duplex(16 * 1024);
        tokio::spawn(stack.clone().oneshot(Connection::accept(theirs)));
        Box::pin(std::future::ready(Ok(ours.into()))) as _
    };
    let connector = TlsConnector::with_roots_pem(chain.as_bytes()).unwrap();
    let tls = ServerTls::new(connector).with_name("legacy.example");
    Pool::builder()
        .with_name("legacy")
        .with_script(Script(Arc::new(script)))
        .with_health_check(check.with_tls(tls))
        .build([Servers::server(1)])
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_expires_soon_is_logged_daily_and_is_in_the_text_of_each_check() {
    let day = 24 * 3_600 * SECOND;
    for (days, is_soon) in [(13, true), (15, false)] {
        let ends = format!("; its certificate expires in {days} days");
        for (check, text, is_shown) in [
            (HealthCheck::http("/"), "status 200", is_soon),
            (HealthCheck::tls(), "completed a TLS handshake", true),
        ] {
            let (log, _used) = Log::capture();
            let check = check.with_interval(day / 8);
            let pool = certified_for(days * day + 3_600 * SECOND, check);
            let report = first_check(&pool).await;
            let ends = if is_shown { &*ends } else { "" };
            assert_eq!(report.text, format!("{text}{ends}"));
            let warnings = || log.count("the certificate of a server expires");
            let first = usize::from(is_soon);
            assert_eq!(warnings(), first);
            // Checks are up to a tenth early.
            tokio::time::sleep(day * 7 / 8).await;
            assert_eq!(warnings(), first);
            tokio::time::sleep(day / 2).await;
            assert_eq!(warnings(), 2 * first);
        }
    }
}

#[tokio::test]
async fn a_tcp_check_begins_no_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_, connector, serve) = greeter(false).await;
    let server = Server::from(listener.local_addr().unwrap());
    let pool = Pool::builder().with_health_check(HealthCheck::tcp());
    let pool = pool.build([server.with_tls(ServerTls::new(connector))]);
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert!(bytes.is_empty());
    assert!(first_check(&pool).await.passed);
    serve.abort();
}

#[tokio::test]
async fn the_tls_settings_of_a_replaced_server_are_dropped_even_if_its_host_is_a_name() {
    let (address, connector, serve) = greeter(false).await;
    for host in ["localhost", "127.0.0.1"] {
        let roots = rustls::RootCertStore::empty();
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        let settings = Arc::downgrade(&config);
        let server: Server = format!("{host}:{}", address.port()).parse().unwrap();
        let old = TlsConnector::new(config);
        let pool = Pool::new([server.clone().with_tls(ServerTls::new(old))]);
        // The certificate is not trusted.
        received(&pool).await.unwrap_err();
        let new = ServerTls::new(connector.clone()).with_name("localhost");
        pool.replace([server.with_tls(new)]);
        assert_eq!(received(&pool).await.unwrap(), "Hello!");
        assert_eq!(settings.strong_count(), 0, "{host}");
    }
    serve.abort();
}
