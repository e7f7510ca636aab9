//! Files of trusted roots and revocation lists, while a store is watched.

use super::{
    resumption::CLIENTS,
    store::{found, issue, pair},
    *,
};
use crate::{
    observe::trace::tests::log::Log,
    tls::{CertStore, ClientAuth, TlsProfile, Trust},
};
use std::time::{Duration, SystemTime};
use tracing::Level;

/// A store of the listener `web`, whose clients' certificates are of `CLIENTS`.
fn store_with_list(files: &Files, next_update: SystemTime) -> (CertStore, TlsLayer) {
    let [chain, key] = pair(files, "own", &issue(&["a.example"], |_| {}));
    let builder = CertStore::builder().pem_files(chain, key).used_by("web");
    let store = builder.build().unwrap();
    let roots = files.write("ca.pem", &CLIENTS.authority_pem());
    let time = next_update.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let crl = files.write("ca.crl", &CLIENTS.crl_until(time.as_secs()));
    let trust = Trust::pem_file(roots).with_crl_file(crl);
    let profile = TlsProfile::new(&store).with_client_auth(ClientAuth::Required(trust));
    let layer = profile.build().unwrap();
    (store, layer)
}

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test(start_paused = true)]
async fn files_of_a_profile_that_cannot_be_read_again_stay_known_until_they_can() {
    const MINUTES: Duration = Duration::from_secs(120);
    let files = Files::new("kept");
    let (store, _layer) = store_with_list(&files, SystemTime::now() + DAY);
    let log = Log::of_lines(Level::INFO);
    let _watch = store.watch();
    assert!(store.problems().is_empty());
    files.write("ca.crl", "no list");
    tokio::time::sleep(MINUTES).await;
    let problems = store.problems();
    assert!(
        problems.len() == 1 && problems[0].contains("ca.crl"),
        "{problems:?}"
    );
    let line = &log.lines()[0];
    assert_eq!(line.level, Level::ERROR);
    assert_eq!(line.fields["used_by"], "web");
    assert!(line.fields["error"].contains("ca.crl"));
    // What is in use is still known, and a change of another file makes no difference.
    assert_eq!(store.crls().len(), 1);
    pair(&files, "own", &issue(&["b.example"], |_| {}));
    tokio::time::sleep(MINUTES).await;
    assert!(found(&store, Some("b.example")).is_some());
    assert_eq!(store.problems(), problems);

    let before = log.lines().len();
    files.write("ca.crl", &CLIENTS.empty_crl());
    tokio::time::sleep(MINUTES).await;
    assert!(store.problems().is_empty());
    let line = &log.lines()[before];
    assert_eq!((line.level, &*line.fields["used_by"]), (Level::INFO, "web"));
    let file = &line.fields["file"];
    assert!(
        file.contains("ca.crl") && !file.contains("own.pem"),
        "{file}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_that_takes_effect_beside_a_damaged_file_is_logged() {
    const MINUTES: Duration = Duration::from_secs(120);
    let files = Files::new("beside");
    let (store, _layer) = store_with_list(&files, SystemTime::now() + DAY);
    let log = Log::of_lines(Level::INFO);
    let _watch = store.watch();
    files.write("own.pem", "no certificate");
    files.write("ca.crl", &CLIENTS.empty_crl());
    tokio::time::sleep(MINUTES).await;
    let lines = log.lines();
    let levels: Vec<_> = lines.iter().map(|line| line.level).collect();
    assert_eq!(levels, [Level::ERROR, Level::INFO]);
    assert!(lines[0].fields["error"].contains("own.pem"));
    let file = &lines[1].fields["file"];
    assert!(
        file.contains("ca.crl") && !file.contains("own.pem"),
        "{file}"
    );
    // Nothing takes effect.
    files.write("own.pem", "no certificate either");
    tokio::time::sleep(MINUTES).await;
    assert_eq!(log.lines().len(), 3);
    assert_eq!(log.lines()[2].level, Level::ERROR);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_out_of_date_is_mentioned_when_it_is_read_and_daily() {
    let files = Files::new("outdated");
    let log = Log::of_lines(Level::WARN);
    let count = || log.lines().len();
    let (store, _layer) = store_with_list(&files, SystemTime::now() - DAY);
    assert_eq!(count(), 1);
    assert!(log.lines()[0].fields["file"].contains("ca.crl"));
    let _watch = store.watch();
    for (hours, lines) in [(23, 1), (2, 2), (23, 2), (2, 3)] {
        tokio::time::sleep(Duration::from_secs(hours * 3_600)).await;
        assert_eq!(count(), lines);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_goes_out_of_date_while_it_is_in_use_is_mentioned_once() {
    let files = Files::new("ends");
    let log = Log::of_lines(Level::WARN);
    // The clock of the system does not follow that of the test, which runs ahead by hours.
    let (store, _layer) = store_with_list(&files, SystemTime::now() + Duration::from_secs(3));
    let _watch = store.watch();
    let begun = SystemTime::now();
    assert!(log.lines().is_empty());
    let is_outdated = || store.crls()[0].is_outdated(SystemTime::now());
    while !is_outdated() {
        assert!(begun.elapsed().unwrap() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(log.lines().len(), 1);
}
