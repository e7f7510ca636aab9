//! What stops a server besides its handle, and servers that are dropped or never run.

use crate::support::{
    Fixture, assert_ended, echo, echo_stack, echoed, eventually, paused_scenario, scenario,
};
use portcullis::{
    Server,
    listener::{MemoryListener, TcpListener},
    middleware::peer_addr::PeerAddrLayer,
    server::Handle,
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tower::ServiceBuilder;

#[test]
fn a_server_that_may_be_idle_for_a_while_stops_after_it_and_not_before() {
    paused_scenario(async {
        let (listener, connector) = MemoryListener::pair();
        let limit = Duration::from_secs(10);
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(echo);
        let server = Server::new().listen(listener, stack).stop_when_idle(limit);
        let begun = Instant::now();
        let handle = server.spawn().unwrap();
        // Nine seconds idle, then a connection that lasts longer than the limit.
        sleep(Duration::from_secs(9)).await;
        let mut client = connector.connect().unwrap();
        client.write_all(b"x").await.unwrap();
        client.read_exact(&mut [0; 1]).await.unwrap();
        sleep(Duration::from_secs(20)).await;
        assert!(!handle.is_stopped());
        drop(client);
        handle.wait().await;
        let took = begun.elapsed();
        let expected = Duration::from_secs(9 + 20 + 10);
        assert!(
            (expected..expected + Duration::from_millis(50)).contains(&took),
            "{took:?}"
        );
        assert_ended(&handle);
    });
}

#[test]
fn the_time_of_idleness_begins_with_the_end_of_the_last_connection() {
    paused_scenario(async {
        let (listener, connector) = MemoryListener::pair();
        let limit = Duration::from_secs(10);
        let stack = ServiceBuilder::new()
            .layer(PeerAddrLayer::new())
            .service_fn(echo);
        let begun = Instant::now();
        let handle = Server::new()
            .listen(listener, stack)
            .stop_when_idle(limit)
            .spawn()
            .unwrap();
        sleep(Duration::from_secs(1)).await;
        drop(connector.connect().unwrap());
        handle.wait().await;
        let took = begun.elapsed();
        let expected = Duration::from_secs(11);
        assert!(
            (expected..expected + Duration::from_millis(50)).contains(&took),
            "{took:?}"
        );
    });
}

#[test]
fn a_trigger_that_panics_stops_the_server() {
    scenario(async {
        let server = Fixture::serve_with(echo_stack(), |server| {
            server.stop_on(async { panic!("told to panic") })
        });
        server.handle.wait().await;
        server.finish().await;
    });
}

#[test]
fn a_server_that_was_told_to_stop_before_its_start_ends_at_once() {
    scenario(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::new().listen(listener, echo_stack());
        server.handle().stop();
        let report = server.run().await.unwrap();
        assert!(report.force_closed().is_empty());
    });
}

#[test]
fn whoever_waits_for_a_server_that_never_ran_learns_of_its_end() {
    scenario(async {
        let server = Server::new();
        let handle = server.handle();
        drop(server);
        assert!(handle.wait_for(Duration::from_secs(5)).await.is_some());

        let server = Server::new();
        let handle = server.handle();
        server.run().await.unwrap_err();
        assert!(handle.wait_for(Duration::from_secs(5)).await.is_some());
        assert!(handle.is_stopped());
    });
}

#[test]
fn dropping_a_running_server_closes_its_listener() {
    scenario(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let running = tokio::spawn(Server::new().listen(listener, echo_stack()).run());
        let mut client = TcpStream::connect(address).await.unwrap();
        assert!(echoed(&mut client, b"x").await.unwrap());
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        let closed = async {
            while TcpStream::connect(address).await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(Duration::from_secs(30), closed).await.is_ok());
        assert!(
            echoed(&mut client, b"the connection goes on")
                .await
                .unwrap()
        );
    });
}

#[test]
fn infos_that_outlive_a_server_do_not_keep_it() {
    scenario(async {
        let server = Fixture::serve(echo_stack());
        let mut client = server.connect().await;
        assert!(echoed(&mut client, b"x").await.unwrap());
        server.handle.stop_at_once();
        let report = server.finish().await;
        let info = report.force_closed()[0].clone();
        eventually("the server is gone", || Handle::of(&info).is_none()).await;
    });
}
