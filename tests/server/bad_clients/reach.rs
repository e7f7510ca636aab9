//! Connections that are closed from outside, wherever they live.

use super::{ECHO, Gate, Scene, act, echo};
use crate::support::{echoed, ends, eventually, idle, scenario};
use portcullis::{
    Connection,
    connection::ForcedClose,
    io::BoxIo,
    middleware::{error::find, outcome::Outcome},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Counts the halves of connections that ended by being closed from outside.
#[derive(Clone, Default)]
pub(super) struct Ended(Arc<AtomicUsize>);

impl Ended {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Gives the halves to tasks of their own: one reads all the time, one writes.
    pub(super) fn hand_off(&self, connection: Connection<BoxIo>) {
        let (mut reader, mut writer) = tokio::io::split(connection);
        let ended = self.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            let error = loop {
                match reader.read(&mut buffer).await {
                    Ok(read) => assert_ne!(read, 0, "the client goes on"),
                    Err(error) => break error,
                }
            };
            assert!(find::<ForcedClose>(&error).is_some(), "{error}");
            ended.0.fetch_add(1, Ordering::SeqCst);
        });
        let ended = self.clone();
        tokio::spawn(async move {
            let error = loop {
                if let Err(error) = writer.write_all(&[0; 4096]).await {
                    break error;
                }
            };
            assert!(find::<ForcedClose>(&error).is_some(), "{error}");
            ended.0.fetch_add(1, Ordering::SeqCst);
        });
    }
}

/// Closes the only connection of `scene`, which was handed off, while it is busy both ways.
pub(super) async fn close_busy(
    scene: &Scene,
    ended: &Ended,
    client: impl AsyncRead + AsyncWrite + Send + 'static,
) {
    let (mut reader, mut writer) = tokio::io::split(client);
    let flood = tokio::spawn(async move { while writer.write_all(&[0; 4096]).await.is_ok() {} });
    let sink = tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while reader.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    });
    eventually("its task has ended", || ends(&scene.handle.status()) == 1).await;
    eventually("traffic flows both ways", || {
        let connections = scene.handle.connections();
        connections.len() == 1
            && connections[0].bytes_read() > 1_000_000
            && connections[0].bytes_written() > 1_000_000
    })
    .await;
    assert_eq!((scene.handle.status().active, scene.limit.active()), (1, 1));
    assert_eq!(ended.count(), 0);
    let id = scene.handle.connections()[0].id();
    assert!(scene.handle.close(id));
    idle(&scene.handle).await;
    assert_eq!(scene.limit.active(), 0);
    eventually("both halves have ended", || ended.count() == 2).await;
    assert!(!scene.handle.close(id), "it is gone");
    flood.await.unwrap();
    sink.await.unwrap();
}

#[test]
fn close_reaches_a_busy_connection_through_boxes_in_split_halves_elsewhere() {
    scenario(async {
        let ended = Ended::default();
        let note = ended.clone();
        let handler = move |mut connection: Connection<BoxIo>| {
            let ended = note.clone();
            async move {
                if connection.read_u8().await? == ECHO {
                    return echo(connection).await;
                }
                ended.hand_off(connection);
                Ok(())
            }
        };
        let scene = Gate::new().serve(handler);
        let mut client = scene.connect().await;
        client.write_all(&[0]).await.unwrap();
        close_busy(&scene, &ended, client).await;
        scene.good().await;
        scene.finish([(Outcome::HandedOff, 1)]).await;
    });
}

#[test]
fn close_reaches_only_the_connection_that_is_meant() {
    scenario(async {
        let scene = Gate::new().serve(act);
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = scene.tcp().await;
            client.write_all(&[ECHO]).await.unwrap();
            assert!(echoed(&mut client, b"x").await.unwrap());
            clients.push(client);
        }
        let meant = clients[1].local_addr().ok();
        let connections = scene.handle.connections();
        let meant = connections.iter().find(|c| c.peer_addr() == meant);
        assert!(scene.handle.close(meant.unwrap().id()));
        assert_eq!(clients[1].read(&mut [0; 1]).await.unwrap(), 0);
        for other in [0, 2] {
            assert!(echoed(&mut clients[other], b"unharmed").await.unwrap());
        }
        drop(clients);
        scene
            .finish([(Outcome::Forced, 1), (Outcome::Completed, 2)])
            .await;
    });
}
