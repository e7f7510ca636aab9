//! What clients do to their sockets.

use super::{ANSWER, ANSWER_AT_THE_END, ANSWER_LENGTH, ECHO, Gate, act, seconds};
use crate::support::{echoed, eventually, paused_scenario, scenario};
use portcullis::{Connection, connection::Linger, io::BoxIo, middleware::outcome::Outcome};
use socket2::SockRef;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

/// Ends the connection with a reset.
fn reset(client: TcpStream) {
    SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

// Elsewhere accept itself may fail for such a client.
#[cfg(target_os = "linux")]
#[test]
fn clients_that_reset_before_they_are_accepted_disturb_nobody() {
    scenario(async {
        let scene = Gate::new().serve(act);
        scene.good().await;
        assert!(scene.handle.pause());
        for _ in 0..5 {
            let mut client = scene.tcp().await;
            client.write_all(&[ECHO]).await.unwrap();
            reset(client);
            reset(scene.tcp().await);
        }
        let behind_them = scene.connect().await;
        assert!(scene.handle.resume());
        scene.good_over(behind_them).await;
        scene.good().await;
        assert_eq!(scene.handle.status().accepted, 13);
        scene.finish([(Outcome::Disconnected, 10)]).await;
    });
}

#[test]
fn a_client_that_resets_while_it_is_served_is_disconnected() {
    scenario(async {
        let scene = Gate::new().serve(act);
        let mut client = scene.tcp().await;
        client.write_all(&[ECHO]).await.unwrap();
        assert!(echoed(&mut client, b"x").await.unwrap());
        scene.good().await;
        reset(client);
        scene.finish([(Outcome::Disconnected, 1)]).await;
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_answer_is_disconnected() {
    scenario(async {
        let scene = Gate::new().serve(act);
        let mut client = scene.tcp().await;
        client.write_all(&[ANSWER]).await.unwrap();
        client.read_exact(&mut [0; 1000]).await.unwrap();
        drop(client);
        scene.good().await;
        scene.finish([(Outcome::Disconnected, 1)]).await;
    });
}

#[test]
fn a_client_that_connects_and_leaves_is_disconnected() {
    scenario(async {
        let scene = Gate::new().serve(act);
        for _ in 0..10 {
            drop(scene.tcp().await);
        }
        scene.good().await;
        scene.finish([(Outcome::Disconnected, 10)]).await;
    });
}

#[test]
fn a_client_that_half_closes_gets_all_of_its_answer() {
    scenario(async {
        let scene = Gate::new().serve(act);
        let mut client = scene.tcp().await;
        client.write_all(&[ANSWER_AT_THE_END, b'x']).await.unwrap();
        client.shutdown().await.unwrap();
        scene.good().await;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.len(), ANSWER_LENGTH);
        drop(client);
        scene.finish([(Outcome::Completed, 1)]).await;
    });
}

/// Answers without having read what the client sent, more than the client's kernel takes: a drop
/// would reset the connection and lose what is still to be sent.
async fn answer_unread(mut connection: Connection<BoxIo>) -> io::Result<()> {
    if connection.read_u8().await? == ECHO {
        return super::echo(connection).await;
    }
    connection.write_all(&[b'!'; ANSWER_LENGTH]).await?;
    // Longer than by default, for a client that is slow to get to run.
    connection
        .close_within(Linger::new().with_timeout(seconds(30)))
        .await
}

#[test]
fn a_client_that_sent_more_than_was_read_gets_its_answer_each_time() {
    scenario(async {
        let scene = Gate::new().serve(answer_unread);
        for round in 0..20 {
            let mut client = scene.tcp().await;
            client.write_all(&[0; 100_000]).await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer.len(), ANSWER_LENGTH, "round {round}");
            client.shutdown().await.unwrap();
        }
        scene.good().await;
        scene.finish([(Outcome::Completed, 20)]).await;
    });
}

#[test]
fn a_paused_server_takes_no_client_that_came_after_the_pause() {
    paused_scenario(async {
        let scene = Gate::new().serve_in_memory(act);
        scene.good().await;
        assert!(scene.handle.pause());
        // The acceptor had no chance yet to hear of the pause.
        let late = scene.connect().await;
        sleep(seconds(1)).await;
        assert_eq!(scene.handle.status().accepted, 1);
        assert!(scene.handle.resume());
        scene.good_over(late).await;
        eventually("accepted", || scene.handle.status().accepted == 2).await;
        scene.finish([]).await;
    });
}
