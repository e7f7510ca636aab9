//! What signals do to a server: the first one drains it, the second one ends it at once.
//!
//! A signal is for a whole process, so the server is one of its own: this binary again, as a child.

use crate::support::{
    child::{self, Child},
    scenario,
};
use portcullis::{
    Connection, Server, ServiceBuilderExt, io::BoxIo, listener::TcpListener, server::Drain,
};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    time::timeout,
};
use tower::ServiceBuilder;

/// A server, and a client whose request is in hand.
async fn in_flight() -> (Child, TcpStream) {
    let mut server = Child::in_role("signals::child", "server", "").unwrap();
    let address = server.address().await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"?").await.unwrap();
    assert_eq!(byte(&mut client).await, BEGUN);
    (server, client)
}

async fn byte(client: &mut TcpStream) -> u8 {
    let byte = timeout(PATIENCE, client.read_u8()).await;
    byte.expect("the server says nothing").unwrap()
}

/// What is left to read; nothing where the server cut it.
async fn rest(client: &mut TcpStream) -> String {
    let mut rest = String::new();
    let end = timeout(PATIENCE, client.read_to_string(&mut rest)).await;
    end.expect("the server does not end it").unwrap_or(0);
    rest
}

#[test]
fn a_signal_ends_a_server_when_the_request_in_flight_is_finished() {
    scenario(async {
        for signal in ["TERM", "INT"] {
            let (mut server, mut client) = in_flight().await;
            server.signal(signal).await;
            // The server itself tells when it has heard: no guess at how long that takes.
            assert_eq!(byte(&mut client).await, DRAINING);
            client.write_all(b"!").await.unwrap();
            assert_eq!(rest(&mut client).await, "finished");
            drop(client);
            server.says("1 ended, 0 cut").await;
            let status = server.ended_within(PATIENCE).await;
            assert!(status.success(), "SIG{signal}: {status}");
        }
    });
}

#[test]
fn a_second_signal_cuts_what_is_in_flight_at_once() {
    scenario(async {
        for [first, second] in [["TERM", "TERM"], ["INT", "INT"], ["INT", "TERM"]] {
            let (mut server, mut client) = in_flight().await;
            server.signal(first).await;
            assert_eq!(byte(&mut client).await, DRAINING);
            server.signal(second).await;
            assert_eq!(rest(&mut client).await, "");
            server.says("0 ended, 1 cut").await;
            let status = server.ended_within(PATIENCE).await;
            assert!(status.success(), "SIG{first}, SIG{second}: {status}");
        }
    });
}

#[test]
#[ignore = "the server that the other tests start, in a process of its own"]
fn child() {
    if child::role().is_none() {
        return;
    }
    Runtime::new().unwrap().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stack = ServiceBuilder::new().peer_addr().box_io().service_fn(serve);
        let report = Server::new()
            .listen(listener, stack)
            .drain(Drain::new().with_deadline(DEADLINE))
            .stop_on_signals()
            // Not before: until then a signal ends the process.
            .on_start(move |_| println!("listening on {address}"))
            .run()
            .await
            .unwrap();
        println!(
            "{} ended, {} cut",
            report.ended(),
            report.force_closed().len()
        );
    });
}

/// A request that is not finished before the drain, nor before the client says so.
async fn serve(mut connection: Connection<BoxIo>) -> io::Result<()> {
    connection.read_u8().await?;
    connection.write_u8(BEGUN).await?;
    connection.info().drain().await;
    connection.write_u8(DRAINING).await?;
    connection.read_u8().await?;
    connection.write_all(b"finished").await?;
    connection.close().await
}

const BEGUN: u8 = b'b';
const DRAINING: u8 = b'd';

/// Much less than the deadline of the drain.
const PATIENCE: Duration = Duration::from_secs(15);
const DEADLINE: Duration = Duration::from_secs(3600);
