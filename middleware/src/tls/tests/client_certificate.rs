//! Clients that present a certificate of a store, which is renewed while they connect.

use super::{
    store::{issue, pair},
    *,
};
use crate::tls::{CertStore, ClientAuth, TlsConnector, TlsProfile, Trust};

/// A server that requires certificates of `roots`, and hands out tickets.
fn demanding(files: &Files, roots: &str) -> TlsLayer {
    let roots = files.write("roots.pem", roots);
    let [chain, key] = [
        ("server.pem", SERVER.chain_pem()),
        ("server.key", SERVER.key_pem()),
    ]
    .map(|(name, text)| files.write(name, &text));
    let store = CertStore::builder().pem_files(chain, key).build().unwrap();
    let profile = TlsProfile::new(&store);
    let profile = profile.with_client_auth(ClientAuth::Required(Trust::pem_file(roots)));
    profile.build().unwrap()
}

/// The certificate that the server has seen, and whether the session was resumed.
async fn visit(layer: &TlsLayer, connector: &TlsConnector) -> Result<(Vec<u8>, bool), BoxError> {
    let (connection, io) = over_tcp().await;
    let known = info(&connection);
    let served = serve(layer.clone(), connection, echo);
    let talk = async {
        let mut client = connector
            .connect("localhost", Connection::accept(io))
            .await?;
        client.write_all(b"hello").await?;
        client.shutdown().await?;
        let mut received = Vec::new();
        client.read_to_end(&mut received).await?;
        Ok::<_, BoxError>(received)
    };
    let (served, received) = tokio::join!(served, talk);
    served?;
    assert_eq!(received?, b"hello");
    let tls = known.tls().unwrap();
    Ok((tls.peer_certificates[0].to_vec(), tls.resumed))
}

fn connector(files: &Files, certificate: &(String, String)) -> (TlsConnector, CertStore) {
    let [chain, key] = pair(files, "client", certificate);
    let store = CertStore::builder().pem_files(chain, key);
    let store = store.as_default().build().unwrap();
    let connector = TlsConnector::with_roots_pem(SERVER.chain_pem().as_bytes()).unwrap();
    let connector = match is_unbuffered() {
        true => connector.unbuffered(),
        false => connector,
    };
    // The protocols are set before and after, which makes no difference.
    let connector = connector.with_client_certificate(&store, None);
    (connector.with_alpn(["h2"]), store)
}

fn der(certificate: &(String, String)) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(certificate.0.as_bytes())
        .unwrap()
        .to_vec()
}

fn files(name: &str) -> Files {
    Files::new(&format!("{name}-{}", is_unbuffered()))
}

#[tokio::test]
async fn a_renewed_certificate_is_presented_next_and_resumes_no_session_of_the_old_one() {
    let files = files("client-certificate");
    // Clients need no DNS names.
    let [old, new] = [(); 2].map(|()| issue(&[], |_| {}));
    let layer = demanding(&files, &format!("{}{}", old.0, new.0));
    let (connector, store) = connector(&files, &old);
    assert_eq!(visit(&layer, &connector).await.unwrap(), (der(&old), false));
    assert_eq!(visit(&layer, &connector).await.unwrap(), (der(&old), true));
    let serial = |connector: &TlsConnector| connector.client_certificate().unwrap().facts.serial;
    let old_serial = serial(&connector);
    let without = TlsConnector::with_roots_pem(SERVER.chain_pem().as_bytes()).unwrap();
    assert!(without.client_certificate().is_none());

    pair(&files, "client", &new);
    assert_eq!(store.reload().await.unwrap().replaced, 1);
    assert_ne!(serial(&connector), old_serial);
    assert_eq!(visit(&layer, &connector).await.unwrap(), (der(&new), false));
    assert_eq!(
        visit(&layer, &connector.clone()).await.unwrap(),
        (der(&new), true)
    );

    // A pair that does not fit keeps the one in use.
    files.write("client.key", &old.1);
    store.reload().await.unwrap_err();
    assert_eq!(visit(&layer, &connector).await.unwrap(), (der(&new), true));
}

// Without the reports of the system, the files are compared every minute.
#[cfg(feature = "watch")]
#[tokio::test]
async fn a_watched_certificate_is_reloaded_while_the_connector_is_in_use() {
    let files = files("client-watch");
    let [old, new] = [(); 2].map(|()| issue(&[], |_| {}));
    let layer = demanding(&files, &format!("{}{}", old.0, new.0));
    let (connector, store) = connector(&files, &old);
    let connector = connector.with_client_certificate(&store, store.watch());
    assert_eq!(visit(&layer, &connector).await.unwrap().0, der(&old));
    pair(&files, "client", &new);
    let renewed = async {
        while store.reloads() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), renewed)
        .await
        .unwrap();
    assert_eq!(visit(&layer, &connector).await.unwrap().0, der(&new));
}

#[tokio::test]
async fn a_server_that_requires_a_certificate_rejects_clients_without_one() {
    let files = files("client-none");
    let own = issue(&[], |_| {});
    let layer = demanding(&files, &own.0);
    let without = TlsConnector::with_roots_pem(SERVER.chain_pem().as_bytes()).unwrap();
    visit(&layer, &without).await.unwrap_err();
    let (stranger, _) = connector(&files, &issue(&[], |_| {}));
    visit(&layer, &stranger).await.unwrap_err();
}
