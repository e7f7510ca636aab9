//! The server that `tests/http_interop.py` talks to: this test binary in another role.

use crate::{app::app, millis, seconds, support::tls};
use axum::{
    extract::ws::{Message, WebSocket, WebSocketUpgrade},
    routing::any,
};
use portcullis::{
    Server, ServiceBuilderExt, listener::TcpListener, server::Drain, service::HttpService,
};
use std::{env, fs};
use tower::ServiceBuilder;

#[test]
#[ignore = "runs until SIGTERM; http_interop.py starts it"]
fn serves_until_sigterm() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let app = app()
            .route(
                "/websocket",
                any(async |up: WebSocketUpgrade| up.on_upgrade(echo)),
            )
            .route(
                "/farewell",
                any(async |up: WebSocketUpgrade| up.on_upgrade(farewell)),
            );
        let http = HttpService::new(app);
        let plain = TcpListener::bind("127.0.0.1:0").unwrap();
        let encrypted = TcpListener::bind("127.0.0.1:0").unwrap();
        let certificate = env::var("CERTIFICATE").expect("where to write the certificate");
        fs::write(certificate, tls::certificate_pem()).unwrap();
        let addresses = [&plain, &encrypted].map(|listener| listener.local_addr().unwrap());
        println!("\nlistening on {} and {}", addresses[0], addresses[1]);
        let drain = Drain::new()
            .with_notice_period(millis(300))
            .with_deadline(seconds(10));
        let stack = ServiceBuilder::new().peer_addr().service(http.clone());
        let tls_stack = ServiceBuilder::new()
            .peer_addr()
            .layer(tls::layer().with_alpn(["h2", "http/1.1"]))
            .service(http);
        let server = Server::new()
            .listen(plain, stack)
            .listen(encrypted, tls_stack);
        let report = server.drain(drain).stop_on_signals().run().await.unwrap();
        println!(
            "ended {}, cut {}",
            report.ended(),
            report.force_closed().len()
        );
        assert!(report.force_closed().is_empty());
    });
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        // A Close is answered by the next `recv`.
        let closes = matches!(message, Message::Close(_));
        if !closes && socket.send(message).await.is_err() {
            break;
        }
    }
}

/// Hears one message, says a hundred and good-bye, and drops the connection whatever else comes.
async fn farewell(mut socket: WebSocket) {
    let _ = socket.recv().await;
    for number in 0..100 {
        let _ = socket.send(Message::text(number.to_string())).await;
    }
    let _ = socket.send(Message::Close(None)).await;
}
