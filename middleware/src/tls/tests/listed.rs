//! Certificates of clients that are listed among the roots themselves.

use super::{
    profile::{fault, visit},
    resumption::CLIENTS,
    store::{expired, issue},
    *,
};
use crate::tls::{CertStore, CertStoreError, ClientAuth, TlsProfile, Trust, load, x509};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::{
    CertificateError, SignatureScheme, SupportedProtocolVersion,
    client::ResolvesClientCert,
    pki_types::pem::PemObject,
    version::{TLS12, TLS13},
};

type Change = fn(&mut CertificateParams);

/// A chain and its key, in PEM.
type Identity = (String, String);

/// A server that requires certificates which `trust` accepts, and its own certificate.
fn demanding(trust: Trust) -> Result<(TlsLayer, String), CertStoreError> {
    let server = issue(&["localhost"], |_| {});
    let store = CertStore::builder().pem(server.0.as_bytes(), server.1.as_bytes());
    let profile = TlsProfile::new(&store.build().unwrap());
    let profile = profile.with_client_auth(ClientAuth::Required(trust));
    Ok((profile.build()?, server.0))
}

/// Why a client with this certificate is rejected; the inner `None` if no certificate is the reason.
async fn rejection(trust: Trust, identity: &Identity) -> Option<Option<CertificateError>> {
    rejection_in(&TLS13, trust, identity).await
}

async fn rejection_in(
    version: &'static SupportedProtocolVersion,
    trust: Trust,
    (chain, key): &Identity,
) -> Option<Option<CertificateError>> {
    let (layer, server) = demanding(trust).unwrap();
    let chain = load::root_certificates(chain.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let key = provider().key_provider.load_private_key(key).unwrap();
    let key = Arc::new(rustls::sign::CertifiedKey::new(chain, key));
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(load::roots(server.as_bytes()).unwrap())
        .with_client_cert_resolver(Arc::new(IfHinted(key)));
    match visit(&layer, &Arc::new(client), "localhost").await {
        Ok(_) => None,
        visited => Some(fault(visited)),
    }
}

/// Presents a certificate to servers that name its issuer or that of its last issuer, as Go's clients do.
#[derive(Debug)]
struct IfHinted(Arc<rustls::sign::CertifiedKey>);

impl ResolvesClientCert for IfHinted {
    fn resolve(
        &self,
        hints: &[&[u8]],
        _: &[SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        let mut issuers = self.0.cert.iter().filter_map(|der| x509::issuer(der));
        let is_named = issuers.any(|issuer| hints.iter().any(|hint| hint.ends_with(issuer)));
        is_named.then(|| self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn for_authorities(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

/// A self-signed certificate, and one for any name that its key has signed, with the chain to it.
fn owner_and_issued(change: impl FnOnce(&mut CertificateParams)) -> [Identity; 2] {
    let mut params = CertificateParams::new(["client".to_owned()]).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "the owner");
    change(&mut params);
    let owner = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let issued = CertificateParams::new(["admin".to_owned()]).unwrap();
    let issued = issued.signed_by(&key, &owner).unwrap();
    let chain = issued.pem() + &owner.pem();
    [
        (owner.pem(), owner.key().serialize_pem()),
        (chain, key.serialize_pem()),
    ]
}

#[tokio::test]
async fn a_client_certificate_that_is_a_root_itself_is_accepted_while_it_is_valid() {
    let trust = |listed: &Identity| Trust::pem(listed.0.as_bytes());
    let nothing = |_: &mut CertificateParams| {};
    for change in [for_authorities, nothing] {
        let own = issue(&["client"], change);
        assert_eq!(rejection(trust(&own), &own).await, None);
        // One with the same name and another key is not the one that is listed.
        let other = issue(&["client"], change);
        assert!(rejection(trust(&own), &other).await.is_some());
        let old = issue(&["client"], |params| {
            change(params);
            expired(params);
        });
        let fault = rejection(trust(&old), &old).await.flatten();
        let is_expired = matches!(fault, Some(CertificateError::ExpiredContext { .. }));
        assert!(is_expired, "{fault:?}");
    }
    // No list says whether it was revoked.
    let own = issue(&["client"], for_authorities);
    let with_list = trust(&own).with_crl_pem(CLIENTS.empty_crl().as_bytes());
    assert!(rejection(with_list, &own).await.is_some());
}

#[tokio::test]
async fn a_listed_certificate_is_of_no_use_without_its_key() {
    let [own, other] = [(); 2].map(|()| issue(&["client"], |_| {}));
    let stolen = (own.0.clone(), other.1);
    let authority = issue(&["authority"], for_authorities);
    for version in [&TLS12, &TLS13] {
        // As the only root, and beside an authority.
        for listed in [own.0.clone(), own.0.clone() + &authority.0] {
            let trust = || Trust::pem(listed.as_bytes());
            assert_eq!(rejection_in(version, trust(), &own).await, None);
            let fault = rejection_in(version, trust(), &stolen).await.flatten();
            assert_eq!(fault, Some(CertificateError::BadSignature));
        }
    }
}

#[tokio::test]
async fn the_owner_of_a_listed_certificate_issues_others_only_as_an_authority() {
    let cases: [(&str, Change, bool); 5] = [
        ("CA:TRUE", for_authorities, true),
        (
            "keyCertSign",
            |params| {
                for_authorities(params);
                params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            },
            true,
        ),
        ("no constraints", |_| {}, false),
        (
            "CA:FALSE",
            |params| params.is_ca = IsCa::ExplicitNoCa,
            false,
        ),
        (
            "no keyCertSign",
            |params| {
                for_authorities(params);
                params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            },
            false,
        ),
    ];
    for (case, change, is_authority) in cases {
        let [owner, issued] = owner_and_issued(change);
        let alone = owner.0.clone();
        let beside_others = CLIENTS.authority_pem() + &owner.0;
        for listed in [alone, beside_others] {
            let trust = || Trust::pem(listed.as_bytes());
            assert_eq!(rejection(trust(), &owner).await, None, "{case}");
            let rejected = rejection(trust(), &issued).await;
            assert_eq!(rejected.is_none(), is_authority, "{case}: {rejected:?}");
        }
    }
}

#[test]
fn roots_without_an_authority_and_with_a_list_are_reported() {
    let own = issue(&["client"], |_| {});
    let trust = Trust::pem(own.0.as_bytes()).with_crl_pem(CLIENTS.empty_crl().as_bytes());
    let error = demanding(trust).map(|_| ()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("contains no certificate of an authority"),
        "{text}"
    );
}
