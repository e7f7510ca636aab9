//! Clients that ask and ask, and know exactly what became of each request.

use crate::{
    h2_frames::{self, DATA, END_STREAM, GOAWAY, PING, RST_STREAM, WINDOW_UPDATE},
    millis,
    peer::get,
};
use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{Instant, sleep},
};

/// What is asked for in turn: at once, slow, larger than the buffers of a socket.
const PATHS: [(&str, usize); 4] = [
    ("/", 5),
    ("/sleep/7", 5),
    ("/big/3000000", 3_000_000),
    ("/stream/40", 40 * 1024),
];

/// What became of requests.
#[derive(Clone, Default)]
pub struct Tally(pub Arc<Mutex<Counts>>);

#[derive(Default)]
pub struct Counts {
    pub answered: Vec<Instant>,
    /// When it was sent, whether its connection had an answer before, and what happened.
    pub failed: Vec<(Instant, bool, String)>,
    pub reconnects: usize,
}

impl Tally {
    fn answered(&self, sent: Instant) {
        self.0.lock().unwrap().answered.push(sent);
    }

    fn failed(&self, sent: Instant, used: bool, error: impl fmt::Display) {
        let failed = (sent, used, error.to_string());
        self.0.lock().unwrap().failed.push(failed);
    }

    fn reconnected(&self) {
        self.0.lock().unwrap().reconnects += 1;
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().answered.len()
    }

    /// Requests that were sent up to `end` and not answered, on used connections up to `used_end`.
    pub fn lost(&self, end: Instant, used_end: Instant) -> Vec<(Instant, bool, String)> {
        let counts = self.0.lock().unwrap();
        let lost =
            |failed: &&(Instant, bool, String)| failed.0 <= if failed.1 { used_end } else { end };
        counts.failed.iter().filter(lost).cloned().collect()
    }
}

/// Sends a request and reads all of its answer: whether the connection may be used again.
pub async fn ask(io: &mut BufReader<TcpStream>, path: &str, length: usize) -> io::Result<bool> {
    io.write_all(get(path).as_bytes()).await?;
    let (mut closes, mut chunked, mut line) = (false, false, String::new());
    while line != "\r\n" {
        line.clear();
        if io.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.make_ascii_lowercase();
        closes |= line == "connection: close\r\n";
        chunked |= line == "transfer-encoding: chunked\r\n";
    }
    let mut body = vec![0; length];
    if !chunked {
        io.read_exact(&mut body).await?;
        return Ok(!closes);
    }
    loop {
        line.clear();
        io.read_line(&mut line).await?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        let mut chunk = vec![0; size + 2];
        io.read_exact(&mut chunk).await?;
        if size == 0 {
            return Ok(!closes);
        }
    }
}

/// Asks over HTTP/1.1 until nobody accepts any more.
pub async fn http1_client(address: SocketAddr, number: usize, tally: Tally) {
    let mut turn = number;
    while let Ok(io) = TcpStream::connect(address).await {
        let mut io = BufReader::new(io);
        let mut used = false;
        loop {
            turn += 1;
            let (path, length) = PATHS[turn % PATHS.len()];
            let sent = Instant::now();
            match ask(&mut io, path, length).await {
                Ok(again) => {
                    tally.answered(sent);
                    used = true;
                    if !again {
                        break;
                    }
                }
                Err(error) => {
                    tally.failed(sent, used, error);
                    break;
                }
            }
            if number.is_multiple_of(2) {
                sleep(millis(turn as u64 % 5)).await;
            }
        }
        tally.reconnected();
    }
}

/// Asks over HTTP/2, four streams at a time, until nobody accepts any more.
pub async fn http2_client(address: SocketAddr, number: usize, tally: Tally) {
    let mut turn = number;
    while let Ok(mut io) = TcpStream::connect(address).await {
        let mut open = HashMap::new();
        let mut used = false;
        if let Err(error) = http2_requests(&mut io, &mut turn, &mut open, &mut used, &tally).await {
            for (sent, _, _) in open.into_values() {
                tally.failed(sent, used, &error);
            }
        }
        tally.reconnected();
    }
}

/// Streams that wait for their answer: since when, how long it has to be, and what came of it.
type Open = HashMap<u32, (Instant, usize, usize)>;

/// Asks on one connection until it is told to go away, and reads all answers.
///
/// By hand, because it must be known what was on the wire before the GOAWAY was seen.
async fn http2_requests(
    io: &mut TcpStream,
    turn: &mut usize,
    open: &mut Open,
    used: &mut bool,
    tally: &Tally,
) -> io::Result<()> {
    let (reading, mut writing) = io.split();
    let mut reading = BufReader::new(reading);
    writing.write_all(&http2_hello()).await?;
    let (mut stream, mut told) = (1, false);
    loop {
        while open.len() < 4 && !told {
            *turn += 1;
            let (path, length) = PATHS[*turn % PATHS.len()];
            open.insert(stream, (Instant::now(), length, 0));
            let request = h2_frames::request(stream, "GET", path, END_STREAM);
            writing.write_all(&request).await?;
            stream += 2;
        }
        if open.is_empty() {
            return Ok(());
        }
        let frame = h2_frames::read_frame(&mut reading).await;
        let frame = frame.ok_or(io::ErrorKind::UnexpectedEof)?;
        match frame.kind {
            GOAWAY => told = true,
            RST_STREAM => return Err(io::Error::other(format!("{frame:?}"))),
            PING if frame.flags == 0 => {
                let ack = h2_frames::frame(PING, 1, 0, &frame.payload);
                writing.write_all(&ack).await?;
            }
            _ => {}
        }
        if let Some((_, _, got)) = open.get_mut(&frame.stream) {
            *got += if frame.kind == DATA {
                frame.payload.len()
            } else {
                0
            };
        }
        if frame.ends_stream() {
            let (sent, length, got) = open.remove(&frame.stream).expect("a stream of ours");
            match got == length {
                true => tally.answered(sent),
                false => tally.failed(sent, *used, "cut short"),
            }
            *used = true;
        }
    }
}

/// With windows as large as they get.
pub fn http2_hello() -> Vec<u8> {
    let window = (i32::MAX as u32 - 65_535).to_be_bytes();
    let window = h2_frames::frame(WINDOW_UPDATE, 0, 0, &window);
    [h2_frames::hello(i32::MAX as u32), window].concat()
}

/// Reads until `stream` ends; answers pings.
pub async fn http2_answer(io: &mut TcpStream, stream: u32) -> bool {
    loop {
        let Some(frame) = h2_frames::read_frame(io).await else {
            return false;
        };
        if frame.kind == PING && frame.flags == 0 {
            let ack = h2_frames::frame(PING, 1, 0, &frame.payload);
            let _ = io.write_all(&ack).await;
        }
        if frame.stream == stream && frame.kind == RST_STREAM {
            return false;
        }
        if frame.stream == stream && frame.ends_stream() {
            return true;
        }
    }
}
