//! Certificates by name, and files that are replaced while they are in use.

use super::*;
use crate::{
    connection::CertificateFacts,
    observe::trace::tests::log::Log,
    tls::{
        CertStore, CertStoreError, ClientAuth, TlsProfile, Trust,
        store::{StapleFault, valid_until},
    },
};
use rcgen::{CertificateParams, KeyPair, SerialNumber};
use std::{
    path::Path,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;
use tracing::Level;

/// A self-signed certificate in PEM, and its key.
pub(super) fn issue(
    names: &[&str],
    change: impl FnOnce(&mut CertificateParams),
) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

pub(super) fn expired(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
}

/// A file for the chain and one for the key, both with the beginning `name`.
pub(super) fn pair(files: &Files, name: &str, (chain, key): &(String, String)) -> [PathBuf; 2] {
    [
        files.write(&format!("{name}.pem"), chain),
        files.write(&format!("{name}.key"), key),
    ]
}

fn store_of(files: &Files, names: &[&str]) -> CertStore {
    let builder = names.iter().fold(CertStore::builder(), |builder, name| {
        let [chain, key] = pair(files, name, &issue(&[name], |_| {}));
        builder.pem_files(chain, key)
    });
    builder.build().unwrap()
}

pub(super) fn found(store: &CertStore, name: Option<&str>) -> Option<String> {
    let snapshot = store.snapshot();
    let key = snapshot.find(name)?;
    key.facts.dns_names().next().map(ToOwned::to_owned)
}

#[test]
fn a_certificate_is_found_by_exact_name_then_by_wildcard_then_by_default() {
    let builder = [
        &["shop.example"][..],
        &["*.shop.example", "WWW.Blog.example"],
        &["*.a.shop.example"],
        &["pay.shop.example"],
    ]
    .iter()
    .fold(CertStore::builder(), |builder, names| {
        let (chain, key) = issue(names, |_| {});
        builder.pem(chain.as_bytes(), key.as_bytes())
    });
    let strict = builder.clone().build().unwrap();
    for (name, expected) in [
        ("shop.example", Some("shop.example")),
        ("SHOP.example.", Some("shop.example")),
        ("pay.shop.example", Some("pay.shop.example")),
        ("x.shop.example", Some("*.shop.example")),
        ("X.Shop.Example", Some("*.shop.example")),
        ("www.blog.example", Some("*.shop.example")),
        ("blog.example", None),
        ("b.a.shop.example", Some("*.a.shop.example")),
        ("c.b.a.shop.example", None),
        ("a.shop.example", Some("*.shop.example")),
        ("example", None),
        ("192.0.2.1", None),
        ("", None),
        (".", None),
    ] {
        assert_eq!(found(&strict, Some(name)).as_deref(), expected, "{name}");
    }
    assert_eq!(found(&strict, None), None);

    let lenient = builder.as_default().build().unwrap();
    for name in [None, Some("blog.example"), Some("192.0.2.1")] {
        assert_eq!(found(&lenient, name).as_deref(), Some("pay.shop.example"));
    }
    let listed = lenient.certificates();
    assert!(listed[3].is_default && !listed[0].is_default && !listed[0].is_stapled);
    assert_eq!(listed.len(), 4);
    assert_eq!(format!("{lenient:?}"), "CertStore { certificates: 4, .. }");
}

#[test]
fn all_problems_are_reported_together_each_with_its_file() {
    let files = Files::new("problems");
    let [good, good_key] = pair(&files, "good", &issue(&["a.example"], |_| {}));
    let [twice, twice_key] = pair(&files, "twice", &issue(&["b.example", "A.example"], |_| {}));
    let [old, old_key] = pair(&files, "old", &issue(&["c.example"], expired));
    let [nameless, nameless_key] = pair(&files, "nameless", &issue(&[], |_| {}));
    let [early, early_key] = pair(
        &files,
        "early",
        &issue(&["d.example"], |p| {
            p.not_before = rcgen::date_time_ymd(2400, 1, 1)
        }),
    );
    let missing = files.0.join("missing.pem");
    let error = CertStore::builder()
        .pem_files(&good, &good_key)
        .pem_files(&twice, &twice_key)
        .pem_files(&old, &old_key)
        .pem_files(&nameless, &nameless_key)
        .pem_files(&early, &early_key)
        .pem_files(&missing, &good_key)
        .pem_files(&good, &twice_key)
        .build()
        .unwrap_err();
    let expected: [(&Path, &str); 6] = [
        (
            &twice,
            "contains the name \"a.example\", which the certificate in",
        ),
        (&old, "expired 2"),
        (&nameless, "contains no DNS name"),
        (&early, "is valid only in"),
        (&missing, "cannot be read"),
        (&twice_key, "does not belong to the certificate"),
    ];
    let text = error.to_string();
    assert_eq!(error.problems().len(), expected.len(), "{text}");
    for (problem, (path, reason)) in error.problems().iter().zip(expected) {
        assert_eq!(problem.path(), Some(path), "{problem}");
        assert!(
            problem
                .to_string()
                .to_lowercase()
                .contains(&reason.to_lowercase()),
            "{problem}"
        );
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(problem.to_string().contains(name) && text.contains(name));
    }
    assert!(error.problems()[0].is_claimed_twice() && error.problems()[1].is_expired());
    assert!(
        CertStore::builder()
            .build()
            .unwrap_err()
            .to_string()
            .contains("is empty")
    );
}

#[tokio::test]
async fn a_reload_replaces_what_has_changed_and_keeps_the_time_of_the_rest() {
    let files = Files::new("reload");
    let store = store_of(&files, &["a.example", "b.example"]);
    let before = store.certificates();
    pair(&files, "b.example", &issue(&["new.example"], |_| {}));
    assert_eq!(store.reload().await.unwrap().replaced, 1);
    let after = store.certificates();
    assert_eq!(before[0].since, after[0].since);
    assert!(after[1].since > before[1].since);
    assert_eq!(found(&store, Some("b.example")), None);
    assert!(found(&store, Some("new.example")).is_some());
    assert_eq!(store.reload().await.unwrap().replaced, 0);
}

async fn reload_error(store: &CertStore) -> CertStoreError {
    store.reload().await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn a_pair_that_does_not_fit_keeps_the_old_one_after_three_more_attempts() {
    let files = Files::new("mismatch");
    let store = store_of(&files, &["a.example"]);
    let (chain, key) = issue(&["a.example"], |_| {});
    let half = &chain[..chain.len() / 2];
    let path = files.write("a.example.pem", &chain);
    for (contents, reason) in [
        (chain.as_str(), "does not belong to the certificate"),
        (half, "is not valid PEM"),
        ("", "has no certificate"),
    ] {
        fs::write(&path, contents).unwrap();
        let start = Instant::now();
        let error = reload_error(&store).await;
        assert_eq!(start.elapsed().as_secs(), 3, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert!(error.problems()[0].config_error().is_some());
        assert!(
            !error.to_string().contains("PRIVATE") && !format!("{error:?}").contains("PRIVATE")
        );
        assert!(found(&store, Some("a.example")).is_some());
    }
    fs::write(&path, &chain).unwrap();
    files.write("a.example.key", &key);
    assert_eq!(store.reload().await.unwrap().replaced, 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_written_a_moment_after_its_chain_is_waited_for() {
    let files = Files::new("moment");
    let store = store_of(&files, &["a.example"]);
    let (chain, key) = issue(&["b.example"], |_| {});
    files.write("a.example.pem", &chain);
    let reloading = store.reload();
    let writing = async {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        files.write("a.example.key", &key);
    };
    let start = Instant::now();
    let (reloaded, ()) = tokio::join!(reloading, writing);
    assert_eq!(reloaded.unwrap().replaced, 1);
    assert_eq!(start.elapsed().as_secs(), 3);
    assert!(found(&store, Some("b.example")).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_expired_certificate_is_not_loaded_and_one_in_use_does_not_block_others() {
    let files = Files::new("expired");
    let store = store_of(&files, &["a.example", "b.example"]);
    pair(&files, "a.example", &issue(&["a.example"], expired));
    pair(&files, "b.example", &issue(&["b.example"], |_| {}));
    let start = Instant::now();
    let error = reload_error(&store).await;
    assert!(error.problems()[0].is_expired() && error.problems().len() == 1);
    assert_eq!(
        start.elapsed().as_secs(),
        0,
        "another attempt would not help"
    );

    let log = Log::of_lines(Level::WARN);
    let now = SystemTime::now();
    let soon = now.duration_since(SystemTime::UNIX_EPOCH).unwrap() + Duration::from_secs(600);
    let not_after = rcgen::date_time_ymd(1970, 1, 1) + soon;
    let closing = issue(&["a.example"], |params| params.not_after = not_after);
    pair(&files, "a.example", &closing);
    assert_eq!(store.reload().await.unwrap().replaced, 2);
    let lines = log.lines();
    assert!(
        lines[0].text.contains("expires in 0 days"),
        "{}",
        lines[0].text
    );
    assert!(lines[0].fields["file"].contains("a.example.pem"));
    let later = now + Duration::from_secs(602);
    pair(&files, "b.example", &issue(&["b.example"], |_| {}));
    assert!(store.stage(later).is_ok(), "it has expired in use");
    let other = store_of(&files, &["c.example"]);
    pair(&files, "c.example", &closing);
    let error = other.stage(later).err().unwrap();
    assert!(
        error.to_string().contains("expired 2 seconds ago"),
        "{error}"
    );
    assert!(other.stage(later - Duration::from_secs(2)).is_ok());
}

/// A DER element.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len();
    let length = match length {
        0..=0x7f => vec![length as u8],
        0x80..=0xff => vec![0x81, length as u8],
        _ => vec![0x82, (length >> 8) as u8, length as u8],
    };
    [&[tag][..], &length, &content].concat()
}

/// An OCSP response for serial number 42.
fn response(status: u8, this_update: &str, next_update: Option<&str>) -> Vec<u8> {
    let algorithm = der(0x30, &[&der(6, &[&[0x2b, 14, 3, 2, 26]])]);
    let hash = der(4, &[&[7; 20]]);
    let certificate = der(0x30, &[&algorithm, &hash, &hash, &der(2, &[&[42]])]);
    let status = if status == 0x81 { 0xa1 } else { status };
    let status = der(status, &[]);
    let this_update = der(0x18, &[this_update.as_bytes()]);
    let next = next_update.map_or(Vec::new(), |t| der(0xa0, &[&der(0x18, &[t.as_bytes()])]));
    let single = der(0x30, &[&certificate, &status, &this_update, &next]);
    let responder = der(0xa2, &[&hash]);
    let produced = der(0x18, &[b"20240101000000Z"]);
    let data = der(0x30, &[&responder, &produced, &der(0x30, &[&single])]);
    let signature = der(3, &[&[0, 1]]);
    let basic = der(0x30, &[&data, &algorithm, &signature]);
    let kind = der(6, &[&[0x2b, 6, 1, 5, 5, 7, 48, 1, 1]]);
    let bytes = der(0xa0, &[&der(0x30, &[&kind, &der(4, &[&basic])])]);
    der(0x30, &[&der(0x0a, &[&[0]]), &bytes])
}

fn serial(number: u64) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.serial_number = Some(SerialNumber::from(number))
}

fn leaf(chain: &str) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()
}

#[test]
fn an_ocsp_response_is_usable_for_its_certificate_within_its_dates() {
    let certificate = leaf(&issue(&["a.example"], serial(42)).0);
    let other = leaf(&issue(&["a.example"], serial(43)).0);
    let good = response(0x80, "20240101000000Z", Some("20240108000000Z"));
    let (from, until) = (1_704_067_200, 1_704_672_000);
    assert_eq!(valid_until(&good, &certificate, from), Ok(until));
    assert_eq!(valid_until(&good, &certificate, until), Ok(until));
    let fault = |response: &[u8], now| valid_until(response, &certificate, now).unwrap_err();
    assert_eq!(fault(&good, until + 1), StapleFault::OutOfDate);
    assert_eq!(fault(&good, from - 1), StapleFault::NotYetValid);
    assert_eq!(
        valid_until(&good, &other, from),
        Err(StapleFault::OtherCertificate)
    );
    let endless = response(0x80, "20240101000000Z", None);
    assert_eq!(valid_until(&endless, &certificate, from), Ok(i64::MAX));
    for status in [0x81, 0x82] {
        let bad = response(status, "20240101000000Z", None);
        assert_eq!(fault(&bad, from), StapleFault::NotGood);
    }
    for end in 0..good.len() {
        assert_eq!(fault(&good[..end], from), StapleFault::Malformed);
        for change in [0, 1, 0x30, 0x80, 0x82, 0xa0, 0xff] {
            let mut damaged = good.clone();
            damaged[end] = change;
            let _ = valid_until(&damaged, &certificate, from);
        }
    }
}

#[tokio::test]
async fn a_response_is_stapled_until_it_is_stale_and_never_for_another_certificate() {
    let files = Files::new("staple");
    let [chain, key] = pair(&files, "a", &issue(&["a.example"], serial(42)));
    let good = response(0x80, "20240101000000Z", Some("99990101000000Z"));
    let path = files.0.join("a.ocsp");
    fs::write(&path, &good).unwrap();
    let store = CertStore::builder()
        .pem_files(&chain, &key)
        .ocsp(&path)
        .build()
        .unwrap();
    let sent = |store: &CertStore| {
        let snapshot = store.snapshot();
        let key = snapshot.find(Some("a.example")).unwrap();
        key.current().ocsp.clone()
    };
    assert_eq!(sent(&store), Some(good.clone()));
    assert!(store.certificates()[0].is_stapled);

    let log = Log::of_lines(Level::WARN);
    fs::write(
        &path,
        response(0x80, "20240101000000Z", Some("20240108000000Z")),
    )
    .unwrap();
    store.reload().await.unwrap();
    assert_eq!(sent(&store), None);
    store.stage(SystemTime::now()).map(drop).unwrap();
    fs::write(&path, &good).unwrap();
    pair(&files, "a", &issue(&["a.example"], serial(43)));
    store.reload().await.unwrap();
    assert_eq!(sent(&store), None);
    store.stage(SystemTime::now()).map(drop).unwrap();
    let lines = log.lines();
    assert!(
        lines[0].text.contains("it is out of date"),
        "{}",
        lines[0].text
    );
    assert!(lines[1].text.contains("it is for another certificate"));
    assert!(lines[1].fields["file"].contains("a.ocsp"));
}

#[test]
fn a_response_that_goes_out_of_date_in_use_is_reported_once() {
    let files = Files::new("stale");
    let [chain, key] = pair(&files, "a", &issue(&["a.example"], serial(42)));
    let path = files.0.join("a.ocsp");
    fs::write(
        &path,
        response(0x80, "20240101000000Z", Some("20991231000000Z")),
    )
    .unwrap();
    let builder = CertStore::builder().pem_files(&chain, &key).ocsp(&path);
    let store = builder.build().unwrap();
    let log = Log::of_lines(Level::WARN);
    let snapshot = store.snapshot();
    let key = snapshot.find(Some("a.example")).unwrap();
    const UNTIL: i64 = 4_102_358_400;
    assert!(key.current_at(UNTIL).ocsp.is_some());
    assert!(log.lines().is_empty());
    for _ in 0..3 {
        assert!(key.current_at(UNTIL + 1).ocsp.is_none());
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].text.contains("out of date"), "{}", lines[0].text);
    assert!(lines[0].fields["file"].contains("a.ocsp"));
}

#[tokio::test]
async fn a_file_that_is_no_ocsp_response_is_an_error() {
    let files = Files::new("no-staple");
    let [chain, key] = pair(&files, "a", &issue(&["a.example"], |_| {}));
    let builder = CertStore::builder().pem_files(&chain, &key).ocsp(&key);
    let error = builder.build().unwrap_err();
    assert!(
        error.to_string().contains("openssl ocsp -respout"),
        "{error}"
    );
    assert_eq!(error.problems()[0].path(), Some(&*key));
}

/// Waits until the store has a certificate for `name`.
async fn has(store: &CertStore, name: &str) {
    let seen = async {
        while found(store, Some(name)).is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(30), seen).await;
    seen.expect("the change is noticed");
}

#[cfg(all(unix, feature = "watch"))]
#[tokio::test]
async fn the_swap_of_a_link_as_in_kubernetes_is_noticed() {
    use std::os::unix::fs::symlink;
    let files = Files::new("kubernetes");
    let volume = |version: &str, name: &str| {
        let folder = files.0.join(version);
        fs::create_dir(&folder).unwrap();
        let (chain, key) = issue(&[name], |_| {});
        fs::write(folder.join("tls.crt"), chain).unwrap();
        fs::write(folder.join("tls.key"), key).unwrap();
        symlink(version, files.0.join("..data_tmp")).unwrap();
        fs::rename(files.0.join("..data_tmp"), files.0.join("..data")).unwrap();
    };
    volume("..2026_1", "old.example");
    let [chain, key] = ["tls.crt", "tls.key"].map(|name| {
        symlink(Path::new("..data").join(name), files.0.join(name)).unwrap();
        files.0.join(name)
    });
    let store = CertStore::builder()
        .pem_files(&chain, &key)
        .build()
        .unwrap();
    let watch = store.watch();
    for (version, name) in [("..2026_2", "new.example"), ("..2026_3", "newer.example")] {
        volume(version, name);
        has(&store, name).await;
    }
    drop(watch);
}

#[cfg(feature = "watch")]
#[tokio::test]
async fn a_folder_that_appears_after_the_start_of_the_watch_is_watched() {
    let (present, late) = (Files::new("present"), Files::new("late"));
    let [chain, key] = pair(&present, "a.example", &issue(&["a.example"], |_| {}));
    let [late_chain, late_key] = pair(&late, "b.example", &issue(&["b.example"], |_| {}));
    let store = CertStore::builder()
        .pem_files(&chain, &key)
        .pem_files(&late_chain, &late_key)
        .build()
        .unwrap();
    let hidden = late.0.with_extension("hidden");
    fs::rename(&late.0, &hidden).unwrap();
    let _watch = store.watch();
    fs::rename(&hidden, &late.0).unwrap();
    // The watch looks for the folder again at the next report.
    pair(&present, "a.example", &issue(&["new.example"], |_| {}));
    has(&store, "new.example").await;
    pair(&late, "b.example", &issue(&["late.example"], |_| {}));
    has(&store, "late.example").await;
}

#[cfg(feature = "watch")]
#[tokio::test]
async fn files_that_are_overwritten_are_noticed() {
    let files = Files::new("overwritten");
    let store = store_of(&files, &["a.example"]);
    let _watch = store.watch();
    pair(&files, "a.example", &issue(&["b.example"], |_| {}));
    has(&store, "b.example").await;
}

#[test]
fn a_reload_that_is_dropped_leaves_the_change_to_the_watch() {
    let files = Files::new("dropped");
    let store = store_of(&files, &["a.example"]);
    assert!(!store.has_changed(SystemTime::now()));
    pair(&files, "a.example", &issue(&["b.example"], |_| {}));
    // One thread, so that blocking tasks end in their order.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut reloading = tokio_test::task::spawn(store.reload());
        assert!(reloading.poll().is_pending());
        drop(reloading);
        // The files have been read when this has ended.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        assert!(store.has_changed(SystemTime::now()));
        assert!(found(&store, Some("a.example")).is_some());
        store.reload().await.unwrap();
        assert!(!store.has_changed(SystemTime::now()));
        assert!(found(&store, Some("b.example")).is_some());
    });
}

/// The time of issue of a certificate that is renewed in advance.
fn valid_from(seconds: u64) -> impl FnOnce(&mut CertificateParams) {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let from = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now + seconds);
    move |params| params.not_before = from
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_not_valid_yet_is_read_again_at_its_time() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let files = Files::new("early");
    let store = store_of(&files, &["a.example"]);
    pair(
        &files,
        "a.example",
        &issue(&["b.example"], valid_from(3_600)),
    );
    let error = reload_error(&store).await;
    assert!(error.problems()[0].is_not_yet_valid());
    assert!(error.to_string().contains("is valid only in"), "{error}");
    assert!(found(&store, Some("a.example")).is_some());
    let now = SystemTime::now();
    assert!(!store.has_changed(now) && !store.has_changed(now + HOUR / 2));
    assert!(store.has_changed(now + HOUR));
    // At its time it is usable.
    assert!(store.stage(now + HOUR).is_ok());
    // A usable certificate in its place ends the wait.
    pair(&files, "a.example", &issue(&["c.example"], |_| {}));
    store.reload().await.unwrap();
    assert!(!store.has_changed(now + 2 * HOUR));
}

#[tokio::test(start_paused = true)]
async fn the_watch_loads_a_certificate_that_becomes_valid_later() {
    let files = Files::new("soon");
    let store = store_of(&files, &["a.example"]);
    let log = Log::of_lines(Level::INFO);
    // The clock of the system does not follow that of the test, which runs ahead by hours.
    pair(&files, "a.example", &issue(&["b.example"], valid_from(3)));
    let _watch = store.watch();
    let begun = SystemTime::now();
    while found(&store, Some("b.example")).is_none() {
        assert!(begun.elapsed().unwrap() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let lines = log.lines();
    assert!(lines[0].fields["error"].contains("is valid only in"));
    assert!(lines.last().unwrap().text.contains("were reloaded"));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_becomes_valid_first_does_not_wait_for_the_others() {
    let files = Files::new("soon-and-later");
    let store = store_of(&files, &["a.example", "b.example"]);
    pair(&files, "a.example", &issue(&["c.example"], valid_from(3)));
    pair(
        &files,
        "b.example",
        &issue(&["d.example"], valid_from(3_600)),
    );
    let _watch = store.watch();
    let begun = SystemTime::now();
    while found(&store, Some("c.example")).is_none() {
        assert!(begun.elapsed().unwrap() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(found(&store, Some("b.example")).is_some());
}

#[cfg(feature = "watch")]
#[tokio::test]
async fn the_files_of_a_profile_that_is_built_later_are_watched() {
    use crate::tls::{TicketKeys, TlsProfile};
    let (files, others) = (Files::new("watched"), Files::new("watched-later"));
    let store = store_of(&files, &["a.example"]);
    let watch = store.watch();
    let keys = others.0.join("tickets");
    fs::write(&keys, [1; 48]).unwrap();
    let profile = TlsProfile::new(&store).with_tickets(TicketKeys::file(&keys));
    let layer = profile.build().unwrap();
    let log = Log::of_lines(Level::ERROR);
    // The watch has noticed the profile when it waits again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    fs::write(&keys, "no keys").unwrap();
    let seen = async {
        while log.lines().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // Before the files are compared without a report.
    let seen = tokio::time::timeout(Duration::from_secs(30), seen).await;
    seen.expect("the change is noticed");
    assert!(log.lines()[0].fields["error"].contains("tickets"));
    drop((watch, layer));
}

#[tokio::test(start_paused = true)]
async fn without_reports_the_files_are_compared_every_minute() {
    let files = Files::new("poll");
    let store = store_of(&files, &["a.example"]);
    // A change between the start of the store and that of the watch is noticed too.
    pair(&files, "a.example", &issue(&["b.example"], |_| {}));
    let _watch = store.watch();
    has(&store, "b.example").await;
    let log = Log::of_lines(Level::INFO);
    files.write("a.example.key", "");
    let failed = async {
        while !log.lines().iter().any(|line| line.level == Level::ERROR) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(70), failed)
        .await
        .unwrap();
    assert!(log.lines()[0].fields["error"].contains("a.example.key"));
    // The same failure is logged once.
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(log.lines().len(), 1);
    assert!(found(&store, Some("b.example")).is_some());
}

#[tokio::test(start_paused = true)]
async fn the_watch_renews_each_certificate_on_its_own_and_names_those_that_cannot_be_used() {
    const MINUTE: Duration = Duration::from_secs(60);
    let files = Files::new("each");
    let mut builder = CertStore::builder();
    for name in ["a.example", "b.example", "c.example"] {
        let [chain, key] = pair(&files, name, &issue(&[name], |_| {}));
        builder = builder.pem_files(chain, key).named(name);
    }
    let store = builder.build().unwrap();
    let trust = files.write("ca.pem", &issue(&["ca.example"], |_| {}).0);
    let profile =
        TlsProfile::new(&store).with_client_auth(ClientAuth::Required(Trust::pem_file(trust)));
    let _layer = profile.build().unwrap();
    let problems = || store.certificates().into_iter().map(|it| it.problem);
    let problems = || problems().collect::<Vec<_>>();
    let log = Log::of_lines(Level::ERROR);
    let _watch = store.watch();

    // The key of `a` does not match, `c` claims a name of `b`, and the roots are damaged.
    files.write("a.example.pem", &issue(&["broken.example"], |_| {}).0);
    pair(
        &files,
        "b.example",
        &issue(&["b.example", "new.example"], |_| {}),
    );
    pair(
        &files,
        "c.example",
        &issue(&["c.example", "b.example"], |_| {}),
    );
    files.write("ca.pem", "no roots");
    tokio::time::sleep(2 * MINUTE).await;
    assert!(found(&store, Some("new.example")).is_some());
    let [a, b, c] = &problems()[..] else {
        panic!("there are three");
    };
    assert!(
        a.as_ref()
            .unwrap()
            .contains("does not belong to the certificate")
    );
    assert!(b.is_none());
    assert!(c.as_ref().unwrap().contains("b.example"));
    for (name, is_served) in [
        ("a.example", true),
        ("c.example", true),
        ("broken.example", false),
    ] {
        assert_eq!(found(&store, Some(name)).is_some(), is_served, "{name}");
    }
    let lines = log.lines();
    let named = lines
        .iter()
        .filter_map(|line| line.fields.get("certificate"));
    assert!(named.eq(["a.example", "c.example"]));
    assert!(
        lines
            .iter()
            .any(|line| line.fields["error"].contains("ca.pem"))
    );

    // All or nothing, if it is requested.
    reload_error(&store).await;
    pair(&files, "a.example", &issue(&["mended.example"], |_| {}));
    tokio::time::sleep(2 * MINUTE).await;
    assert!(found(&store, Some("mended.example")).is_some());
    assert!(problems()[0].is_none() && problems()[2].is_some());
    pair(
        &files,
        "c.example",
        &issue(&["c.example", "last.example"], |_| {}),
    );
    tokio::time::sleep(2 * MINUTE).await;
    assert!(found(&store, Some("last.example")).is_some());
    assert!(problems().iter().all(Option::is_none));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_expires_soon_is_mentioned_daily() {
    let soon = SystemTime::UNIX_EPOCH.elapsed().unwrap() + Duration::from_secs(13 * 86_400);
    let (chain, key) = issue(&["a.example"], |params| {
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + soon;
    });
    let log = Log::of_lines(Level::WARN);
    let store = CertStore::builder().pem(chain.as_bytes(), key.as_bytes());
    let store = store.build().unwrap();
    assert_eq!(log.lines().len(), 1);
    let _watch = store.watch();
    for (hours, lines) in [(23, 1), (2, 2), (23, 2), (2, 3)] {
        tokio::time::sleep(Duration::from_secs(hours * 3_600)).await;
        assert_eq!(log.lines().len(), lines);
    }
}

#[test]
fn facts_of_the_certificates_in_use_are_listed() {
    let files = Files::new("facts");
    let store = store_of(&files, &["a.example"]);
    let listed = &store.certificates()[0];
    let facts: &CertificateFacts = &listed.facts;
    assert!(facts.dns_names().eq(["a.example"]));
    assert!(facts.issuer.is_some() && !facts.serial.is_empty());
    assert_eq!(
        listed.source.as_deref(),
        Some(&*files.0.join("a.example.pem"))
    );
}
