//! Clients that misuse TLS.

use super::{ANSWER_AT_THE_END, ANSWER_LENGTH, ECHO, Gate, act, echo, seconds};
use crate::support::{echoed, ends, eventually, idle, paused_scenario, scenario, tls};
use portcullis::{
    Connection, ServiceBuilderExt,
    connection::{Phase, Transport},
    io::BoxIo,
    middleware::{
        error::TimeoutPhase, limit::ConnectionLimitLayer, outcome::Outcome, tls::TlsLayer,
    },
    server::Stack,
};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep},
};
use tower::ServiceBuilder;

/// The stack of a gate, with TLS in it.
fn stack<Io, H, Fut>(gate: &Gate, tls: TlsLayer, handler: H) -> impl Stack<Io> + use<Io, H, Fut>
where
    Io: Transport,
    H: Fn(Connection<BoxIo>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = io::Result<()>> + Send + 'static,
{
    ServiceBuilder::new()
        .peer_addr()
        .layer(gate.trace())
        .layer(gate.limit.clone())
        .catch_panics()
        .layer(tls)
        .layer(gate.timeout)
        .box_io()
        .service_fn(handler)
}

/// A gate, its stack with TLS, and the layer, to ask for its handshakes.
macro_rules! scene {
    ($listen:ident, $handler:expr) => {{
        let (gate, tls) = (Gate::new(), tls::layer());
        let stack = stack(&gate, tls.clone(), $handler);
        (gate.$listen(stack), tls)
    }};
}

impl super::Scene {
    /// A client that finished its handshake.
    async fn tls(&self) -> tokio_rustls::client::TlsStream<BoxIo> {
        tls::connect(self.connect().await).await.unwrap()
    }
}

/// Reads one record and returns its type.
async fn record(client: &mut (impl AsyncRead + Unpin)) -> u8 {
    let mut header = [0; 5];
    client.read_exact(&mut header).await.unwrap();
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    client.read_exact(&mut body).await.unwrap();
    header[0]
}

/// Type of the records that carry alerts (RFC 8446, section 5.1).
const ALERT: u8 = 21;

#[test]
fn a_client_that_speaks_no_tls_gets_an_alert_each_time() {
    scenario(async {
        let (scene, _) = scene!(listen, act);
        scene.good_over(scene.tls().await).await;
        for _ in 0..20 {
            let mut client = scene.tcp().await;
            // More than is read before TLS gives up: the alert must arrive nevertheless.
            client
                .write_all(&b"GET / HTTP/1.1\r\n".repeat(1000))
                .await
                .unwrap();
            assert_eq!(record(&mut client).await, ALERT);
            assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "a clean end");
        }
        scene.good_over(scene.tls().await).await;
        scene.finish([(Outcome::HandshakeFailed, 20)]).await;
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_of_the_handshake_fails_alone() {
    scenario(async {
        let (scene, tls) = scene!(listen, act);
        let hello = tls::client_hello();
        for length in [0, 1, hello.len() / 2, hello.len() - 1] {
            let mut client = scene.tcp().await;
            client.write_all(&hello[..length]).await.unwrap();
            scene.good_over(scene.tls().await).await;
            drop(client);
        }
        // One that leaves after the server's answer.
        let mut client = scene.tcp().await;
        client.write_all(&hello).await.unwrap();
        record(&mut client).await;
        drop(client);
        scene.good_over(scene.tls().await).await;
        eventually("no handshake is left", || tls.handshakes_in_flight() == 0).await;
        idle(&scene.handle).await;
        scene.finish([(Outcome::HandshakeFailed, 5)]).await;
    });
}

#[test]
fn the_accept_loop_waits_for_no_handshake() {
    scenario(async {
        let (scene, tls) = scene!(listen, act);
        let mut silent = Vec::new();
        for _ in 0..10 {
            silent.push(scene.tcp().await);
        }
        eventually("all shake hands", || tls.handshakes_in_flight() == 10).await;
        scene.good_over(scene.tls().await).await;
        assert_eq!(tls.handshakes_in_flight(), 10);
        // The table still has the good connection for a moment.
        eventually("only handshakes are left", || {
            let left = scene.handle.connections();
            left.len() == 10 && left.iter().all(|c| c.phase() == Phase::Handshake)
        })
        .await;
        drop(silent);
        scene.finish([(Outcome::HandshakeFailed, 10)]).await;
    });
}

/// The default.
const BOUND: Duration = seconds(10);
const GRAIN: Duration = Duration::from_millis(1);

#[test]
fn handshakes_that_stall_are_cut_at_their_bound_and_delay_nobody() {
    paused_scenario(async {
        let (scene, tls) = scene!(listen_in_memory, act);
        let begun = Instant::now();
        let mut stalled = Vec::new();
        let hello = tls::client_hello();
        for length in 0..10 {
            let mut client = scene.connect().await;
            client.write_all(&hello[..length]).await.unwrap();
            stalled.push(client);
        }
        scene.good_over(scene.tls().await).await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody was waited for");
        assert_eq!(tls.handshakes_in_flight(), 10);

        sleep(BOUND - GRAIN).await;
        assert_eq!(tls.handshakes_in_flight(), 10);
        scene.good_over(scene.tls().await).await;
        for mut client in stalled {
            assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
            let took = begun.elapsed();
            assert!((BOUND..=BOUND + GRAIN).contains(&took), "{took:?}");
        }
        scene.good_over(scene.tls().await).await;
        let timed_out = Outcome::TimedOut(TimeoutPhase::HANDSHAKE);
        scene.finish([(timed_out, 10)]).await;
    });
}

/// What a client has sent before it stalls: nothing, a part, and all of its ClientHello.
fn beginnings() -> impl Iterator<Item = Vec<u8>> {
    let hello = tls::client_hello();
    let lengths = [0, 1, hello.len() / 2, hello.len()];
    lengths
        .into_iter()
        .map(move |length| hello[..length].to_vec())
}

#[test]
fn a_thousand_clients_that_stall_delay_no_good_one() {
    paused_scenario(async {
        let mut gate = Gate::new();
        gate.limit = ConnectionLimitLayer::new(2000);
        // With a single turn to compute.
        let tls = tls::layer().with_max_computing(1);
        let stack = stack(&gate, tls.clone(), act);
        let scene = gate.listen_in_memory(stack);
        let mut stalled = Vec::new();
        for beginning in beginnings().collect::<Vec<_>>().iter().cycle().take(1000) {
            let mut client = scene.connect().await;
            client.write_all(beginning).await.unwrap();
            stalled.push(client);
        }
        let begun = Instant::now();
        for _ in 0..10 {
            scene.good_over(scene.tls().await).await;
        }
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody was waited for");
        assert_eq!(tls.handshakes_in_flight(), 1000);
        drop(stalled);
        eventually("all have left", || tls.handshakes_in_flight() == 0).await;
        scene.finish([(Outcome::HandshakeFailed, 1000)]).await;
    });
}

#[test]
fn three_hundred_silent_sockets_delay_no_good_client() {
    scenario(async {
        let (scene, tls) = scene!(listen, act);
        let mut stalled = Vec::new();
        for beginning in beginnings().collect::<Vec<_>>().iter().cycle().take(300) {
            let mut client = scene.tcp().await;
            client.write_all(beginning).await.unwrap();
            stalled.push(client);
        }
        let begun = Instant::now();
        for _ in 0..10 {
            scene.good_over(scene.tls().await).await;
        }
        // The stalled ones would be in the way until their timeout.
        assert!(begun.elapsed() < BOUND / 2, "{:?}", begun.elapsed());
        assert_eq!(tls.handshakes_in_flight(), 300);
        drop(stalled);
        eventually("all have left", || tls.handshakes_in_flight() == 0).await;
        scene.finish([(Outcome::HandshakeFailed, 300)]).await;
    });
}

#[test]
fn a_flood_of_silent_clients_displaces_its_own_and_no_good_client() {
    paused_scenario(async {
        let mut gate = Gate::new();
        // Outside of TLS, and with a little more room.
        gate.limit = ConnectionLimitLayer::new(25);
        let tls = tls::layer().with_max_handshakes(20);
        let stack = stack(&gate, tls.clone(), act);
        let scene = gate.listen_in_memory(stack);
        let mut silent = Vec::new();
        for _ in 0..10 {
            for _ in 0..15 {
                silent.push(scene.connect().await);
            }
            scene.good_over(scene.tls().await).await;
            assert!(tls.handshakes_in_flight() <= 20);
        }
        // Good clients took ten of the places that silent ones had.
        let left = u64::try_from(tls.handshakes_in_flight()).unwrap();
        drop(silent);
        scene
            .finish([
                (Outcome::Refused, 150 - left),
                (Outcome::HandshakeFailed, left),
            ])
            .await;
    });
}

#[test]
fn clients_that_reset_after_their_hello_cost_no_handshake() {
    scenario(async {
        let (scene, tls) = scene!(listen, act);
        let hello = tls::client_hello();
        for _ in 0..50 {
            let mut client = scene.tcp().await;
            client.write_all(&hello).await.unwrap();
            client.set_zero_linger().unwrap();
            drop(client);
        }
        eventually("all have left", || {
            ends(&scene.handle.status()) == 50 && tls.handshakes_in_flight() == 0
        })
        .await;
        scene.good_over(scene.tls().await).await;
        scene.finish([(Outcome::HandshakeFailed, 50)]).await;
    });
}

#[test]
fn a_handshake_of_a_byte_a_second_is_cut_at_the_bound_of_the_whole() {
    paused_scenario(async {
        let (scene, _) = scene!(listen_in_memory, act);
        let begun = Instant::now();
        let mut client = scene.connect().await;
        let mut sent = 0;
        for byte in tls::client_hello() {
            if client.write_all(&[byte]).await.is_err() {
                break;
            }
            sent += 1;
            sleep(seconds(1)).await;
        }
        let took = begun.elapsed();
        assert!((BOUND..=BOUND + seconds(2)).contains(&took), "{took:?}");
        assert!((10..=12).contains(&sent), "{sent}");
        let timed_out = Outcome::TimedOut(TimeoutPhase::HANDSHAKE);
        scene.finish([(timed_out, 1)]).await;
    });
}

#[test]
fn a_client_that_half_closes_under_tls_gets_all_of_its_answer() {
    scenario(async {
        let (scene, _) = scene!(listen, act);
        let mut client = scene.tls().await;
        client.write_all(&[ANSWER_AT_THE_END]).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.len(), ANSWER_LENGTH);
        drop(client);
        scene.finish([(Outcome::Completed, 1)]).await;
    });
}

#[test]
fn an_end_without_close_notify_is_a_truncation() {
    scenario(async {
        let (scene, _) = scene!(listen, act);
        let mut client = scene.tls().await;
        client.write_all(&[ECHO]).await.unwrap();
        // The answer comes after the session tickets: nothing is left unread, which would reset.
        assert!(echoed(&mut client, b"x").await.unwrap());
        let (mut socket, _) = client.into_inner();
        socket.shutdown().await.unwrap();
        scene.good_over(scene.tls().await).await;
        drop(socket);
        scene.finish([(Outcome::Truncated, 1)]).await;
    });
}

#[test]
fn close_reaches_a_busy_connection_through_tls_and_boxes_in_split_halves_elsewhere() {
    scenario(async {
        let ended = super::reach::Ended::default();
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
        let (scene, _) = scene!(listen, handler);
        let mut client = scene.tls().await;
        client.write_all(&[0]).await.unwrap();
        super::reach::close_busy(&scene, &ended, client).await;
        scene.good_over(scene.tls().await).await;
        scene.finish([(Outcome::HandedOff, 1)]).await;
    });
}
