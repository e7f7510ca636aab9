//! Bulk transfer: an echo, or in one direction.

use super::{
    client::{Client, Stream},
    outcome::PATIENCE,
};
use harness::{BoxError, bulk, sequence::Connect};
use std::{
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, split},
    spawn,
    task::JoinSet,
    time::{Instant, timeout},
};

/// Sends so many bytes over each of the connections, and receives as many. Returns the elapsed time.
pub(crate) async fn run(streams: Vec<Stream>, bytes: usize) -> Result<Duration, BoxError> {
    let begun = Instant::now();
    let mut flows = JoinSet::new();
    for stream in streams {
        let (mut reader, mut writer) = split(stream);
        let writing = spawn(async move {
            let mut sent = 0;
            while sent < bytes {
                let chunk = &PATTERN[..PATTERN.len().min(bytes - sent)];
                writer.write_all(chunk).await?;
                sent += chunk.len();
            }
            writer.flush().await?;
            Ok::<_, io::Error>(writer)
        });
        flows.spawn(async move {
            let mut buffer = vec![0; PATTERN.len()];
            let mut got = 0;
            while got < bytes {
                let read = reader.read(&mut buffer).await?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                // The pattern, from the current position.
                if !is_pattern(&buffer[..read], got) {
                    return Err(io::Error::other("the echo is not what was sent"));
                }
                got += read;
            }
            // Only now: the two halves are one stream.
            drop(writing.await?);
            Ok::<_, io::Error>(())
        });
    }
    timeout(PATIENCE * 3, async {
        while let Some(flow) = flows.join_next().await {
            flow??;
        }
        Ok::<_, BoxError>(())
    })
    .await??;
    Ok(begun.elapsed())
}

/// Sends or receives so many bytes over each of some connections, by the protocol of [`harness::bulk`]. Returns the
/// elapsed time.
pub(crate) async fn one_way(
    client: &Client,
    connections: usize,
    bytes: u64,
    download: bool,
) -> Result<Duration, BoxError> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(client.connect().await?);
    }
    let begun = Instant::now();
    let mut flows = JoinSet::new();
    for stream in streams {
        match download {
            true => flows.spawn(bulk::download(stream, bytes)),
            false => flows.spawn(bulk::upload(stream, bytes)),
        };
    }
    timeout(PATIENCE * 3, async {
        while let Some(flow) = flows.join_next().await {
            flow??;
        }
        Ok::<_, BoxError>(())
    })
    .await??;
    Ok(begun.elapsed())
}

/// The same with clients that are threads, and block. They take less of the machine, which the server shares.
pub(crate) async fn one_way_by_threads(
    address: SocketAddr,
    connections: usize,
    bytes: u64,
    download: bool,
) -> Result<Duration, BoxError> {
    let mut streams = Vec::new();
    let mut flows = JoinSet::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let begun = Instant::now();
    for stream in &streams {
        let stream = stream.try_clone()?;
        flows.spawn_blocking(move || match download {
            true => bulk::blocking::download(stream, bytes),
            false => bulk::blocking::upload(stream, bytes),
        });
    }
    let done = timeout(PATIENCE * 3, async {
        while let Some(flow) = flows.join_next().await {
            flow??;
        }
        Ok::<_, BoxError>(begun.elapsed())
    });
    let done = done.await;
    // Also ends the threads that are left.
    for stream in streams {
        let _ = stream.shutdown(Shutdown::Both);
    }
    done?
}

fn is_pattern(mut bytes: &[u8], position: usize) -> bool {
    let mut position = position % PATTERN.len();
    while !bytes.is_empty() {
        let length = bytes.len().min(PATTERN.len() - position);
        if bytes[..length] != PATTERN[position..position + length] {
            return false;
        }
        bytes = &bytes[length..];
        position = 0;
    }
    true
}

static PATTERN: [u8; 64 * 1024] = {
    let mut pattern = [0; 64 * 1024];
    let mut i = 0;
    while i < pattern.len() {
        pattern[i] = (i % 251) as u8;
        i += 1;
    }
    pattern
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_known_wherever_one_looks() {
        assert!(is_pattern(&PATTERN[100..200], 100));
        assert!(!is_pattern(&PATTERN[100..200], 101));
        let round = [&PATTERN[65_500..], &PATTERN[..100]].concat();
        assert!(is_pattern(&round, 65_500));
    }
}
