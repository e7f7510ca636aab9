//! A WebSocket echo with axum, behind a stack of layers.
//!
//! ```text
//! cargo run --release --features http --example websocket      # or: -- 127.0.0.1:8080
//! python3 -m websockets ws://127.0.0.1:PORT/                   # pip install websockets
//! ```
//!
//! A WebSocket is an upgraded HTTP connection. It keeps what the layers attached, such as its connection
//! permit, until it closes. It may stay silent indefinitely, so reads have no timeout; a client that does not
//! read is disconnected. On Ctrl-C or SIGTERM each handler sends a close frame and waits a second for the
//! reply.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use axum::{
    Extension, Router,
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    response::Response,
    routing::any,
};
use portcullis::{
    BoxError, ConnectionInfo, Server, ServiceBuilderExt, listener::TcpListener,
    middleware::timeout::IoTimeoutLayer, service::HttpService,
};
use std::{env, pin::pin, time::Duration};
use tokio::time::timeout;
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(&address)?;
    let address = listener.local_addr()?;
    println!("listening on {address}");
    println!("try: python3 -m websockets ws://{address}/");

    let router = Router::new().route("/", any(upgrade));
    let stack = ServiceBuilder::new()
        .peer_addr()
        .connection_limit(1000)
        .layer(IoTimeoutLayer::new().without_read_timeout())
        .service(HttpService::new(router));
    let report = Server::new()
        .listen(listener, stack)
        .stop_on_signals()
        .run()
        .await?;
    let (ended, forced) = (report.ended(), report.force_closed().len());
    println!("ended: {ended} finished, {forced} force-closed");
    Ok(())
}

async fn upgrade(
    upgrade: WebSocketUpgrade,
    Extension(info): Extension<ConnectionInfo>,
) -> Response {
    upgrade
        .max_message_size(64 * 1024)
        .on_upgrade(move |socket| echo(socket, info))
}

/// Echoes messages until the client leaves or the server shuts down.
async fn echo(mut socket: WebSocket, info: ConnectionInfo) {
    let mut drain = pin!(info.drain());
    loop {
        let received = tokio::select! {
            received = socket.recv() => received,
            () = &mut drain => break,
        };
        let Some(Ok(message)) = received else { return };
        // The library answers pings and close frames.
        if matches!(message, Message::Text(_) | Message::Binary(_))
            && socket.send(message).await.is_err()
        {
            return;
        }
    }
    let good_bye = CloseFrame {
        code: close_code::AWAY,
        reason: "the server shuts down".into(),
    };
    if socket.send(Message::Close(Some(good_bye))).await.is_ok() {
        let answer = async { while let Some(Ok(_)) = socket.recv().await {} };
        let _answered = timeout(Duration::from_secs(1), answer).await;
    }
}
