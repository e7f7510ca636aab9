//! Clients for which there is no room.

use super::{ECHO, Gate, Scene, act};
use crate::support::{echoed, ends, eventually, idle, scenario};
use portcullis::{
    Connection,
    connection::BoxIo,
    middleware::{
        connection_limit::{ConnectionLimitLayer, Refusal},
        outcome::Outcome,
    },
};
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

async fn served(scene: &Scene) -> TcpStream {
    let mut client = scene.tcp().await;
    client.write_all(&[ECHO]).await.unwrap();
    assert!(echoed(&mut client, b"served").await.unwrap());
    client
}

#[test]
fn refused_clients_get_their_answer_although_nobody_read_what_they_sent() {
    scenario(async {
        let busy = Refusal::answer("busy, try again later\n");
        let limit = ConnectionLimitLayer::new(1).refuse().with_refusal(busy);
        let scene = Gate {
            limit,
            ..Gate::new()
        }
        .serve(act);
        let mut first = served(&scene).await;
        for round in 0..20 {
            let mut refused = scene.tcp().await;
            refused.write_all(&[ECHO; 1000]).await.unwrap();
            let mut answer = String::new();
            refused.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, "busy, try again later\n", "round {round}");
            assert_eq!(scene.limit.active(), 1);
        }
        assert!(echoed(&mut first, b"unharmed").await.unwrap());
        drop(first);
        eventually("there is room", || scene.limit.active() == 0).await;
        scene.good().await;
        idle(&scene.handle).await;
        let refused = (scene.handle.status().refused, scene.limit.refused());
        assert_eq!(refused, (20, 20));
        scene
            .finish([(Outcome::Refused, 20), (Outcome::Completed, 1)])
            .await;
    });
}

#[test]
fn a_connection_that_was_handed_off_keeps_its_permit_until_it_closes() {
    scenario(async {
        let close = Arc::new(Notify::new());
        let told_to_close = close.clone();
        let handler = move |mut connection: Connection<BoxIo>| {
            let close = told_to_close.clone();
            async move {
                connection.write_all(b"hello").await?;
                tokio::spawn(async move {
                    close.notified().await;
                    connection.write_all(b"bye").await.unwrap();
                });
                io::Result::Ok(())
            }
        };
        let limit = ConnectionLimitLayer::new(1);
        let scene = Gate {
            limit,
            ..Gate::new()
        }
        .serve(handler);
        let mut upgraded = scene.tcp().await;
        upgraded.read_exact(&mut [0; 5]).await.unwrap();
        eventually("its task has ended", || ends(&scene.handle.status()) == 1).await;
        let mut next = scene.tcp().await;
        eventually("the next one waits", || scene.handle.status().waiting == 1).await;
        assert_eq!((scene.limit.active(), scene.limit.waiting()), (1, 1));
        assert_eq!(scene.handle.status().active, 1);

        // The end of the one lets the other in.
        for client in [&mut upgraded, &mut next] {
            close.notify_one();
            let mut said = String::new();
            client.read_to_string(&mut said).await.unwrap();
            assert!(said.ends_with("bye"), "{said}");
        }
        scene.finish([(Outcome::HandedOff, 2)]).await;
    });
}
