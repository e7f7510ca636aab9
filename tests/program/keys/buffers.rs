//! The buffers of the kernel: a side that stops reading stops the other one early.

use super::{PATIENCE, Running};
use crate::gate::Folder;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// How much is accepted of `sender` once `receiver` stops reading after a transfer.
async fn accepted(sender: &mut TcpStream, receiver: &mut TcpStream) -> usize {
    let piece = vec![7; 64 * 1_024];
    let mut received = vec![0; piece.len()];
    // The system enlarges its buffers while much moves.
    let sending = async {
        for _ in 0..PIECES {
            sender.write_all(&piece).await.expect("it is open");
        }
    };
    let receiving = async {
        for _ in 0..PIECES {
            receiver
                .read_exact(&mut received)
                .await
                .expect("it is open");
        }
    };
    let both = async { tokio::join!(sending, receiving) };
    timeout(PATIENCE, both).await.expect("it is too slow");
    let mut accepted = 0;
    while let Ok(wrote) = timeout(Duration::from_millis(300), sender.write(&piece)).await {
        accepted += wrote.expect("it is open");
    }
    let mut left = accepted;
    while left > 0 {
        let read = timeout(PATIENCE, receiver.read(&mut received)).await;
        left -= read.expect("it is too slow").expect("it is open");
    }
    accepted
}

const PIECES: usize = 1_024;

/// With small buffers, so that only those of the program count.
fn socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(64 * 1_024).expect("a size");
    socket.set_send_buffer_size(64 * 1_024).expect("a size");
    socket
}

#[tokio::test]
async fn a_side_that_stops_reading_stops_the_other_one_once_the_buffers_of_the_kernel_are_full() {
    let listening = socket();
    let any = "127.0.0.1:0".parse().expect("an address");
    listening.bind(any).expect("a port");
    let server = listening.listen(1).expect("it listens");
    let at = server.local_addr().expect("an address");
    let keys = "receive-buffer = \"64 KiB\"\nsend-buffer = \"64 KiB\"";
    let backend = format!("servers = \"{at}\"\nhealth = \"off\"\n{keys}");
    let running = Running::in_folder(Folder::new(), "", &[keys], &backend).await;
    let connecting = socket().connect(running.addresses[0]);
    let (client, server) = tokio::join!(connecting, server.accept());
    let (mut client, mut server) = (client.expect("it listens"), server.expect("a connection").0);
    let up = accepted(&mut client, &mut server).await;
    let down = accepted(&mut server, &mut client).await;
    // 520,000 to 650,000 in each direction. If one of the four may grow, it is two million and more.
    assert!(up.max(down) < 1_200_000, "up {up}, down {down}");
}
