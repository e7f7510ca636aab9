//! How a server of gRPC comes to its end.

use super::{
    Served, Way,
    long_streams::{channel, channel_over},
    probe::{Client, Probe},
};
use crate::support::{eventually, paused_scenario, tls};
use portcullis::{
    Server, ServiceBuilderExt,
    listener::MemoryListener,
    server::{Drain, State},
};
use std::{future::pending, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep},
};
use tonic::{Code, Status, service::Routes, transport};
use tower::ServiceBuilder;

#[test]
fn a_stream_in_flight_is_finished_and_new_calls_go_elsewhere() {
    paused_scenario(async {
        let (listener, connector) = MemoryListener::pair();
        let drain = Drain::new().with_notice_period(Duration::from_secs(10));
        let server = Server::new().drain(drain);
        let layers = ServiceBuilder::new().peer_addr();
        let mut served = Served::new(Way::HttpService, server, listener, layers);
        let mut client = Client::new(channel(connector));
        let mut chat = client.chat().await.unwrap();
        let first = served.observed.recv().await.unwrap().info.unwrap();

        served.handle.stop();
        sleep(Duration::from_secs(1)).await;
        who(&mut client).await.unwrap();
        let second = served.observed.recv().await.unwrap().info.unwrap();
        assert_ne!(first.id(), second.id(), "GOAWAY sends new calls elsewhere");
        assert!(chat.echoes("still there").await.unwrap());

        sleep(Duration::from_secs(15)).await;
        let refused = who(&mut client).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert!(chat.echoes("still there").await.unwrap());
        assert_eq!(served.handle.status().active, 1);
        chat.end().await.unwrap();
        drop((client, first, second));
        let report = served.over().await;
        assert_eq!((report.ended(), report.force_closed().len()), (2, 0));
    });
}

#[test]
fn tonic_finishes_what_is_in_flight_when_the_stream_of_connections_ends() {
    paused_scenario(async {
        let (listener, connector) = MemoryListener::pair();
        let layers = ServiceBuilder::new().peer_addr();
        let served = Served::new(Way::Incoming, Server::new(), listener, layers);
        let mut client = Client::new(channel(connector));
        let mut chat = client.chat().await.unwrap();
        assert!(chat.echoes("hello").await.unwrap());

        served.handle.stop();
        sleep(Duration::from_secs(5)).await;
        let refused = who(&mut client).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert!(chat.echoes("still there").await.unwrap());
        assert!(!served.tonic.as_ref().unwrap().is_finished());
        assert_eq!(served.handle.state(), State::Draining);
        chat.end().await.unwrap();
        drop(client);
        let report = served.over().await;
        assert_eq!((report.ended(), report.force_closed().len()), (1, 0));
        assert!(
            report.took() < Duration::from_secs(6),
            "{:?}",
            report.took()
        );
    });
}

#[test]
fn a_stream_that_never_ends_is_cut_at_the_deadline() {
    paused_scenario(async {
        for way in [Way::HttpService, Way::Incoming] {
            let (listener, connector) = MemoryListener::pair();
            let server = Server::new().drain(Drain::new().with_deadline(Duration::from_secs(7)));
            let layers = ServiceBuilder::new().peer_addr();
            let served = Served::new(way, server, listener, layers);
            let mut chat = Client::new(channel(connector)).chat().await.unwrap();
            assert!(chat.echoes("for ever").await.unwrap());

            let begun = Instant::now();
            served.handle.stop();
            let report = served.over().await;
            assert_eq!(begun.elapsed().as_secs(), 7, "{way:?}");
            assert_eq!(
                (report.force_closed().len(), report.still_running()),
                (1, 0),
                "{way:?}"
            );
            chat.echoes("gone").await.unwrap_err();
        }
    });
}

/// tonic's client learns of a `GOAWAY` by its next call, which it gives back without having sent it.
async fn who(client: &mut Client) -> Result<(), Status> {
    match client.who().await {
        Err(status) if status.code() == Code::Cancelled => client.who().await,
        answer => answer,
    }
}

/// What the kernel holds, what waits in its task, and what lies ready: all of it when the server stops.
#[test]
fn no_connection_is_lost_when_the_server_stops() {
    paused_scenario(async {
        let (listener, connector) = MemoryListener::pair();
        let layers = ServiceBuilder::new().peer_addr();
        let incoming = Server::new().incoming(listener, layers).unwrap();
        let handle = incoming.handle().unwrap().clone();
        let clients: Vec<_> = (0..40)
            .map(|_| {
                let mut client = Client::new(channel(connector.clone()));
                tokio::spawn(async move { client.who().await })
            })
            .collect();
        eventually("they wait to be taken", || handle.status().active == 40).await;
        handle.stop();

        let (probe, mut observed) = Probe::new();
        let served = transport::Server::builder()
            .add_routes(Routes::new(probe))
            .serve_with_incoming_shutdown(incoming.tonic(), pending())
            .await;
        served.unwrap();
        for client in clients {
            client.await.unwrap().unwrap();
        }
        let mut calls = 0;
        while observed.recv().await.is_some() {
            calls += 1;
        }
        assert_eq!(calls, 40);
        let report = handle.wait().await;
        assert_eq!((report.ended(), report.force_closed().len()), (40, 0));
    });
}

#[test]
fn a_client_that_was_let_in_last_is_heard_for_half_a_second() {
    paused_scenario(async {
        for way in [Way::HttpService, Way::Incoming] {
            let (listener, connector) = MemoryListener::pair();
            let layers = ServiceBuilder::new().peer_addr();
            let served = Served::new(way, Server::new(), listener, layers);
            let [in_time, too_late] = [(); 2].map(|()| connector.connect().unwrap());
            served.handle.stop();
            sleep(Duration::from_millis(400)).await;
            let mut client = Client::new(channel_over(in_time));
            client.who().await.unwrap();
            sleep(Duration::from_millis(200)).await;
            let refused = Client::new(channel_over(too_late)).who().await;
            refused.unwrap_err();
            drop(client);
            let report = served.over().await;
            assert_eq!(
                (report.ended(), report.force_closed().len()),
                (2, 0),
                "{way:?}"
            );
        }
    });
}

#[test]
fn a_server_without_connections_ends_at_once() {
    paused_scenario(async {
        let (listener, _connector) = MemoryListener::pair();
        let layers = ServiceBuilder::new().peer_addr();
        let served = Served::new(Way::Incoming, Server::new(), listener, layers);
        let begun = Instant::now();
        served.finish().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    });
}

/// The preface of HTTP/2 and empty settings; the acknowledgement of the server's settings; a ping.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const ACK: &[u8] = b"\0\0\0\x04\x01\0\0\0\0";
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0preface!";

#[test]
fn clients_that_ask_for_nothing_do_not_hold_the_drain() {
    paused_scenario(async {
        for way in [Way::HttpService, Way::Incoming, Way::IncomingInfo] {
            let hello = [HELLO, ACK, PING].concat();
            for sent in [0, 1, 23, 24, 33, 42, hello.len()] {
                // `HttpService` waits for the rest of a head as long as for each head.
                if way == Way::HttpService && (1..24).contains(&sent) {
                    continue;
                }
                let (listener, connector) = MemoryListener::pair();
                let layers = ServiceBuilder::new().peer_addr();
                let served = Served::new(way, Server::new(), listener, layers);
                let mut deaf = connector.connect().unwrap();
                deaf.write_all(&hello[..sent]).await.unwrap();
                sleep(Duration::from_millis(10)).await;
                let begun = Instant::now();
                served.handle.stop();
                let report = served.over().await;
                assert_eq!(
                    (report.ended(), report.force_closed().len()),
                    (1, 0),
                    "{way:?} {sent}"
                );
                let latest = if sent < 24 { 1100 } else { 4000 };
                let took = begun.elapsed().as_millis();
                assert!((500..latest).contains(&took), "{way:?} {sent} {took}");
                deaf.read_to_end(&mut Vec::new()).await.unwrap();
            }
        }
    });
}

#[test]
fn a_client_that_is_deaf_since_its_last_call_does_not_hold_the_drain() {
    paused_scenario(async {
        for way in [Way::HttpService, Way::Incoming] {
            let (listener, connector) = MemoryListener::pair();
            let layers = ServiceBuilder::new().peer_addr();
            let served = Served::new(way, Server::new(), listener, layers);
            let mut deaf = connector.connect().unwrap();
            // A request of `/` that is refused: `:method POST`, `:scheme http`, `:path /` of the static table.
            let request = b"\0\0\x03\x01\x05\0\0\0\x01\x83\x86\x84";
            deaf.write_all(&[HELLO, request].concat()).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            let begun = Instant::now();
            served.handle.stop();
            let report = served.over().await;
            assert_eq!(
                (report.ended(), report.force_closed().len()),
                (1, 0),
                "{way:?}"
            );
            assert!(begun.elapsed() < Duration::from_secs(4), "{way:?}");
            deaf.read_to_end(&mut Vec::new()).await.unwrap();
        }
    });
}

#[test]
fn a_handshake_that_does_not_go_on_does_not_hold_the_drain() {
    paused_scenario(async {
        for way in [Way::HttpService, Way::IncomingTls] {
            for sent in [0, 100] {
                let (listener, connector) = MemoryListener::pair();
                let layers = ServiceBuilder::new().peer_addr().layer(tls::layer());
                let served = Served::new(way, Server::new(), listener, layers);
                let mut silent = connector.connect().unwrap();
                silent
                    .write_all(&tls::client_hello()[..sent])
                    .await
                    .unwrap();
                sleep(Duration::from_millis(10)).await;
                let begun = Instant::now();
                served.handle.stop();
                let report = served.over().await;
                assert_eq!(
                    (report.ended(), report.force_closed().len()),
                    (1, 0),
                    "{way:?}"
                );
                let took = begun.elapsed().as_millis();
                assert!((500..1100).contains(&took), "{way:?} {took}");
            }
        }
    });
}
