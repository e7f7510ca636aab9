mod accept;
mod bind;
mod options;

use super::*;
use socket2::{Domain, Socket, Type};
use std::{net::TcpStream as StdStream, time::Duration};
use tokio_test::{assert_pending, task::spawn};

fn listen(options: TcpOptions) -> TcpListener {
    options.bind("127.0.0.1:0").unwrap()
}

fn connect(listener: &TcpListener) -> StdStream {
    StdStream::connect(listener.local).unwrap()
}

/// Accepts a stream in both ways, through the runtime and straight from the kernel.
async fn accept_both_ways(options: TcpOptions) -> [TcpStream; 2] {
    let mut listener = listen(options);
    let _clients = [connect(&listener), connect(&listener)];
    let (first, _) = listener.accept().await.unwrap();
    let (second, _) = listener.accept_now().unwrap().unwrap().into_parts();
    [first, second]
}

/// Whether the machine has IPv6; prints a message if not.
fn has_ipv6() -> bool {
    let bound = std::net::TcpListener::bind("[::1]:0");
    if bound.is_err() {
        println!("skipped: this machine has no IPv6");
    }
    bound.is_ok()
}
