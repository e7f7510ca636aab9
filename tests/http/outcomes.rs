//! The outcome of a connection for each way in which HTTP clients usually end it.

use crate::{
    app::app,
    bad_requests::outcomes,
    h2_frames::{self, END_STREAM},
    peer::{get, upload},
    support::{Fixture, eventually, scenario},
};
use axum::{
    extract::Request,
    middleware::{Next, from_fn},
};
use portcullis::{
    ServiceBuilderExt, middleware::outcome::Outcome, server::Stack, service::HttpService,
};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};
use tower::ServiceBuilder;

/// The application, which notifies `begun` of each request that reaches it.
fn reporting_to(begun: Arc<Notify>) -> impl Stack<TcpStream> {
    let app = app().layer(from_fn(move |request: Request, next: Next| {
        begun.notify_one();
        next.run(request)
    }));
    ServiceBuilder::new()
        .peer_addr()
        .service(HttpService::new(app))
}

/// What becomes of one client that behaves like this.
fn outcome_of<F: Future<Output = ()>>(client: impl FnOnce(TcpStream, Arc<Notify>) -> F) -> Outcome {
    let mut outcome = None;
    scenario(async {
        let begun = Arc::new(Notify::new());
        let server = Fixture::serve(reporting_to(begun.clone()));
        client(server.connect().await, begun).await;
        eventually("it is accepted", || server.status().accepted == 1).await;
        let outcomes = outcomes(server).await;
        assert_eq!(outcomes.values().sum::<u64>(), 1, "{outcomes:?}");
        outcome = outcomes.into_keys().next();
    });
    outcome.unwrap()
}

#[test]
fn usual_ends_have_the_outcomes_one_expects() {
    let read_some = async |io: &mut TcpStream| {
        let _ = io.read(&mut [0; 100]).await.unwrap();
    };
    let end = outcome_of(async |mut io: TcpStream, _| {
        io.write_all(get("/").as_bytes()).await.unwrap();
        read_some(&mut io).await;
    });
    assert_eq!(end, Outcome::Completed, "an idle connection is closed");
    let end = outcome_of(async |io: TcpStream, _| drop(io));
    assert_eq!(end, Outcome::Completed, "nothing was ever requested");
    let end = outcome_of(async |mut io: TcpStream, _| {
        io.write_all(get("/").as_bytes()).await.unwrap();
        read_some(&mut io).await;
        io.set_zero_linger().unwrap();
    });
    assert!(
        matches!(end, Outcome::Completed | Outcome::Disconnected),
        "an idle connection is reset: {end}"
    );
    for request in [
        get("/big/50000000"),
        get("/sleep/20000"),
        upload("/length", 10),
    ] {
        let end = outcome_of(async |mut io: TcpStream, begun: Arc<Notify>| {
            io.write_all(request.as_bytes()).await.unwrap();
            if request.contains("big") {
                read_some(&mut io).await;
            } else {
                begun.notified().await;
            }
            io.set_zero_linger().unwrap();
        });
        assert_eq!(
            end,
            Outcome::Disconnected,
            "reset in mid-exchange: {request}"
        );
        if request.contains("sleep") {
            let end = outcome_of(async |mut io: TcpStream, begun: Arc<Notify>| {
                io.write_all(request.as_bytes()).await.unwrap();
                begun.notified().await;
            });
            assert_eq!(
                end,
                Outcome::Disconnected,
                "closed in mid-exchange: {request}"
            );
        }
    }
    let end = outcome_of(async |mut io: TcpStream, _| {
        io.write_all(b"GET / HT").await.unwrap();
    });
    assert_eq!(end, Outcome::Disconnected, "closed in mid-head");
    let end = outcome_of(async |mut io: TcpStream, _| {
        io.write_all(b"bad\r\n\r\n").await.unwrap();
        read_some(&mut io).await;
    });
    assert_eq!(end, Outcome::Failed, "no HTTP");
    for reset in [false, true] {
        let end = outcome_of(async |mut io: TcpStream, begun: Arc<Notify>| {
            let hello = h2_frames::hello(65_535);
            let request = h2_frames::request(1, "GET", "/sleep/20000", END_STREAM);
            io.write_all(&[hello, request].concat()).await.unwrap();
            begun.notified().await;
            if reset {
                io.set_zero_linger().unwrap();
            }
        });
        assert_eq!(
            end,
            Outcome::Disconnected,
            "HTTP/2 in mid-exchange, reset: {reset}"
        );
    }
}
