//! The listener yields bare streams, and the stack wants connections.

use portcullis::{Connection, Server, ServiceBuilderExt, listener::TcpListener};
use tower::ServiceBuilder;

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stack = ServiceBuilder::new()
        .connection_limit(100)
        .service_fn(|connection: Connection<tokio::net::TcpStream>| async move {
            drop(connection);
            std::io::Result::Ok(())
        });
    let _ = Server::new().listen(listener, stack);
}
