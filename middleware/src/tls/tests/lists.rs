//! Several revocation lists of one authority.

use super::{
    profile::{fault, visit},
    resumption::{CLIENTS, Clients, STRANGERS, everywhere},
    *,
};
use crate::tls::{CertStore, ClientAuth, TlsProfile, Trust};
use rcgen::{CrlDistributionPoint, CrlIssuingDistributionPoint};
use rustls::CertificateError;

/// Lists that were issued in these years, by whether they revoke the client's certificate.
fn list(year: i32, revokes: bool) -> String {
    CLIENTS.crl_issued(year, |crl| {
        if revokes {
            crl.revoked_certs.push(Clients::revocation());
        }
    })
}

#[tokio::test]
async fn of_several_lists_of_an_authority_the_one_issued_last_counts() {
    everywhere(async |server| {
        let client = CLIENTS.config(&server.provider, server.setup);
        for is_revoked in [true, false] {
            let (old, new) = (list(2021, !is_revoked), list(2022, is_revoked));
            let stranger = STRANGERS.empty_crl();
            let trust = || Trust::pem(CLIENTS.authority_pem().as_bytes());
            let in_one_file = |lists: [&str; 3]| trust().with_crl_pem(lists.concat().as_bytes());
            let in_each = |lists: [&str; 3]| {
                let add = |trust: Trust, list: &str| trust.with_crl_pem(list.as_bytes());
                lists.into_iter().fold(trust(), add)
            };
            for lists in [[&*old, &stranger, &new], [&*new, &old, &stranger]] {
                for trust in [in_one_file(lists), in_each(lists)] {
                    let store = CertStore::builder()
                        .pem(SERVER.chain_pem().as_bytes(), SERVER.key_pem().as_bytes());
                    let layer = TlsProfile::new(&store.build().unwrap())
                        .with_client_auth(ClientAuth::Required(trust))
                        .with_provider(server.provider.clone())
                        .with_time(server.clock.clone())
                        .build()
                        .unwrap();
                    let visited = visit(&layer, &client, "localhost").await;
                    match is_revoked {
                        true => assert_eq!(fault(visited), Some(CertificateError::Revoked)),
                        false => assert!(visited.is_ok(), "{visited:?}"),
                    }
                }
            }
        }
    })
    .await;
}

#[test]
fn a_list_is_known_as_long_as_no_newer_one_of_its_authority_takes_its_place() {
    let partial = |year| {
        CLIENTS.crl_issued(year, |crl| {
            let uris = vec!["http://crl.example/1".to_owned()];
            let distribution_point = CrlDistributionPoint { uris };
            crl.issuing_distribution_point = Some(CrlIssuingDistributionPoint {
                distribution_point,
                scope: None,
            });
        })
    };
    let stranger = STRANGERS.crl_issued(2020, |_| {});
    let stranger = stranger.as_str();
    let [old, new] = [2021, 2022].map(|year| list(year, false));
    let [older_part, newer_part] = [2021, 2023].map(partial);
    for (lists, known) in [
        (vec![&*old], 1),
        (vec![&*old, &new], 1),
        (vec![&*new, &old], 1),
        // Their names are equal, as those of an authority with a new key, and so rustls takes one of the two.
        (vec![&*new, stranger], 1),
        (vec![&*new, &older_part], 1),
        (vec![&*old, &newer_part, &new], 2),
    ] {
        let trust = Trust::pem(CLIENTS.authority_pem().as_bytes());
        let trust = trust.with_crl_pem(lists.concat().as_bytes());
        let store = CertStore::builder();
        let store = store.pem(SERVER.chain_pem().as_bytes(), SERVER.key_pem().as_bytes());
        let store = store.build().unwrap();
        let profile = TlsProfile::new(&store).with_client_auth(ClientAuth::Required(trust));
        let _layer = profile.build().unwrap();
        assert_eq!(store.crls().len(), known);
    }
}
