//! A handler that holds something across a point of waiting that must not leave its thread.

use portcullis::{Connection, Server, ServiceBuilderExt, listener::TcpListener};
use std::{io, rc::Rc};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tower::ServiceBuilder;

type Socket = portcullis::connection::Socket<TcpStream>;

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stack = ServiceBuilder::new().peer_addr().service_fn(
        |mut connection: Connection<Socket>| async move {
            let greeting = Rc::new("hello");
            connection.write_all(greeting.as_bytes()).await?;
            Ok::<_, io::Error>(())
        },
    );
    let _ = Server::new().listen(listener, stack);
}
