//! A handler that returns nothing instead of a result.

use portcullis::{Connection, Server, ServiceBuilderExt, listener::TcpListener};
use tokio::net::TcpStream;
use tower::ServiceBuilder;

type Socket = portcullis::connection::Socket<TcpStream>;

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stack = ServiceBuilder::new()
        .peer_addr()
        .service_fn(|_connection: Connection<Socket>| async move {});
    let _ = Server::new().listen(listener, stack);
}
