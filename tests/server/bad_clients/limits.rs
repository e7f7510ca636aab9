//! Clients for which there is no room.

use super::{ECHO, Gate, Scene, act, seconds};
use crate::support::{echoed, ends, eventually, idle, scenario};
use portcullis::{
    Connection,
    connection::Phase,
    io::BoxIo,
    middleware::{
        limit::{ConnectionLimitLayer, Refusal},
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
            let mut received = String::new();
            client.read_to_string(&mut received).await.unwrap();
            assert!(received.ends_with("bye"), "{received}");
        }
        scene.finish([(Outcome::HandedOff, 2)]).await;
    });
}

#[test]
fn clients_that_leave_the_queue_make_room_in_it() {
    scenario(async {
        let limit = ConnectionLimitLayer::new(1).wait_up_to(seconds(60), 100);
        let scene = Gate {
            limit,
            ..Gate::new()
        }
        .serve(act);
        let first = served(&scene).await;
        let mut waiting = Vec::new();
        for _ in 0..100 {
            waiting.push(scene.tcp().await);
        }
        eventually("the queue is full", || scene.limit.waiting() == 100).await;
        drop(waiting);
        eventually("the queue is empty", || scene.limit.waiting() == 0).await;

        let good = scene.good();
        let leave = async {
            eventually("a good client waits", || scene.limit.waiting() == 1).await;
            drop(first);
        };
        tokio::join!(good, leave);
        scene
            .finish([(Outcome::Disconnected, 100), (Outcome::Completed, 1)])
            .await;
    });
}

#[test]
fn a_handle_closes_a_connection_that_waits_in_the_queue() {
    scenario(async {
        let limit = ConnectionLimitLayer::new(1).wait_up_to(seconds(60), 1);
        let scene = Gate {
            limit,
            ..Gate::new()
        }
        .serve(act);
        let first = served(&scene).await;
        let mut second = scene.tcp().await;
        eventually("the second one waits", || scene.limit.waiting() == 1).await;
        let connections = scene.handle.connections();
        let waits = connections.iter().find(|c| c.phase() == Phase::Waiting);
        assert!(scene.handle.close(waits.unwrap().id()));
        assert_eq!(second.read(&mut [0; 1]).await.unwrap(), 0);
        eventually("it has left the queue", || scene.limit.waiting() == 0).await;
        drop(first);
        scene
            .finish([(Outcome::Forced, 1), (Outcome::Completed, 1)])
            .await;
    });
}
