//! The end of a server whose clients never stop asking: no request is lost.

use crate::{
    app::app,
    clients::{Tally, ask, http1_client, http2_answer, http2_client, http2_hello},
    h2_frames::{self, END_STREAM},
    millis,
    peer::get,
    support::{Fixture, eventually, scenario},
};
use portcullis::{
    ServiceBuilderExt,
    server::{Drain, Report},
    service::HttpService,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Barrier,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower::ServiceBuilder;

const RUNS: usize = 20;

const IDLE_GRACE_PERIOD: Duration = millis(500);

fn serve(drain: Drain) -> Fixture {
    serve_with(drain, IDLE_GRACE_PERIOD)
}

fn serve_with(drain: Drain, idle_grace_period: Duration) -> Fixture {
    let http = HttpService::new(app()).with_body_rate(None);
    let stack = ServiceBuilder::new()
        .peer_addr()
        .service(http.with_idle_grace_period(idle_grace_period));
    Fixture::serve_with(stack, |server| server.drain(drain))
}

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Http1,
    Http2,
}

/// One run; what was lost.
async fn stop_under_load(protocol: Protocol, announce: Duration) -> usize {
    let drain = Drain::new()
        .with_notice_period(announce)
        .with_deadline(Duration::from_secs(20));
    let server = serve(drain);
    let tally = Tally::default();
    let mut clients = JoinSet::new();
    for number in 0..12 {
        match protocol {
            Protocol::Http1 => clients.spawn(http1_client(server.address, number, tally.clone())),
            Protocol::Http2 if number < 6 => {
                clients.spawn(http2_client(server.address, number, tally.clone()))
            }
            Protocol::Http2 => break,
        };
    }
    eventually("clients are served", || tally.count() > 40).await;
    let stopped = Instant::now();
    let report = server.finish().await;
    let clients = async { while clients.join_next().await.is_some() {} };
    timeout(Duration::from_secs(20), clients)
        .await
        .expect("clients wait for ever");
    assert!(report.force_closed().is_empty(), "{report:?}");
    let end = stopped + announce;
    // On a connection that was in use also what comes up to the last call.
    let lost = tally.lost(end, end + millis(400));
    for (sent, used, error) in &lost {
        let sent = sent.saturating_duration_since(stopped);
        eprintln!("lost: sent {sent:?} after stop, used: {used}: {error}");
    }
    let counts = tally.0.lock().unwrap();
    let during = counts
        .answered
        .iter()
        .filter(|sent| **sent >= stopped)
        .count();
    eprintln!(
        "{protocol:?}, announced for {announce:?}: {} answered, {during} of them sent after stop, {} \
         lost, {} failed later, {} connections, took {:?}",
        counts.answered.len(),
        lost.len(),
        counts.failed.len() - lost.len(),
        counts.reconnects,
        report.took(),
    );
    lost.len()
}

fn twenty_times<F: Future<Output = usize>>(mut run: impl FnMut(usize) -> F) {
    scenario(async {
        let mut lost = Vec::new();
        for number in 0..RUNS {
            lost.push(run(number).await);
        }
        eprintln!("lost in each run: {lost:?}");
        assert_eq!(lost, vec![0; RUNS]);
    });
}

/// Every other run without an announce window: then what was sent on time is kept by the queue and the last
/// call.
fn announce(run: usize) -> Duration {
    if run % 4 == 3 {
        Duration::ZERO
    } else {
        millis(150)
    }
}

#[test]
fn no_http1_request_is_lost_when_a_server_stops_under_load() {
    twenty_times(|run| stop_under_load(Protocol::Http1, announce(run)));
}

#[test]
fn no_http2_request_is_lost_when_a_server_stops_under_load() {
    twenty_times(|run| stop_under_load(Protocol::Http2, announce(run)));
}

/// Fifty clients, each with an idle connection, that ask in the moment of the stop.
async fn race(protocol: Protocol, announce: Duration) -> usize {
    let server = serve(Drain::new().with_notice_period(announce));
    let start = Arc::new(Barrier::new(51));
    let mut clients = JoinSet::new();
    for number in 0..50 {
        let (address, start) = (server.address, start.clone());
        clients.spawn(async move {
            let spread = Duration::from_micros(20 * number);
            match protocol {
                Protocol::Http1 => {
                    let mut io = BufReader::new(TcpStream::connect(address).await.unwrap());
                    assert!(ask(&mut io, "/", 5).await.unwrap());
                    start.wait().await;
                    sleep(spread).await;
                    ask(&mut io, "/", 5).await.is_ok()
                }
                Protocol::Http2 => {
                    let mut io = TcpStream::connect(address).await.unwrap();
                    let request = |stream| h2_frames::request(stream, "GET", "/", END_STREAM);
                    io.write_all(&http2_hello()).await.unwrap();
                    io.write_all(&request(1)).await.unwrap();
                    assert!(http2_answer(&mut io, 1).await);
                    start.wait().await;
                    sleep(spread).await;
                    io.write_all(&request(3)).await.is_ok() && http2_answer(&mut io, 3).await
                }
            }
        });
    }
    start.wait().await;
    let report = server.finish().await;
    assert!(report.force_closed().is_empty(), "{report:?}");
    let answered = clients.join_all().await;
    answered.iter().filter(|answered| !**answered).count()
}

#[test]
fn fifty_http1_requests_that_race_with_the_stop_are_answered() {
    twenty_times(|run| race(Protocol::Http1, announce(run)));
}

#[test]
fn fifty_http2_requests_that_race_with_the_stop_are_answered() {
    twenty_times(|run| race(Protocol::Http2, announce(run)));
}

#[test]
fn clients_in_the_accept_queue_are_served() {
    for (announce, idle_grace_period) in [
        (Duration::ZERO, IDLE_GRACE_PERIOD),
        (millis(100), IDLE_GRACE_PERIOD),
        // What they sent is in the kernel, and takes a turn of the runtime to be seen.
        (Duration::ZERO, Duration::ZERO),
    ] {
        scenario(async move {
            let server = serve_with(Drain::new().with_notice_period(announce), idle_grace_period);
            assert!(server.handle.pause());
            let mut clients = JoinSet::new();
            for number in 0..40_u32 {
                let address = server.address;
                let mut io = BufReader::new(TcpStream::connect(address).await.unwrap());
                if number.is_multiple_of(2) {
                    clients.spawn(async move {
                        let again = ask(&mut io, "/sleep/20", 5).await.unwrap();
                        assert!(!again, "told of the end");
                    });
                } else {
                    clients.spawn(async move {
                        let mut io = io.into_inner();
                        let request = h2_frames::request(1, "GET", "/sleep/20", END_STREAM);
                        io.write_all(&[http2_hello(), request].concat())
                            .await
                            .unwrap();
                        assert!(http2_answer(&mut io, 1).await);
                    });
                }
            }
            sleep(millis(20)).await;
            assert_eq!(server.status().accepted, 0);
            server.handle.stop();
            while let Some(served) = clients.join_next().await {
                served.unwrap();
            }
            let report = server.finish().await;
            assert_eq!((report.ended(), report.force_closed().len()), (40, 0));
        });
    }
}

#[test]
fn the_deadline_holds_for_clients_that_never_finish_and_the_report_names_them() {
    scenario(async {
        let deadline = millis(2000);
        let server = serve(Drain::new().with_deadline(deadline));
        let mut upload = server.connect().await;
        let head = b"POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nx";
        upload.write_all(head).await.unwrap();
        let mut unread = server.connect().await;
        unread
            .write_all(get("/big/100000000").as_bytes())
            .await
            .unwrap();
        let mut websocket = server.connect().await;
        let head = b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        websocket.write_all(head).await.unwrap();
        let mut stream = server.connect().await;
        stream.write_all(&h2_frames::hello(65_535)).await.unwrap();
        let request = h2_frames::request(1, "POST", "/duplex", 0);
        stream.write_all(&request).await.unwrap();
        let stuck = [&upload, &unread, &websocket, &stream];
        let mut stuck: Vec<_> = stuck.map(|io| io.local_addr().unwrap()).into();
        let mut good = BufReader::new(server.connect().await);
        assert!(ask(&mut good, "/", 5).await.unwrap());
        server.active(5).await;
        sleep(millis(50)).await;
        server.handle.stop();
        assert!(!ask(&mut good, "/sleep/300", 5).await.unwrap());
        drop(good);
        let report: Report = timeout(Duration::from_secs(10), server.finish())
            .await
            .unwrap();
        assert!(
            report.took() >= deadline && report.took() < deadline + millis(3000),
            "{report:?}"
        );
        let cut = report
            .force_closed()
            .iter()
            .map(|info| info.peer_addr().unwrap());
        let mut cut: Vec<_> = cut.collect();
        stuck.sort();
        cut.sort();
        assert_eq!((cut, report.still_running()), (stuck, 0));
    });
}
