//! Layers built from a store: names, client certificates and their reload.

use super::{
    resumption::{CLIENTS, NEW, STRANGERS, everywhere},
    store::{issue, pair},
    *,
};
use crate::{
    error::find,
    tls::{
        CertStore, CertStoreBuilder, ClientAuth, TicketKeys, TlsProfile, Trust, UnrecognizedName,
    },
};
use rcgen::KeyPair;
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::UnixTime,
    version::TLS12,
};
use std::{
    path::Path,
    time::{Duration, SystemTime},
};

/// A client that trusts `chain` and requests `name`.
pub(super) async fn visit(
    layer: &TlsLayer,
    config: &Arc<ClientConfig>,
    name: &'static str,
) -> Result<ConnectionInfo, (BoxError, io::Error)> {
    let (connection, io) = over_tcp().await;
    let known = info(&connection);
    let served = serve(layer.clone(), connection, echo);
    let talk = async {
        let name = ServerName::try_from(name).unwrap();
        let client = TlsConnector::from(config.clone()).connect(name, io).await?;
        talk(client, b"hello").await
    };
    match tokio::join!(served, talk) {
        (Ok(()), Ok(received)) => {
            assert_eq!(received, b"hello");
            Ok(known)
        }
        (Err(served), Err(talk)) => Err((served, talk)),
        (served, talk) => panic!("{served:?} {talk:?}"),
    }
}

pub(super) fn trusting(chains: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for chain in chains {
        let more = crate::tls::load::roots(chain.as_bytes()).unwrap();
        roots.roots.extend(more.roots);
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[tokio::test]
async fn two_names_are_served_and_others_are_rejected_with_an_alert() {
    let shop = issue(&["shop.example"], |_| {});
    let blog = issue(&["*.blog.example", "localhost"], |p| {
        let ip = rcgen::SanType::IpAddress([127, 0, 0, 1].into());
        p.subject_alt_names.push(ip);
    });
    let client = trusting(&[&shop.0, &blog.0]);
    let builder = CertStore::builder()
        .pem(shop.0.as_bytes(), shop.1.as_bytes())
        .pem(blog.0.as_bytes(), blog.1.as_bytes());
    let strict = builder.clone().build().unwrap();
    let strict = TlsProfile::new(&strict).build().unwrap();
    for name in [
        "shop.example",
        "SHOP.Example",
        "a.blog.example",
        "localhost",
    ] {
        visit(&strict, &client, name).await.unwrap();
    }
    for (name, requested) in [("x.example", Some("x.example")), ("127.0.0.1", None)] {
        let (served, received) = visit(&strict, &client, name).await.unwrap_err();
        let unrecognized = find::<UnrecognizedName>(&*served).unwrap();
        assert_eq!(unrecognized.name(), requested);
        let alert = AlertDescription::UnrecognisedName;
        let expected = rustls::Error::AlertReceived(alert);
        assert_eq!(find(&received), Some(&expected));
    }
    let lenient = builder.as_default().build().unwrap();
    let lenient = TlsProfile::new(&lenient).with_alpn(["h2"]).build().unwrap();
    visit(&lenient, &client, "127.0.0.1").await.unwrap();
}

/// A client that supports one kind of signature, and trusts each certificate.
#[derive(Debug)]
struct Only(SignatureScheme);

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![self.0]
    }
}

#[tokio::test]
async fn of_the_certificates_of_a_name_a_client_gets_the_first_that_it_supports() {
    let of_type = |algorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (
            certificate.der().clone(),
            certificate.pem(),
            key.serialize_pem(),
        )
    };
    let ecdsa = of_type(&rcgen::PKCS_ECDSA_P256_SHA256);
    let ed25519 = of_type(&rcgen::PKCS_ED25519);
    let add = |builder: CertStoreBuilder, (_, chain, key): &(_, String, String)| {
        builder.pem(chain.as_bytes(), key.as_bytes())
    };
    let store = add(add(CertStore::builder(), &ecdsa), &ed25519)
        .build()
        .unwrap();
    let layer = TlsProfile::new(&store).build().unwrap();
    for version in rustls::ALL_VERSIONS {
        for (scheme, expected) in [
            (SignatureScheme::ECDSA_NISTP256_SHA256, Some(&ecdsa.0)),
            (SignatureScheme::ED25519, Some(&ed25519.0)),
            (SignatureScheme::RSA_PSS_SHA256, None),
        ] {
            let client = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Only(scheme)))
                .with_no_client_auth();
            let (connection, io) = over_tcp().await;
            let served = serve(layer.clone(), connection, echo);
            let shown = async {
                let client = connect(client, io).await.ok()?;
                let shown = client.get_ref().1.peer_certificates().unwrap()[0].clone();
                talk(client, b"").await.unwrap();
                Some(shown)
            };
            let (_, shown) = tokio::join!(served, shown);
            assert_eq!(shown.as_ref(), expected, "{version:?} {scheme:?}");
        }
    }
    // Two of one type are a mistake.
    let both = add(
        add(CertStore::builder(), &ecdsa),
        &of_type(&rcgen::PKCS_ECDSA_P384_SHA384),
    );
    let error = both.build().unwrap_err();
    assert!(error.problems()[0].is_claimed_twice(), "{error}");
    assert!(
        error.to_string().contains("a key of the same type"),
        "{error}"
    );
}

#[tokio::test]
async fn the_minimum_version_and_the_protocols_are_those_of_the_profile() {
    let own = issue(&["localhost"], |_| {});
    let store = CertStore::builder().pem(own.0.as_bytes(), own.1.as_bytes());
    let store = store.build().unwrap();
    let layer = TlsProfile::new(&store)
        .with_tls13_only()
        .with_alpn(["h2"])
        .build()
        .unwrap();
    let mut new = ClientConfig::clone(&trusting(&[&own.0]));
    new.alpn_protocols = vec![b"h2".to_vec()];
    let known = visit(&layer, &Arc::new(new), "localhost").await.unwrap();
    assert_eq!(known.tls().unwrap().alpn_str(), Some("h2"));
    let mut roots = RootCertStore::empty();
    roots.roots = crate::tls::load::roots(own.0.as_bytes()).unwrap().roots;
    let old = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    visit(&layer, &Arc::new(old), "localhost")
        .await
        .unwrap_err();
}

#[tokio::test]
async fn the_next_handshake_after_a_reload_uses_the_new_certificate() {
    let files = Files::new("profile-reload");
    let (old, new) = (issue(&["localhost"], |_| {}), issue(&["localhost"], |_| {}));
    let [chain, key] = pair(&files, "own", &old);
    let store = CertStore::builder().pem_files(chain, key).build().unwrap();
    let layer = TlsProfile::new(&store).build().unwrap();
    visit(&layer, &trusting(&[&old.0]), "localhost")
        .await
        .unwrap();
    pair(&files, "own", &new);
    store.reload().await.unwrap();
    visit(&layer, &trusting(&[&new.0]), "localhost")
        .await
        .unwrap();
    visit(&layer, &trusting(&[&old.0]), "localhost")
        .await
        .unwrap_err();
}

/// The certificate's problem, if that made the server reject the client.
pub(super) fn fault(
    served: Result<ConnectionInfo, (BoxError, io::Error)>,
) -> Option<CertificateError> {
    let (error, _) = served.expect_err("the client is rejected");
    match find::<rustls::Error>(&*error) {
        Some(rustls::Error::InvalidCertificate(fault)) => Some(fault.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn clients_are_judged_by_the_current_roots_and_lists_also_by_resumption() {
    everywhere(async |server| {
        let files = Files::new("profile-clients");
        let roots = files.write("ca.pem", &CLIENTS.authority_pem());
        let crl = files.write("crl.pem", &CLIENTS.empty_crl());
        let store = CertStore::builder()
            .pem(SERVER.chain_pem().as_bytes(), SERVER.key_pem().as_bytes())
            .build()
            .unwrap();
        let trust = Trust::pem_file(&roots).with_crl_file(&crl);
        let mut profile = TlsProfile::new(&store)
            .with_client_auth(ClientAuth::Required(trust))
            .with_provider(server.provider.clone())
            .with_time(server.clock.clone());
        if server.setup.is_stateless {
            profile = profile.with_tickets(TicketKeys::random());
        }
        let layer = profile.build().unwrap();
        let client = CLIENTS.config(&server.provider, server.setup);
        let reload = async || store.reload().await.unwrap();

        for resumed in [false, true] {
            let known = visit(&layer, &client, "localhost").await.unwrap();
            assert_eq!(known.tls().unwrap().resumed, resumed, "{:?}", server.setup);
            assert!(known.peer_certificate().unwrap().dns_names().eq(["client"]));
        }
        let established = visit(&layer, &client, "localhost").await.unwrap();
        let again = || layer.verify_again(&established);
        again().unwrap();
        // Sessions survive a reload.
        reload().await;
        let known = visit(&layer, &client, "localhost").await.unwrap();
        assert!(known.tls().unwrap().resumed);

        fs::write(&crl, CLIENTS.crl()).unwrap();
        reload().await;
        let revoked = fault(visit(&layer, &client, "localhost").await);
        assert_eq!(revoked, Some(CertificateError::Revoked));
        assert_eq!(again(), Err(CertificateError::Revoked.into()));

        fs::write(&crl, CLIENTS.empty_crl()).unwrap();
        reload().await;
        visit(&layer, &client, "localhost").await.unwrap();
        again().unwrap();
        fs::write(&roots, STRANGERS.authority_pem()).unwrap();
        fs::write(&crl, STRANGERS.empty_crl()).unwrap();
        reload().await;
        assert!(fault(visit(&layer, &client, "localhost").await).is_some());
        again().unwrap_err();

        fs::write(&roots, CLIENTS.authority_pem()).unwrap();
        fs::write(&crl, CLIENTS.empty_crl()).unwrap();
        reload().await;
        visit(&layer, &client, "localhost").await.unwrap();
        server.expire();
        let expired = fault(visit(&layer, &client, "localhost").await);
        assert!(
            matches!(expired, Some(CertificateError::ExpiredContext { .. })),
            "{expired:?}"
        );
        assert_eq!(again(), Err(expired.unwrap().into()));
    })
    .await;
}

#[tokio::test]
async fn clients_are_rejected_while_the_list_of_their_authority_is_out_of_date_unless_it_is_accepted()
 {
    everywhere(async |server| {
        let store = CertStore::builder()
            .pem(SERVER.chain_pem().as_bytes(), SERVER.key_pem().as_bytes())
            .build()
            .unwrap();
        let client = CLIENTS.config(&server.provider, server.setup);
        for (left, accept, is_admitted) in [
            (1, false, true),
            (0, false, false),
            (1, true, true),
            (0, true, true),
        ] {
            let crl = CLIENTS.crl_until(NEW + left);
            let trust = Trust::pem(CLIENTS.authority_pem().as_bytes())
                .with_crl_pem(crl.as_bytes())
                .with_outdated_crls(accept);
            let layer = TlsProfile::new(&store)
                .with_client_auth(ClientAuth::Required(trust))
                .with_provider(server.provider.clone())
                .with_time(server.clock.clone())
                .build()
                .unwrap();
            let visited = visit(&layer, &client, "localhost").await;
            assert_eq!(visited.is_ok(), is_admitted, "{left} {accept}");
            if !is_admitted {
                let fault = fault(visited);
                let is_outdated = matches!(
                    fault,
                    Some(CertificateError::ExpiredRevocationListContext { .. })
                );
                assert!(is_outdated, "{fault:?}");
            }

            let [crl] = &store.crls()[..] else {
                panic!("there is one list")
            };
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NEW);
            assert_eq!(crl.is_outdated(now), left == 0);
            assert_eq!(crl.is_enforced, !accept);
            assert_eq!(crl.issuer.as_deref(), Some("authority"));
            drop(layer);
            assert!(store.crls().is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn a_certificate_is_optional_required_or_not_asked_for() {
    everywhere(async |server| {
        let store = CertStore::builder()
            .pem(SERVER.chain_pem().as_bytes(), SERVER.key_pem().as_bytes())
            .build()
            .unwrap();
        let layer = |auth| {
            let profile = TlsProfile::new(&store).with_client_auth(auth);
            let profile = profile.with_time(server.clock.clone());
            profile
                .with_provider(server.provider.clone())
                .build()
                .unwrap()
        };
        let trust = Trust::pem(CLIENTS.authority_pem().as_bytes());
        let off = layer(ClientAuth::Off);
        let optional = layer(ClientAuth::Optional(trust.clone()));
        let required = layer(ClientAuth::Required(trust));
        let known = CLIENTS.config(&server.provider, server.setup);
        let stranger = STRANGERS.config(&server.provider, server.setup);
        let versions = [server.setup.version];
        let anonymous = client_config(server.provider.clone(), &versions);
        let anonymous = Arc::new(anonymous);
        for (layer, client, accepted, has_certificate) in [
            (&off, &known, true, false),
            (&off, &anonymous, true, false),
            (&optional, &known, true, true),
            (&optional, &anonymous, true, false),
            (&optional, &stranger, false, false),
            (&required, &known, true, true),
            (&required, &anonymous, false, false),
            (&required, &stranger, false, false),
        ] {
            let visited = visit(layer, client, "localhost").await;
            assert_eq!(visited.is_ok(), accepted, "{:?}", server.setup);
            if let Ok(info) = visited {
                assert_eq!(info.peer_certificate().is_some(), has_certificate);
                layer.verify_again(&info).unwrap();
                // Another layer may require more.
                let is_known = required.verify_again(&info);
                assert_eq!(is_known.is_ok(), has_certificate, "{is_known:?}");
                // Without a verifier, a certificate cannot be checked.
                let unchecked = off.verify_again(&info);
                assert_eq!(unchecked.is_err(), has_certificate, "{unchecked:?}");
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_finds_a_bad_list_changes_nothing_and_reports_all_files() {
    let files = Files::new("profile-bad");
    let [chain, key] = pair(&files, "own", &issue(&["localhost"], |_| {}));
    let roots = files.write("ca.pem", &CLIENTS.authority_pem());
    let crl = files.write("crl.pem", &CLIENTS.crl());
    let tickets = files.write("tickets", &"k".repeat(48));
    let store = CertStore::builder()
        .pem_files(&chain, &key)
        .build()
        .unwrap();
    let trust = Trust::pem_file(&roots).with_crl_file(&crl);
    let layer = TlsProfile::new(&store)
        .with_client_auth(ClientAuth::Required(trust))
        .with_tickets(TicketKeys::file(&tickets))
        .build()
        .unwrap();
    let serial = store.certificates()[0].facts.serial.clone();
    pair(&files, "own", &issue(&["localhost"], |_| {}));
    fs::write(&roots, "").unwrap();
    fs::write(
        &crl,
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    )
    .unwrap();
    fs::write(&tickets, "short").unwrap();
    let error = store.reload().await.unwrap_err();
    let paths: Vec<_> = error.problems().iter().map(|p| p.path().unwrap()).collect();
    assert_eq!(paths, [&*roots, &*crl, &*tickets], "{error}");
    assert_eq!(store.certificates()[0].facts.serial, serial);
    drop(layer);
    // A profile that is gone has no files any more.
    assert_eq!(store.reload().await.unwrap().replaced, 1);
}

/// A client is served; whether it has resumed a session.
async fn is_resumed(layer: &TlsLayer, client: &Arc<ClientConfig>) -> bool {
    let known = visit(layer, client, "localhost").await.unwrap();
    known.tls().unwrap().resumed
}

#[tokio::test]
async fn each_file_of_a_profile_is_renewed_while_others_are_damaged() {
    everywhere(async |server| {
        let files = Files::new("profile-each");
        let roots = files.write("ca.pem", &CLIENTS.authority_pem());
        let crl = files.write("crl.pem", &CLIENTS.empty_crl());
        let tickets = files.write("tickets", &"k".repeat(48));
        let store = CertStore::builder()
            .pem(SERVER.chain_pem().as_bytes(), SERVER.key_pem().as_bytes())
            .build()
            .unwrap();
        let trust = Trust::pem_file(&roots).with_crl_file(&crl);
        let layer = TlsProfile::new(&store)
            .with_client_auth(ClientAuth::Required(trust))
            .with_tickets(TicketKeys::file(&tickets))
            .with_provider(server.provider.clone())
            .with_time(server.clock.clone())
            .build()
            .unwrap();
        let client = CLIENTS.config(&server.provider, server.setup);
        // What the files contain and how many of them cannot be used.
        let renew = async |files: &[(&Path, &str)], kept| {
            for (path, contents) in files {
                fs::write(path, contents).unwrap();
            }
            assert_eq!(store.renew().await.1.len(), kept);
        };
        let is_rejected = async || fault(visit(&layer, &client, "localhost").await);
        let revoked = Some(CertificateError::Revoked);
        let unrevoked = (&*crl, &*CLIENTS.empty_crl());
        assert!(!is_resumed(&layer, &client).await);

        // Damaged ticket keys hold back no revocation list, and those of before stay in use.
        renew(&[(&tickets, "short"), (&crl, &CLIENTS.crl())], 1).await;
        assert_eq!(is_rejected().await, revoked);
        renew(&[unrevoked], 1).await;
        is_resumed(&layer, &client).await;
        assert!(is_resumed(&layer, &client).await);

        // Nor do damaged roots, which stay in use as well.
        renew(&[(&roots, "no roots"), (&crl, &CLIENTS.crl())], 2).await;
        assert_eq!(is_rejected().await, revoked);
        renew(&[unrevoked], 2).await;
        is_resumed(&layer, &client).await;

        // Damaged lists hold back neither new roots nor new keys, which do not know the tickets of before.
        let of_no_list = STRANGERS.authority_pem().replace("CERTIFICATE", "X509 CRL");
        for (damaged, keys) in [("no list", "n"), (&of_no_list, "m")] {
            renew(&[(&crl, damaged), (&roots, &STRANGERS.authority_pem())], 2).await;
            assert!(is_rejected().await.is_some(), "{damaged}");
            let keys = keys.repeat(48);
            renew(&[(&roots, &CLIENTS.authority_pem()), (&tickets, &keys)], 1).await;
            assert!(!is_resumed(&layer, &client).await);
            assert!(is_resumed(&layer, &client).await);
            renew(&[(&tickets, "short")], 2).await;
        }
        // The list of before is still the one that counts.
        renew(&[(&crl, &CLIENTS.crl()), (&tickets, &"k".repeat(48))], 0).await;
        assert_eq!(is_rejected().await, revoked);
        renew(&[(&crl, "no list")], 1).await;
        assert_eq!(is_rejected().await, revoked);
    })
    .await;
}

#[test]
fn a_ticket_key_of_zeros_is_refused() {
    let files = Files::new("profile-zeros");
    let own = issue(&["localhost"], |_| {});
    let store = CertStore::builder().pem(own.0.as_bytes(), own.1.as_bytes());
    let store = store.build().unwrap();
    let path = files.write("tickets", &"\0".repeat(48));
    let profile = || TlsProfile::new(&store).with_tickets(TicketKeys::file(&path));
    let error = profile().build().unwrap_err();
    assert!(
        error.to_string().contains("a key consists of zeros"),
        "{error}"
    );
    // One byte that is set is enough.
    files.write("tickets", &("\0".repeat(47) + "k"));
    profile().build().unwrap();
}

#[test]
fn problems_of_a_profile_are_found_at_the_start() {
    let own = issue(&["localhost"], |_| {});
    let store = CertStore::builder().pem(own.0.as_bytes(), own.1.as_bytes());
    let store = store.build().unwrap();
    let missing = Trust::pem_file("/no/such/ca.pem").with_crl_file("/no/such/crl.pem");
    let error = TlsProfile::new(&store)
        .with_client_auth(ClientAuth::Optional(missing))
        .with_tickets(TicketKeys::file("/no/such/tickets"))
        .build()
        .unwrap_err();
    assert_eq!(error.problems().len(), 3, "{error}");
    assert!(
        error
            .to_string()
            .contains("bundle of root certificates in \"/no/such/ca.pem\"")
    );
}
