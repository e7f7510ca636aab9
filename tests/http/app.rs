//! The application behind the tests.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Request},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use portcullis::{
    BoxError,
    middleware::error::{Elapsed, find},
};
use std::convert::Infallible;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::sleep,
};

use crate::millis;

/// Healthy and slow handlers of all kinds.
pub fn app() -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/sleep/{ms}", get(sleeps))
        .route("/silent/{ms}", get(silent))
        .route("/big/{bytes}", get(big))
        .route("/stream/{chunks}", get(chunks))
        .route("/queue/{chunks}", get(queue))
        .route("/length", post(length))
        .route("/patient/{ms}", post(patient))
        .route("/distracted", post(distracted))
        .route("/early", post(|| async { StatusCode::PAYLOAD_TOO_LARGE }))
        .route("/background", post(background))
        .route("/hoarder", post(hoarder))
        .route("/tunnel", any(tunnel))
        .route("/duplex", post(duplex))
        .route("/ws", get(upgrade))
        .route("/panic", get(panics))
        .fallback(any(|| async { StatusCode::NOT_FOUND }))
}

async fn sleeps(Path(ms): Path<u64>) -> &'static str {
    sleep(millis(ms)).await;
    "slept"
}

/// A stream that says something at its beginning and at its end.
async fn silent(Path(ms): Path<u64>) -> Body {
    let last = async move {
        sleep(millis(ms)).await;
        Ok::<_, Infallible>("last")
    };
    Body::from_stream(stream::iter([Ok("first ")]).chain(stream::once(last)))
}

async fn big(Path(bytes): Path<usize>) -> Bytes {
    Bytes::from(vec![b'x'; bytes])
}

/// A stream in pieces of 1 KiB, all of them ready.
async fn chunks(Path(chunks): Path<usize>) -> Body {
    let piece = Bytes::from_static(&[b'x'; 1024]);
    Body::from_stream(stream::iter(
        (0..chunks).map(move |_| Ok::<_, Infallible>(piece.clone())),
    ))
}

/// A stream of pieces that lie ready in a channel of tokio's.
async fn queue(Path(chunks): Path<usize>) -> Body {
    let (sender, mut queue) = mpsc::unbounded_channel();
    for _ in 0..chunks {
        sender.send(Ok::<_, Infallible>("x")).unwrap();
    }
    Body::from_stream(stream::poll_fn(move |cx| queue.poll_recv(cx)))
}

/// Reads the body and tells its length, or how long it was waited for.
async fn length(request: Request) -> Response {
    match received(request.into_body()).await {
        Ok(length) => length.to_string().into_response(),
        Err(error) => match find::<Elapsed>(&*error) {
            Some(elapsed) => (StatusCode::REQUEST_TIMEOUT, elapsed.to_string()).into_response(),
            None => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        },
    }
}

/// Like [`length`], after some time.
async fn patient(Path(ms): Path<u64>, request: Request) -> Response {
    sleep(millis(ms)).await;
    length(request).await
}

/// Asks for the body, turns away for 60 s while it comes, and asks again.
async fn distracted(request: Request) -> Response {
    let mut body = request.into_body();
    assert!(tokio_test::task::spawn(body.frame()).poll().is_pending());
    sleep(millis(60_000)).await;
    length(Request::new(body)).await
}

async fn received(mut body: Body) -> Result<usize, BoxError> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(length)
}

/// Answers at once and reads the body in a task of its own.
async fn background(request: Request) -> StatusCode {
    tokio::spawn(received(request.into_body()));
    StatusCode::ACCEPTED
}

/// Reads the body to its end, answers, and holds on to it.
async fn hoarder(request: Request) -> String {
    let mut body = request.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    tokio::spawn(async move {
        sleep(millis(100_000)).await;
        drop(body);
    });
    length.to_string()
}

/// Becomes an echo that ends our side with `.`, and all of it with `!`.
async fn tunnel(mut request: Request) -> StatusCode {
    tokio::spawn(async move {
        let upgraded = hyper::upgrade::on(&mut request).await.unwrap();
        let mut io = TokioIo::new(upgraded);
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = io.read(&mut buffer).await {
            match buffer[read - 1] {
                b'!' => return,
                b'.' => io.shutdown().await.unwrap(),
                _ => io.write_all(&buffer[..read]).await.unwrap(),
            }
        }
    });
    StatusCode::OK
}

/// Gives the body back as it comes.
async fn duplex(request: Request) -> Body {
    request.into_body()
}

/// Becomes an echo.
async fn upgrade(mut request: Request) -> Response {
    tokio::spawn(async move {
        let upgraded = hyper::upgrade::on(&mut request).await.unwrap();
        let mut io = TokioIo::new(upgraded);
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = io.read(&mut buffer).await {
            io.write_all(&buffer[..read]).await.unwrap();
        }
        let _ = io.shutdown().await;
    });
    let headers = [("connection", "upgrade"), ("upgrade", "echo")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

async fn panics() -> StatusCode {
    panic!("told to panic")
}
