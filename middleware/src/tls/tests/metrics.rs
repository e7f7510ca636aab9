//! What is exported about handshakes and certificates.

use super::{
    store::{issue, pair},
    *,
};
use crate::{observe::metrics::tests::Recorded, tls::CertStore};
use ::metrics::with_local_recorder;
use rcgen::CertificateParams;
use std::time::Duration;

fn results(recorded: &Recorded) -> [f64; 5] {
    ["completed", "failed", "timed_out", "refused", "cancelled"].map(|result| {
        let name = format!("handshakes_total{{result={result}}}");
        recorded.number(&name).expect("it is registered")
    })
}

#[tokio::test(start_paused = true)]
async fn handshakes_are_counted_by_result_and_timed_by_kind() {
    let recorded = Recorded::default();
    let layer = with_local_recorder(&recorded, tls_layer);
    let config = Arc::new(client());
    for _ in 0..3 {
        let (ours, theirs) = in_memory();
        let talking = async { talk(connect(config.clone(), theirs).await?, b"hello").await };
        let (served, answer) = tokio::join!(serve(layer.clone(), ours, echo), talking);
        served.unwrap();
        assert_eq!(answer.unwrap(), b"hello");
    }
    let durations = |kind| recorded.samples(&format!("handshake_duration_seconds{{kind={kind}}}"));
    assert_eq!(
        (durations("full").len(), durations("resumed").len()),
        (1, 2)
    );

    let (ours, mut theirs) = in_memory();
    theirs.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    drop(theirs);
    assert!(serve(layer.clone(), ours, echo).await.is_err());
    let (ours, _silent) = in_memory();
    let impatient = layer.clone().with_handshake_timeout(Duration::from_secs(1));
    assert!(serve(impatient, ours, echo).await.is_err());
    let (ours, _silent) = in_memory();
    let dropped = tokio::time::timeout(Duration::from_secs(1), serve(layer.clone(), ours, echo));
    assert!(dropped.await.is_err());
    assert_eq!(results(&recorded), [3.0, 1.0, 1.0, 0.0, 1.0]);

    let one = layer.with_max_handshakes(1);
    let (ours, _silent) = in_memory();
    let displaced = tokio::spawn(serve(one.clone(), ours, echo));
    tokio::task::yield_now().await;
    let (ours, _silent) = in_memory();
    let waiting = tokio::spawn(serve(one, ours, echo));
    assert!(displaced.await.unwrap().is_err());
    assert_eq!(results(&recorded), [3.0, 1.0, 1.0, 1.0, 1.0]);
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn tls_within_tls_is_timed_by_its_own_handshake() {
    let recorded = Recorded::default();
    let outer = tls_layer();
    let inner = with_local_recorder(&recorded, || with_session(tls_layer()));
    let config = Arc::new(client());
    for _ in 0..2 {
        let (ours, theirs) = in_memory();
        let handler = |connection| {
            let inner = inner.clone();
            async move {
                let connection = inner.accept(connection).await.map_err(io::Error::other)?;
                echo(connection).await
            }
        };
        let talking = async {
            let stream = connect(config.clone(), theirs).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            // A client of its own, so that the inner session is never resumed.
            talk(connect(client(), stream).await?, b"hello").await
        };
        let (served, answer) = tokio::join!(serve(outer.clone(), ours, handler), talking);
        served.unwrap();
        assert_eq!(answer.unwrap(), b"hello");
    }
    let durations = |kind| recorded.samples(&format!("handshake_duration_seconds{{kind={kind}}}"));
    assert!(durations("full").iter().all(|seconds| *seconds >= 1.0));
    assert_eq!(
        (durations("full").len(), durations("resumed").len()),
        (2, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn the_ends_of_certificates_and_the_results_of_reloads_are_shown() {
    let until = |year| {
        move |params: &mut CertificateParams| {
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
        }
    };
    let files = Files::new("metrics");
    let [chain, key] = pair(
        &files,
        "one",
        &issue(&["first.metrics.example"], until(2100)),
    );
    let recorded = Recorded::default();
    let store = with_local_recorder(&recorded, || {
        CertStore::builder().pem_files(chain, key).build().unwrap()
    });
    let end = |name: &str| {
        let name = format!("certificate_not_after_seconds{{name={name}}}");
        recorded.number(&name)
    };
    let reloads = |result: &str| {
        recorded.number(&format!("reloads_total{{of=certificates,result={result}}}"))
    };
    assert_eq!(end("first.metrics.example"), Some(4_102_444_800.0));
    assert_eq!(
        (reloads("completed"), reloads("failed")),
        (Some(0.0), Some(0.0))
    );

    pair(
        &files,
        "one",
        &issue(&["second.metrics.example"], until(2101)),
    );
    let staged = store.stage(std::time::SystemTime::now()).unwrap();
    with_local_recorder(&recorded, || store.install(staged)).unwrap();
    assert_eq!(
        (end("first.metrics.example"), end("second.metrics.example")),
        (Some(0.0), Some(4_133_980_800.0))
    );
    assert_eq!(
        (reloads("completed"), reloads("failed")),
        (Some(1.0), Some(0.0))
    );

    files.write("one.pem", "none");
    assert!(store.reload().await.is_err());
    assert_eq!(
        (reloads("completed"), reloads("failed")),
        (Some(1.0), Some(1.0))
    );
    assert_eq!(end("second.metrics.example"), Some(4_133_980_800.0));
}

#[test]
fn the_first_end_of_the_certificates_of_a_name_is_shown_as_long_as_a_store_has_it() {
    let until = |year| {
        move |params: &mut CertificateParams| {
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
        }
    };
    let files = Files::new("metrics-of-two");
    let recorded = Recorded::default();
    let store = |year| {
        let [chain, key] = pair(
            &files,
            "one",
            &issue(&["both.metrics.example"], until(year)),
        );
        with_local_recorder(&recorded, || {
            CertStore::builder().pem_files(chain, key).build().unwrap()
        })
    };
    let end = || recorded.number("certificate_not_after_seconds{name=both.metrics.example}");
    let [in_2100, in_2101, in_2102] = [4_102_444_800.0, 4_133_980_800.0, 4_165_516_800.0];
    let (second, first, third) = (store(2101), store(2100), store(2102));
    assert_eq!(end(), Some(in_2100));
    drop(third);
    assert_eq!(end(), Some(in_2100));
    drop(first);
    assert_eq!(end(), Some(in_2101));
    let third = store(2102);
    assert_eq!(end(), Some(in_2101));
    drop(second);
    assert_eq!(end(), Some(in_2102));
    drop(third);
    assert_eq!(end(), Some(0.0));
}
