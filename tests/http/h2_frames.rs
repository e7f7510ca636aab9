//! HTTP/2 by hand (RFC 9113): a client that does what it is told and no more.

use crate::peer::Peer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// Of a GOAWAY: the last stream that is served.
    pub fn last_stream(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Preface and settings: windows of streams begin with `window` bytes.
pub fn hello(window: u32) -> Vec<u8> {
    let mut settings = vec![0, 4];
    settings.extend(window.to_be_bytes());
    [PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat()
}

/// A header block without Huffman codes and without the table (RFC 7541, 6.2.2).
pub fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        for text in [name, value] {
            if text == name {
                block.push(0);
            }
            assert!(text.len() < 127, "needs a longer integer");
            block.push(text.len() as u8);
            block.extend(text.bytes());
        }
    }
    block
}

/// A request for `path`; `flags` beside the end of headers.
pub fn request(stream: u32, method: &str, path: &str, flags: u8) -> Vec<u8> {
    let block = headers(&[
        (":method", method),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", path),
    ]);
    frame(HEADERS, END_HEADERS | flags, stream, &block)
}

pub async fn read_frame(io: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let mut head = [0; 9];
    io.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
    let mut payload = vec![0; length as usize];
    io.read_exact(&mut payload).await.ok()?;
    Some(Frame {
        kind: head[3],
        flags: head[4],
        stream,
        payload,
    })
}

impl Peer {
    /// Says hello, with windows of `window` bytes, and reads the server's settings.
    pub async fn h2(&mut self, window: u32) {
        self.send(hello(window)).await;
        while self.frame().await.kind != SETTINGS {}
    }

    /// Asks for `path` on `stream`.
    pub async fn h2_get(&mut self, stream: u32, path: &str) {
        self.send(request(stream, "GET", path, END_STREAM)).await;
    }

    /// The next frame that says something: settings and pings are answered on the way.
    pub async fn frame(&mut self) -> Frame {
        self.next_frame().await.expect("the connection has ended")
    }

    /// The same, or the end.
    pub async fn next_frame(&mut self) -> Option<Frame> {
        loop {
            let frame = read_frame(&mut self.io).await?;
            match frame.kind {
                SETTINGS | PING if frame.flags & ACK != 0 => {}
                SETTINGS => {
                    let _ = self.io.write_all(&self::frame(SETTINGS, ACK, 0, &[])).await;
                    return Some(frame);
                }
                PING => {
                    let ack = self::frame(PING, ACK, 0, &frame.payload);
                    let _ = self.io.write_all(&ack).await;
                }
                WINDOW_UPDATE => {}
                _ => return Some(frame),
            }
        }
    }

    /// Reads frames until `stream` ends; all data that came on it.
    pub async fn h2_answer(&mut self, stream: u32) -> Vec<u8> {
        let mut data = Vec::new();
        loop {
            let frame = self.frame().await;
            assert_ne!(frame.kind, RST_STREAM, "{frame:?}");
            if frame.stream == stream {
                if frame.kind == DATA {
                    data.extend(&frame.payload);
                }
                if frame.ends_stream() {
                    return data;
                }
            }
        }
    }

    /// Opens the window of `stream`, and that of the connection with it.
    pub async fn h2_window(&mut self, stream: u32, bytes: u32) {
        self.send(frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes()))
            .await;
        self.send(frame(WINDOW_UPDATE, 0, 0, &bytes.to_be_bytes()))
            .await;
    }
}
