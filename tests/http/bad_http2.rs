//! Clients that break HTTP/2 or flood it: their connection ends, and others are served.

use crate::{
    bad_requests::{good, outcomes, serve},
    h2_frames::{self, END_STREAM, GOAWAY, HEADERS, RST_STREAM, read_frame},
    support::scenario,
};
use portcullis::middleware::outcome::Outcome;
use std::time::Duration;
use tokio::{io::AsyncWriteExt, time::timeout};

#[test]
fn bad_http2_is_told_to_go_away() {
    scenario(async {
        let server = serve();
        let hello = h2_frames::hello(65_535);
        let bad = [
            // A frame on a stream that cannot be, one larger than allowed, a head without end.
            [&hello[..], &h2_frames::request(2, "GET", "/", END_STREAM)].concat(),
            [&hello[..], &h2_frames::frame(0, 0, 1, &[0; 70_000])].concat(),
            [&hello[..], &h2_frames::frame(HEADERS, 4, 1, &[0xff; 100])].concat(),
            [&hello[..], &[0xff; 5000]].concat(),
            [h2_frames::PREFACE, &[b'x'; 100]].concat(),
        ];
        for bad in &bad {
            let mut client = server.connect().await;
            let _ = client.write_all(bad).await;
            let mut told = false;
            let frames = async {
                while let Some(frame) = read_frame(&mut client).await {
                    told |= matches!(frame.kind, GOAWAY | RST_STREAM);
                }
            };
            timeout(Duration::from_secs(10), frames)
                .await
                .expect("no end");
            assert!(told, "{:?}", &bad[..40]);
            good(&server).await;
        }
        let outcomes = outcomes(server).await;
        assert_eq!(outcomes[&Outcome::Failed], bad.len() as u64, "{outcomes:?}");
    });
}

/// Streams that are reset as soon as they are opened (CVE-2023-44487), and a head that never ends
/// (CVE-2024-27316).
#[test]
fn floods_of_http2_end_their_connection() {
    scenario(async {
        let server = serve();
        let hello = h2_frames::hello(65_535);
        let mut resets = hello.clone();
        for stream in (1..20_000).step_by(2) {
            resets.extend(h2_frames::request(
                stream,
                "GET",
                "/sleep/20000",
                END_STREAM,
            ));
            resets.extend(h2_frames::frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        }
        let mut continuations = [hello, h2_frames::frame(HEADERS, 0, 1, &[])].concat();
        let more = h2_frames::headers(&[("x", "0123456789abcdef")]).repeat(400);
        for _ in 0..2000 {
            continuations.extend(h2_frames::frame(9, 0, 1, &more));
        }
        for flood in [resets, continuations] {
            let mut client = server.connect().await;
            let (mut reading, mut writing) = client.split();
            let send = async { writing.write_all(&flood).await };
            let read = async { while read_frame(&mut reading).await.is_some() {} };
            let both = async { tokio::join!(send, read) };
            let both = timeout(Duration::from_secs(20), both);
            let (_sent_or_cut, ()) = both.await.expect("no end");
            good(&server).await;
        }
        drop(outcomes(server).await);
    });
}
