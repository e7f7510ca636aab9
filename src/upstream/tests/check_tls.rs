//! TLS of health checks: when it is the same, and what it sees of a server that is changed.

use super::{super::dial::Script, *};
use portcullis_middleware::{
    Connection,
    tls::{
        CertStore, TlsConnector, TlsLayer, load, provider,
        rustls::{
            self, ServerConfig,
            server::{ServerSessionMemoryCache, StoresServerSessions},
            sign::SingleCertAndKey,
        },
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};
use tokio::io::{AsyncReadExt, duplex};
use tower::{Layer, ServiceExt, service_fn};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The chain and the key, in PEM, of a certificate that is valid for some days, and an hour.
pub(super) fn issue(days: u32) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["legacy.example".to_owned()]).unwrap();
    params.not_after = (SystemTime::now() + days * DAY + 3_600 * SECOND).into();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn check(tls: ServerTls) -> HealthCheck {
    HealthCheck::tls().with_tls(tls)
}

#[tokio::test]
async fn settings_that_are_read_again_are_the_same_and_each_difference_counts() {
    let folder = std::env::temp_dir().join(format!("portcullis-check-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let [roots, others] = [issue(90), issue(90)].map(|(chain, _)| chain);
    let file = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    };
    let store = |name: &str| {
        let (chain, key) = issue(90);
        let chain = file(&format!("{name}.pem"), &chain);
        let store = CertStore::builder().pem_files(chain, file(&format!("{name}.key"), &key));
        store.as_default().build().unwrap()
    };
    let connector = |roots: &str| TlsConnector::with_roots_pem(roots.as_bytes()).unwrap();
    let named = |connector| ServerTls::new(connector).with_name("a.example");
    let base = || check(named(connector(&roots)));
    assert!(base().is_same(&base()));
    assert!(base().is_same(&check(named(connector(&roots)).with_name("a.example"))));
    for other in [
        HealthCheck::tls(),
        base().with_timeout(SECOND),
        check(named(connector(&others))),
        check(named(connector(&roots).with_alpn(["h2"]))),
        check(named(connector(&roots).with_handshake_timeout(SECOND))),
        check(named(connector(&roots)).with_name("b.example")),
        check(named(connector(&roots)).with_prelude(ServerPrelude::Smtp)),
        check(named(
            connector(&roots).with_client_certificate(&store("a"), None),
        )),
    ] {
        assert!(
            !base().is_same(&other) && !other.is_same(&base()),
            "{other:?}"
        );
        assert!(other.is_same(&other.clone()));
    }
    // The same files, which are watched, whatever they contain by now.
    let watched = |store: CertStore| {
        let watch = store.watch();
        check(named(
            connector(&roots).with_client_certificate(&store, watch),
        ))
    };
    assert!(watched(store("a")).is_same(&watched(store("a"))));
    assert!(!watched(store("a")).is_same(&watched(store("b"))));
    // Without a watch, another store may have read something else.
    let (one, other) = (store("a"), store("a"));
    let kept = |store: &CertStore| {
        check(named(
            connector(&roots).with_client_certificate(store, None),
        ))
    };
    assert!(kept(&one).is_same(&kept(&one)));
    assert!(!kept(&one).is_same(&kept(&other)));
    assert!(!kept(&one).is_same(&watched(one.clone())));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_check_over_tls_goes_on_while_its_settings_stay_the_same() {
    let checks = Arc::new(AtomicUsize::new(0));
    let counter = checks.clone();
    let script = move |_: &ServerAddress| {
        counter.fetch_add(1, Ordering::Relaxed);
        let (ours, _theirs) = duplex(1024);
        Box::pin(std::future::ready(Ok(ours.into()))) as _
    };
    let (roots, _) = issue(90);
    let settings = |name: &str| {
        let connector = TlsConnector::with_roots_pem(roots.as_bytes()).unwrap();
        let check = check(ServerTls::new(connector).with_name(name));
        Pool::builder().with_health_check(check.with_interval(DAY))
    };
    let pool = settings("a.example").with_script(Script(Arc::new(script)));
    let pool = pool.build([Servers::server(1)]);
    // The checks fail, and come more often until the interval is reached.
    tokio::time::sleep(3 * DAY).await;
    for (name, begins_anew) in [
        ("a.example", false),
        ("a.example", false),
        ("b.example", true),
    ] {
        let before = checks.load(Ordering::Relaxed);
        pool.reconfigure(settings(name));
        tokio::time::sleep(SECOND).await;
        assert_eq!(
            checks.load(Ordering::Relaxed) > before,
            begins_anew,
            "{name}"
        );
    }
}

/// A layer with this certificate, whose clients resume the sessions in `sessions`.
pub(super) fn layer(
    (chain, key): &(String, String),
    sessions: &Arc<dyn StoresServerSessions>,
) -> TlsLayer {
    let key = load::certified_key(chain.as_bytes(), key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.session_storage = sessions.clone();
    TlsLayer::new(Arc::new(config))
}

#[tokio::test(start_paused = true)]
async fn each_check_sees_the_certificate_of_a_server_that_offers_to_resume_sessions() {
    let certificates = [40, 30, 20].map(issue);
    let roots = certificates.each_ref().map(|(chain, _)| &**chain).concat();
    let sessions: Arc<dyn StoresServerSessions> = ServerSessionMemoryCache::new(64);
    let layers = certificates.each_ref().map(|own| layer(own, &sessions));
    let current = Arc::new(AtomicUsize::new(0));
    let number = current.clone();
    let script = move |_: &ServerAddress| {
        let (ours, theirs) = duplex(16 * 1024);
        let stack = layers[number.load(Ordering::Relaxed)].layer(service_fn(
            |mut connection: Connection<_>| async move {
                let _ended = connection.read(&mut [0]).await;
                connection.close().await
            },
        ));
        tokio::spawn(stack.oneshot(Connection::accept(theirs)));
        Box::pin(std::future::ready(Ok(ours.into()))) as _
    };
    let connector = TlsConnector::with_roots_pem(roots.as_bytes()).unwrap();
    let tls = ServerTls::new(connector).with_name("legacy.example");
    for of_the_check in [true, false] {
        let (server, check) = match of_the_check {
            true => (Servers::server(1), check(tls.clone())),
            false => (Servers::server(1).with_tls(tls.clone()), HealthCheck::tls()),
        };
        let pool = Pool::builder()
            .with_script(Script(Arc::new(script.clone())))
            .with_health_check(check.with_interval(10 * SECOND))
            .build([server]);
        for (number, days) in [(0, 40), (1, 30), (2, 20)] {
            current.store(number, Ordering::Relaxed);
            tokio::time::sleep(15 * SECOND).await;
            let text = pool.servers()[0].last_check.clone().unwrap().text;
            let expected = format!("its certificate expires in {days} days");
            assert!(text.ends_with(&expected), "{text}");
        }
    }
}
