//! Handlers that misbehave.

use super::{ECHO, Gate, PANIC, SLEEP, SPIN, Scene, act};
use crate::support::{echoed, eventually, scenario};
use portcullis::{io::BoxIo, middleware::outcome::Outcome, server::Drain};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

/// A client that told its handler what to do.
async fn told(scene: &Scene, command: u8) -> BoxIo {
    let mut client = scene.connect().await;
    client.write_all(&[command]).await.unwrap();
    client
}

#[test]
fn a_handler_that_panics_ends_its_own_connection_only() {
    scenario(async {
        let scene = Gate::new().serve(act);
        scene.good().await;
        let mut bystander = told(&scene, ECHO).await;
        for _ in 0..5 {
            let mut victim = told(&scene, PANIC).await;
            assert_eq!(victim.read(&mut [0; 1]).await.unwrap(), 0);
            assert!(echoed(&mut bystander, b"unharmed").await.unwrap());
        }
        drop(bystander);
        scene.good().await;
        scene
            .finish([(Outcome::Panicked, 5), (Outcome::Completed, 1)])
            .await;
    });
}

const DEADLINE: Duration = Duration::from_millis(100);

fn gate() -> Gate {
    let drain = Drain::new().with_deadline(DEADLINE);
    Gate {
        drain,
        ..Gate::new()
    }
}

#[test]
fn a_client_that_floods_a_handler_that_never_reads_is_cut_at_the_deadline() {
    scenario(async {
        let scene = gate().serve(act);
        scene.good().await;
        let mut flood = told(&scene, SLEEP).await;
        let flood = tokio::spawn(async move {
            let mut sent = 0;
            while let Ok(written) = flood.write(&[0; 64 * 1024]).await {
                sent += written;
            }
            sent
        });
        eventually("it is read from once", || {
            let connections = scene.handle.connections();
            connections.len() == 1 && connections[0].bytes_read() > 0
        })
        .await;
        scene.good().await;
        let begun = Instant::now();
        let report = scene.cut([(Outcome::Forced, 1)]).await;
        assert!(begun.elapsed() >= DEADLINE);
        assert_eq!(
            (report.force_closed().len(), report.still_running()),
            (1, 0)
        );
        // What the kernel buffers at both ends, and no more: nobody read it.
        let sent = flood.await.unwrap();
        assert!(sent < 64 * 1024 * 1024, "{sent}");
        assert!(report.force_closed()[0].bytes_read() <= 1);
    });
}

#[test]
fn handlers_that_never_return_are_cut_at_the_deadline() {
    scenario(async {
        for command in [SLEEP, SPIN] {
            let scene = gate().serve(act);
            scene.good().await;
            let mut victim = told(&scene, command).await;
            eventually("the command is read", || {
                let connections = scene.handle.connections();
                connections.len() == 1 && connections[0].bytes_read() == 1
            })
            .await;
            scene.good().await;
            let begun = Instant::now();
            let report = scene.cut([(Outcome::Forced, 1)]).await;
            assert!(begun.elapsed() >= DEADLINE);
            assert_eq!(
                (report.force_closed().len(), report.still_running()),
                (1, 0)
            );
            assert_eq!(victim.read(&mut [0; 1]).await.unwrap(), 0);
        }
    });
}
