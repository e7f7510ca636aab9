//! A client that sends exactly what a test writes.

use serde_json::Value;
use std::{net::SocketAddr, path::PathBuf};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

pub(super) struct Api {
    address: Address,
    head: String,
    host: Option<String>,
}

enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Api {
    pub(super) fn tcp(address: SocketAddr) -> Self {
        Self {
            address: Address::Tcp(address),
            head: String::new(),
            host: Some(address.to_string()),
        }
    }

    pub(super) fn unix(path: PathBuf) -> Self {
        Self {
            address: Address::Unix(path),
            head: String::new(),
            host: Some("anything".into()),
        }
    }

    pub(super) fn with_host(mut self, host: Option<&str>) -> Self {
        self.host = host.map(str::to_owned);
        self
    }

    pub(super) fn with_header(mut self, line: &str) -> Self {
        self.head += line;
        self.head += "\r\n";
        self
    }

    pub(super) fn with_token(self, token: &str) -> Self {
        self.with_header(&format!("authorization: Bearer {token}"))
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    pub(super) async fn post(&self, path: &str) -> Answer {
        self.send("POST", path, "").await
    }

    pub(super) async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let host = self.host.as_ref();
        let host = host.map_or_else(String::new, |host| format!("host: {host}\r\n"));
        let request = format!(
            "{method} {path} HTTP/1.1\r\n{host}{}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.head,
            body.len()
        );
        match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await.expect("it listens");
                exchange(stream, request.as_bytes()).await
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.expect("it listens");
                exchange(stream, request.as_bytes()).await
            }
        }
    }
}

/// Sends `request` and reads the response to the end of the stream.
pub(super) async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> Answer {
    // The response may come before all was sent.
    let _refused = stream.write_all(request).await;
    let mut text = Vec::new();
    let _reset = stream.read_to_end(&mut text).await;
    let text = String::from_utf8_lossy(&text);
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Answer {
        status: status.expect("a status"),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).expect("it is JSON")
    }

    /// What the answer says is wrong.
    pub(super) fn error(&self) -> String {
        let json: Value = serde_json::from_str(&self.body).expect("it is JSON");
        json["error"].as_str().expect("an error").to_owned()
    }
}
