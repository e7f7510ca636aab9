//! The stack fails with what is no error.

use portcullis::{Connection, Server, ServiceBuilderExt, listener::TcpListener};
use tower::ServiceBuilder;

struct NoError;

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stack = ServiceBuilder::new()
        .peer_addr()
        .service_fn(|connection: Connection<_>| async move {
            drop(connection);
            Err::<(), _>(NoError)
        });
    let _ = Server::new().listen(listener, stack);
}
