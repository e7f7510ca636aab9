//! Listeners that are controlled one by one, and that come and go while the server runs.

use crate::support::{
    ask, assert_ended, echo, echo_stack, echoed, ends, eventually, finish, scenario,
};
use portcullis::{
    Connection, Server, ServiceBuilderExt,
    listener::{TcpListener, TcpOptions},
    middleware::{limit::ConnectionLimitLayer, outcome::Outcome},
    server::{Drain, Handle, ListenerHandle, Stack, State, Workers},
};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceBuilder;

/// A listener on a port that other sockets may share, for workers with a listener each.
fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpOptions::new()
        .with_reuse_port(true)
        .bind("127.0.0.1:0")
        .unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Two listeners, `a` and `b`, with an echo server each.
struct Two {
    handle: Handle,
    a: ListenerHandle,
    b: ListenerHandle,
    addresses: [SocketAddr; 2],
}

impl Two {
    fn serve() -> Self {
        let ((a, at_a), (b, at_b)) = (bind(), bind());
        let handle = Server::new()
            .listen_as("a", a, drainable())
            .listen_as("b", b, drainable())
            .spawn()
            .unwrap();
        Self {
            a: handle.listener("a").unwrap(),
            b: handle.listener("b").unwrap(),
            handle,
            addresses: [at_a, at_b],
        }
    }

    async fn connect_a(&self) -> TcpStream {
        connected(self.addresses[0]).await
    }

    async fn connect_b(&self) -> TcpStream {
        connected(self.addresses[1]).await
    }
}

/// Echoes single bytes until the client or the drain ends it. After `!`, it ignores the drain.
fn drainable() -> impl Stack<TcpStream> {
    ServiceBuilder::new()
        .peer_addr()
        .service_fn(|mut connection: Connection<_>| async move {
            let mut byte = [0];
            loop {
                let drain = connection.info().drain();
                let read = tokio::select! {
                    read = connection.read(&mut byte) => read?,
                    () = drain, if &byte != b"!" => 0,
                };
                if read == 0 {
                    return connection.close().await;
                }
                connection.write_all(&byte).await?;
            }
        })
}

/// A client that is being served.
async fn connected(address: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    assert!(echoed(&mut client, b"x").await.unwrap());
    client
}

/// Whether clients can no longer connect.
async fn is_closed(address: SocketAddr) -> bool {
    TcpStream::connect(address).await.is_err()
}

/// Waits until the server has stopped, and checks the invariants of every end.
async fn stopped(handle: &Handle) {
    handle.wait().await;
    assert_ended(handle);
}

#[test]
fn one_of_two_listeners_is_paused_and_the_other_goes_on() {
    scenario(async {
        let two = Two::serve();
        let mut before = two.connect_a().await;
        assert!(two.a.pause());
        assert!(!two.a.pause());
        let client = TcpStream::connect(two.addresses[0]).await.unwrap();
        let waiting = tokio::spawn(ask(client, b"w"));
        // The acceptor of `b` works, so that of `a` has had its time, too.
        for _ in 0..20 {
            drop(two.connect_b().await);
        }
        assert!(echoed(&mut before, b"y").await.unwrap());
        assert_eq!(two.a.status().accepted, 1);
        assert_eq!(two.a.status().state, State::Paused);
        assert_eq!(two.b.status().state, State::Running);
        assert_eq!(two.handle.state(), State::Running);

        // The pause of the server is another one.
        assert!(two.handle.pause());
        assert_eq!(two.b.status().state, State::Paused);
        assert!(two.handle.resume());
        assert_eq!(two.b.status().state, State::Running);
        assert_eq!(two.a.status().state, State::Paused);
        assert!(two.a.resume());
        assert_eq!(waiting.await.unwrap().unwrap(), b"w");
        drop(before);
        finish(&two.handle).await;
    });
}

#[test]
fn a_listener_that_is_added_to_a_paused_server_is_paused() {
    scenario(async {
        let two = Two::serve();
        assert!(two.handle.pause());
        let (listener, address) = bind();
        let added = two.handle.listen_as("c", listener, echo_stack()).unwrap();
        assert_eq!(added.status().state, State::Paused);
        let client = TcpStream::connect(address).await.unwrap();
        assert!(two.handle.resume());
        assert_eq!(ask(client, b"later").await.unwrap(), b"later");
        finish(&two.handle).await;
    });
}

#[test]
fn a_listener_that_is_closed_serves_its_queue_and_its_connections_go_on() {
    scenario(async {
        let two = Two::serve();
        let mut before = two.connect_a().await;
        assert!(two.a.pause());
        let queued = TcpStream::connect(two.addresses[0]).await.unwrap();
        assert!(two.a.close());
        assert!(!two.a.close());
        two.a.closed().await;
        assert!(is_closed(two.addresses[0]).await);
        assert_eq!(two.a.status().state, State::Closed);
        assert_eq!(ask(queued, b"q").await.unwrap(), b"q");
        assert!(echoed(&mut before, b"y").await.unwrap());
        drop(two.connect_b().await);
        assert_eq!(two.handle.state(), State::Running);

        // Its last connection ends it.
        drop(before);
        eventually("it has stopped", || two.a.status().state == State::Stopped).await;
        assert_eq!(two.a.status().accepted, 2);
        assert!(two.handle.listener("a").is_none());
        assert_eq!(two.handle.listeners().len(), 1);
        let report = two.a.drain(Drain::new()).await;
        assert!(report.force_closed().is_empty());
        finish(&two.handle).await;
    });
}

#[test]
fn one_of_two_listeners_is_drained_with_a_report_of_its_own() {
    scenario(async {
        let two = Two::serve();
        let mut polite = two.connect_a().await;
        let mut deaf = two.connect_a().await;
        assert!(echoed(&mut deaf, b"!").await.unwrap());
        let mut other = two.connect_b().await;
        assert_eq!(two.a.connections().len(), 2);
        assert_eq!(two.b.connections().len(), 1);

        let drain = Drain::new().with_deadline(Duration::from_millis(200));
        let drained = two.a.drain(drain);
        assert_eq!(polite.read(&mut [0]).await.unwrap(), 0);
        drop(polite);
        assert!(echoed(&mut deaf, b"!").await.unwrap());
        assert!(echoed(&mut other, b"y").await.unwrap());
        let report = drained.await;
        assert_eq!((report.ended(), report.still_running()), (1, 0));
        assert_eq!(report.force_closed().len(), 1);
        let cut = &report.force_closed()[0];
        assert_eq!(cut.peer_addr(), deaf.local_addr().ok());
        assert_eq!(
            cut.forced_because(),
            Some("its listener was closed, and the drain has reached its deadline")
        );
        assert!(report.took() >= Duration::from_millis(200));
        assert!(is_closed(two.addresses[0]).await);

        assert!(echoed(&mut other, b"z").await.unwrap());
        drop(two.connect_b().await);
        let status = two.a.status();
        assert_eq!((status.state, status.active), (State::Stopped, 0));
        assert_eq!(
            status.outcomes,
            [(Outcome::Completed, 1), (Outcome::Forced, 1)]
        );
        drop((deaf, other));
        let report = finish(&two.handle).await;
        // Only what ended in the drain of the server.
        assert!(report.force_closed().is_empty() && report.ended() <= 2);
    });
}

#[test]
fn a_notice_period_of_one_listener_lets_it_go_on_accepting() {
    scenario(async {
        let two = Two::serve();
        let drain = Drain::new().with_notice_period(Duration::from_millis(200));
        let drained = two.a.drain(drain);
        eventually("it drains", || two.a.status().state == State::Draining).await;
        let client = TcpStream::connect(two.addresses[0]).await.unwrap();
        assert_eq!(ask(client, b"").await.unwrap(), b"");
        assert!(drained.await.took() >= Duration::from_millis(200));
        assert_eq!(two.a.status().accepted, 1);
        assert!(is_closed(two.addresses[0]).await);
        finish(&two.handle).await;
    });
}

#[test]
fn the_end_of_the_server_brings_the_drain_of_a_listener_forward() {
    scenario(async {
        let two = Two::serve();
        let mut deaf = two.connect_a().await;
        assert!(echoed(&mut deaf, b"!").await.unwrap());
        let long = Drain::new()
            .with_notice_period(Duration::from_secs(300))
            .with_deadline(Duration::from_secs(600));
        let drained = two.a.drain(long);
        two.handle.stop_at_once();
        let report = two.handle.wait().await;
        assert_eq!(report.force_closed().len(), 1);
        assert_eq!(
            report.force_closed()[0].forced_because(),
            Some("the server was stopped at once")
        );
        assert!(report.took() < Duration::from_secs(5));
        assert_eq!(drained.await.force_closed().len(), 1);
        stopped(&two.handle).await;
    });
}

#[test]
fn a_drain_of_the_last_listener_keeps_its_deadline() {
    scenario(async {
        let (listener, address) = bind();
        let handle = Server::new()
            .drain(Drain::new().with_deadline(Duration::ZERO))
            .listen_as("only", listener, drainable())
            .spawn()
            .unwrap();
        let mut deaf = connected(address).await;
        assert!(echoed(&mut deaf, b"!").await.unwrap());
        let only = handle.listener("only").unwrap();
        let drained = only.drain(Drain::new().with_deadline(Duration::from_secs(600)));
        only.closed().await;
        // The server shuts down as well, and its drain has no time.
        eventually("it drains", || handle.state() == State::Draining).await;
        sleep(Duration::from_millis(300)).await;
        assert!(echoed(&mut deaf, b"!").await.unwrap());
        drop(deaf);
        assert!(drained.await.force_closed().is_empty());
        stopped(&handle).await;
    });
}

#[test]
fn a_server_of_any_workers_takes_a_listener_while_it_runs() {
    for workers in [
        Workers::Caller,
        Workers::PerCore,
        Workers::Sharded(3),
        Workers::LeastBusy(2),
    ] {
        scenario(async {
            let ((first, at_first), (second, at_second)) = (bind(), bind());
            let handle = Server::new()
                .listen_as("first", first, drainable())
                .workers(workers)
                .spawn()
                .unwrap();
            let mut before = connected(at_first).await;
            let added = handle.listen_as("second", second, drainable()).unwrap();
            let mut clients = JoinSet::new();
            for _ in 0..30 {
                clients.spawn(async move {
                    let client = TcpStream::connect(at_second).await?;
                    timeout(Duration::from_secs(20), ask(client, b"x")).await?
                });
            }
            while let Some(answer) = clients.join_next().await {
                assert_eq!(answer.unwrap().unwrap(), b"x");
            }
            assert!(echoed(&mut before, b"y").await.unwrap());
            let drained = added.drain(Drain::new()).await;
            assert!(drained.force_closed().is_empty());
            assert_eq!(added.status().accepted, 30);
            assert_eq!(ends(&added.status()), 30);
            assert!(is_closed(at_second).await);
            assert!(echoed(&mut before, b"z").await.unwrap());
            drop(before);
            finish(&handle).await;
            assert_eq!(handle.status().accepted, 31);
        });
    }
}

#[test]
fn a_listener_that_cannot_be_split_for_the_workers_is_not_added() {
    scenario(async {
        let (first, _) = bind();
        let handle = Server::new()
            .listen_as("first", first, echo_stack())
            .workers(Workers::Sharded(2))
            .spawn()
            .unwrap();
        let single = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = single.local_addr().unwrap();
        let error = handle.listen_as("single", single, echo_stack());
        let error = error.unwrap_err();
        assert!(!error.is_name_taken() && !error.is_not_running());
        assert!(error.to_string().contains("single"));
        assert!(is_closed(address).await);
        assert!(handle.listener("single").is_none());
        finish(&handle).await;
    });
}

#[test]
fn the_limit_of_one_listener_is_changed_by_its_handle() {
    scenario(async {
        let two = Two::serve();
        let (layer, limit) = ConnectionLimitLayer::pair(1);
        let stack = ServiceBuilder::new()
            .peer_addr()
            .layer(layer)
            .service_fn(echo);
        let (listener, address) = bind();
        let limited = two.handle.listen_as("limited", listener, stack).unwrap();
        assert!(!limited.set_limit(3));
        assert!(limited.use_limit(limit.clone()));
        assert!(!limited.use_limit(limit));
        let first = connected(address).await;
        let mut second = TcpStream::connect(address).await.unwrap();
        eventually("it waits", || limited.status().waiting == 1).await;
        assert_eq!(limited.status().limit, Some(1));
        assert_eq!(two.b.status().limit, None);
        drop(two.connect_b().await);
        assert!(limited.set_limit(2));
        assert!(echoed(&mut second, b"2").await.unwrap());
        drop((first, second));
        finish(&two.handle).await;
    });
}

#[test]
fn a_name_is_taken_by_an_open_listener_and_free_once_it_closes() {
    scenario(async {
        let two = Two::serve();
        let mut lasting = two.connect_a().await;
        let (listener, address) = bind();
        let taken = two.handle.listen_as("a", listener, echo_stack());
        let taken = taken.unwrap_err();
        assert!(taken.is_name_taken());
        assert!(taken.to_string().contains("name a is taken"), "{taken}");
        assert!(is_closed(address).await);

        two.a.close();
        let (listener, address) = bind();
        let next = two.handle.listen_as("a", listener, echo_stack()).unwrap();
        assert_eq!(
            ask(TcpStream::connect(address).await.unwrap(), b"n")
                .await
                .unwrap(),
            b"n"
        );
        // The handle of that name is the new one, and the old one still has its connection.
        assert_eq!(two.handle.listener("a").unwrap().status().accepted, 1);
        assert_eq!((next.status().accepted, two.a.status().accepted), (1, 1));
        assert_eq!(two.handle.listeners().len(), 3);
        assert!(echoed(&mut lasting, b"y").await.unwrap());
        drop(lasting);
        finish(&two.handle).await;

        let (first, second) = (bind().0, bind().0);
        let server =
            Server::new()
                .listen_as("a", first, echo_stack())
                .listen_as("a", second, echo_stack());
        assert!(server.run().await.unwrap_err().is_name_taken());
    });
}

#[test]
fn listeners_without_a_name_of_their_own_get_different_ones() {
    scenario(async {
        let (first, address) = bind();
        let second = TcpOptions::new()
            .with_reuse_port(true)
            .bind(address)
            .unwrap();
        let handle = Server::new()
            .listen_all([first, second], echo_stack())
            .spawn()
            .unwrap();
        let names: Vec<_> = handle
            .listeners()
            .iter()
            .map(|listener| listener.name().to_owned())
            .collect();
        assert_eq!(names, [address.to_string(), format!("{address} (2)")]);
        finish(&handle).await;
    });
}

#[test]
fn a_listener_can_only_be_added_while_the_server_runs() {
    scenario(async {
        let server = Server::new().until_stopped();
        let handle = server.handle();
        let add = |handle: &Handle| handle.listen_as("late", bind().0, echo_stack());
        assert!(add(&handle).unwrap_err().is_not_running());
        server.spawn().unwrap();
        let added = add(&handle).unwrap();
        finish(&handle).await;
        assert!(add(&handle).unwrap_err().is_not_running());
        assert_eq!(added.status().state, State::Stopped);
        assert!(!added.pause() && !added.resume());
        added.closed().await;

        // A server that was dropped while it ran.
        let server = Server::new().until_stopped();
        let handle = server.handle();
        let running = tokio::spawn(server.run());
        eventually("it runs", || handle.state() == State::Running).await;
        let added = add(&handle).unwrap();
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        assert!(add(&handle).unwrap_err().is_not_running());
        added.closed().await;
        assert_eq!(added.drain(Drain::new()).await.still_running(), 0);
    });
}

#[test]
fn a_server_reports_no_connection_that_ended_in_an_earlier_drain_of_its_listener() {
    scenario(async {
        let two = Two::serve();
        let mut polite = two.connect_a().await;
        let mut lasting = two.connect_a().await;
        let mut other = two.connect_b().await;
        let drained = two.a.drain(Drain::new());
        assert_eq!(polite.read(&mut [0]).await.unwrap(), 0);
        drop(polite);
        eventually("it has ended", || two.a.status().active == 1).await;

        two.handle.stop();
        for client in [&mut lasting, &mut other] {
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        }
        drop((lasting, other));
        let report = two.handle.wait().await;
        assert_eq!(report.ended(), 2);
        assert_eq!(drained.await.ended(), 2);
    });
}

#[test]
fn a_server_ends_with_its_last_listener_unless_it_runs_until_it_is_stopped() {
    scenario(async {
        let two = Two::serve();
        let lasting = two.connect_b().await;
        two.a.close();
        two.a.closed().await;
        assert_eq!(two.handle.state(), State::Running);
        two.b.close();
        // The end of the server is a drain, which ends the connection.
        let report = two.handle.wait().await;
        assert_eq!((report.ended(), report.broken_listeners().len()), (1, 0));
        drop(lasting);
        stopped(&two.handle).await;

        let handle = Server::new().until_stopped().spawn().unwrap();
        for round in 1..=3 {
            let (listener, address) = bind();
            let listener = handle.listen_as("only", listener, drainable()).unwrap();
            let client = connected(address).await;
            listener.close();
            listener.closed().await;
            assert!(is_closed(address).await);
            drop(client);
            eventually("it is gone", || handle.listener("only").is_none()).await;
            let status = handle.status();
            assert_eq!((status.state, status.accepted), (State::Running, round));
            assert_eq!(ends(&status), round);
        }
        finish(&handle).await;
    });
}

#[test]
fn the_counters_of_all_listeners_add_up_while_they_come_and_go() {
    scenario(async {
        let handle = Server::new().until_stopped().spawn().unwrap();
        let mut served = 0;
        for round in 0..20_u64 {
            let pair = [(); 2].map(|()| {
                let (listener, address) = bind();
                let name = address.to_string();
                let listener = handle.listen_as(name, listener, echo_stack()).unwrap();
                (listener, address)
            });
            let mut clients = JoinSet::new();
            for number in 0..10 {
                let address = pair[number % 2].1;
                clients.spawn(async move { ask(TcpStream::connect(address).await?, b"x").await });
            }
            while let Some(answer) = clients.join_next().await {
                assert_eq!(answer.unwrap().unwrap(), b"x");
                served += 1;
            }
            for (listener, _) in pair {
                // With a drain and without one.
                let report = if round % 2 == 0 {
                    listener.drain(Drain::new()).await
                } else {
                    listener.close();
                    eventually("it has stopped", || {
                        listener.status().state == State::Stopped
                    })
                    .await;
                    listener.drain(Drain::new()).await
                };
                assert!(report.force_closed().is_empty());
                let status = listener.status();
                assert_eq!((status.accepted, ends(&status)), (5, 5));
            }
            let status = handle.status();
            assert_eq!((status.accepted, ends(&status)), (served, served));
            assert!(handle.listeners().is_empty());
        }
        finish(&handle).await;
        assert_eq!(handle.status().outcomes, [(Outcome::Completed, 200)]);
    });
}

#[test]
fn a_handler_that_blocks_the_drain_of_its_listener_still_counts_when_it_ends() {
    scenario(async {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Arc::new(std::sync::Mutex::new(held));
        let stack =
            ServiceBuilder::new()
                .peer_addr()
                .service_fn(move |mut connection: Connection<_>| {
                    let held = held.clone();
                    async move {
                        connection.write_all(b"x").await?;
                        let _ = held.lock().unwrap().recv();
                        Ok::<_, io::Error>(())
                    }
                });
        let handle = Server::new().until_stopped().spawn().unwrap();
        let (listener, address) = bind();
        let blocked = handle.listen_as("blocked", listener, stack).unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.read_u8().await.unwrap();
        let drain = Drain::new().with_deadline(Duration::from_millis(20));
        let report = blocked.drain(drain).await;
        assert_eq!(
            (report.force_closed().len(), report.still_running()),
            (1, 1)
        );
        drop(blocked);
        // What is added meanwhile does not get its place.
        let (listener, address) = bind();
        let next = handle.listen_as("next", listener, echo_stack()).unwrap();
        assert_eq!(
            ask(TcpStream::connect(address).await.unwrap(), b"n")
                .await
                .unwrap(),
            b"n"
        );
        assert_eq!(next.status().accepted, 1);
        drop(release);
        eventually("both have ended", || ends(&handle.status()) == 2).await;
        assert_eq!(handle.status().accepted, 2);
        finish(&handle).await;
    });
}

#[test]
fn a_listener_is_drained_under_load_without_a_loss_on_the_other() {
    scenario(async {
        let two = Two::serve();
        let [_, at_b] = two.addresses;
        let load = tokio::spawn(async move {
            let mut served = 0;
            let mut clients = JoinSet::new();
            for _ in 0..8 {
                clients.spawn(async move {
                    for _ in 0..50 {
                        drop(connected(at_b).await);
                    }
                    50
                });
            }
            while let Some(count) = clients.join_next().await {
                served += count.unwrap();
            }
            served
        });
        for round in 0..10 {
            let name = format!("round {round}");
            let (listener, address) = bind();
            let listener = two.handle.listen_as(name, listener, drainable()).unwrap();
            let mut client = connected(address).await;
            let drained = listener.drain(Drain::new());
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            drop(client);
            assert_eq!(drained.await.ended(), 1);
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(load.await.unwrap(), 400);
        finish(&two.handle).await;
        assert_eq!(two.b.status().accepted, 400);
        assert_eq!(two.handle.status().accepted, 410);
    });
}
