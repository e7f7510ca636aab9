//! One health check of one server.

#[cfg(feature = "tls")]
use super::ServerTls;
use super::{
    BackendIo, HealthCheck, Server, ServerAddress,
    dial::{Dialer, Purpose},
    health::Probe,
};
use crate::connect::Target;
#[cfg(feature = "tls")]
use portcullis_middleware::internal::expires_soon;
use portcullis_middleware::{BoxError, Connection, ConnectionInfo};
#[cfg(feature = "tls")]
use std::time::SystemTime;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
#[cfg(feature = "tls")]
use tokio::time::timeout;

/// What a check has found.
pub(super) struct Found {
    pub(super) text: String,
    /// How long the certificate of the server is still valid, if it expires soon.
    pub(super) expires_in: Option<Duration>,
    /// That of the connection to the server.
    pub(super) info: ConnectionInfo,
}

/// Checks `server` without a timeout, and returns what was found.
pub(super) async fn check(
    dialer: &Dialer,
    check: &HealthCheck,
    server: &Server,
) -> Result<Found, BoxError> {
    let target = target(check, server)?;
    let mut connection = dialer.dial(&target, Purpose::Check).await?;
    let text = match &check.probe {
        Probe::Tcp => "accepted a connection".to_owned(),
        #[cfg(feature = "tls")]
        Probe::Tls => handshake(&mut connection).await?,
        Probe::Http {
            path,
            host,
            statuses,
        } => {
            let host = host.as_deref().map(str::to_owned);
            let host = host.unwrap_or_else(|| authority(&target));
            let status = request(&mut connection, path, &host).await?;
            match statuses.contains(&status) {
                true => format!("status {status}"),
                false => return Err(format!("status {status}").into()),
            }
        }
        Probe::Exchange { send, expect } => exchange(&mut connection, &send.0, expect).await?,
    };
    // A server that reads to the end would report an error without it.
    let _gone = connection.shutdown().await;
    Ok(found(text, check, &connection))
}

/// Adds when the certificate of the server expires, if that is soon or the check is for TLS.
#[cfg(feature = "tls")]
fn found(mut text: String, check: &HealthCheck, connection: &Connection<BackendIo>) -> Found {
    let now = SystemTime::now();
    let facts = connection.info().peer_certificate();
    let expires_in = facts.and_then(|facts| expires_soon(facts, now));
    let left = facts.and_then(|facts| facts.not_after.duration_since(now).ok());
    if let Some(left) = left
        && (expires_in.is_some() || check.probe == Probe::Tls)
    {
        let days = left.as_secs() / (24 * 60 * 60);
        text += &format!("; its certificate expires in {days} days");
    }
    Found {
        text,
        expires_in,
        info: connection.info().clone(),
    }
}

#[cfg(not(feature = "tls"))]
fn found(text: String, _: &HealthCheck, connection: &Connection<BackendIo>) -> Found {
    Found {
        text,
        expires_in: None,
        info: connection.info().clone(),
    }
}

/// The `host` of a request to `server`.
fn authority(server: &Server) -> String {
    #[cfg_attr(
        not(any(unix, feature = "dns")),
        expect(
            clippy::infallible_destructuring_match,
            reason = "there are Unix sockets elsewhere"
        )
    )]
    let target = match server.address() {
        ServerAddress::Tcp(target) => target,
        #[cfg(feature = "dns")]
        ServerAddress::Srv(service) => return service.domain().to_owned(),
        #[cfg(unix)]
        ServerAddress::Unix(_) => return "localhost".to_owned(),
    };
    let port = target.address().map(|address| address.port());
    let named = server.host().zip(port);
    let named = named.and_then(|named| Target::try_from(named).ok());
    named.as_ref().unwrap_or(target).to_string()
}

/// The server as the check connects to it.
fn target(check: &HealthCheck, server: &Server) -> Result<Server, BoxError> {
    #[cfg(feature = "tls")]
    let mut target = {
        let tls = match (&check.probe, check.port, &check.tls) {
            (Probe::Tcp, ..) => None,
            (_, None, None) => server.tls(),
            (_, _, tls) => tls.as_ref(),
        };
        server.with_check_tls(tls.cloned().map(ServerTls::without_resumption))
    };
    #[cfg(not(feature = "tls"))]
    let mut target = server.clone();
    if let Some(port) = check.port {
        let address = match server.address() {
            ServerAddress::Tcp(target) => target.address(),
            #[cfg(feature = "dns")]
            ServerAddress::Srv(_) => None,
            #[cfg(unix)]
            ServerAddress::Unix(_) => None,
        };
        let ip = address
            .ok_or("a server without an IP address has no other port")?
            .ip();
        target = target.for_check_at(SocketAddr::new(ip, port));
    }
    #[cfg(feature = "tls")]
    if matches!(check.probe, Probe::Tls) && target.tls().is_none() {
        return Err("the server has no TLS settings; set them for the check".into());
    }
    Ok(target)
}

/// Waits a little for an alert, because under TLS 1.3 a server rejects the client's certificate, or the lack of one, after
/// the client has completed the handshake (RFC 8446, section 4.4.2.4).
#[cfg(feature = "tls")]
async fn handshake(connection: &mut Connection<BackendIo>) -> Result<String, BoxError> {
    let reading = timeout(ALERT_TIMEOUT, connection.read_u8()).await;
    if let Ok(Err(error)) = reading
        && error.kind() == io::ErrorKind::InvalidData
    {
        return Err(error.into());
    }
    Ok("completed a TLS handshake".to_owned())
}

/// Returns the status of the response.
async fn request(
    connection: &mut Connection<BackendIo>,
    path: &str,
    host: &str,
) -> Result<u16, BoxError> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: portcullis\r\nconnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await?;
    connection.flush().await?;
    let mut received = Vec::new();
    let is_enough = |received: &[u8]| received.contains(&b'\n');
    read_until(connection, &mut received, MAX_STATUS_LINE, is_enough).await?;
    status(&received).ok_or_else(|| unexpected(&received))
}

/// The status in `HTTP/1.1 200 OK` (RFC 9112, section 4).
fn status(received: &[u8]) -> Option<u16> {
    let line = received.split(|byte| *byte == b'\n').next()?;
    let line = line.strip_prefix(b"HTTP/1.")?;
    let [_minor, b' ', status @ ..] = line else {
        return None;
    };
    let status = status.first_chunk::<3>()?;
    let text = std::str::from_utf8(status).ok()?;
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

async fn exchange(
    connection: &mut Connection<BackendIo>,
    send: &[u8],
    expect: &[Arc<[u8]>],
) -> Result<String, BoxError> {
    connection.write_all(send).await?;
    connection.flush().await?;
    let contains = |received: &[u8]| {
        let has = |text: &Arc<[u8]>| {
            text.is_empty() || received.windows(text.len()).any(|window| window == &**text)
        };
        expect.iter().any(has)
    };
    let mut received = Vec::new();
    read_until(connection, &mut received, MAX_REPLY, contains).await?;
    match contains(&received) {
        true => Ok("replied as expected".to_owned()),
        false => Err(unexpected(&received)),
    }
}

/// Reads until there is enough, the stream ends, or `max` bytes have been read.
async fn read_until(
    connection: &mut Connection<BackendIo>,
    received: &mut Vec<u8>,
    max: usize,
    is_enough: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    while !is_enough(received) && received.len() < max {
        let mut limited = (&mut *connection).take((max - received.len()) as u64);
        if limited.read_buf(received).await? == 0 {
            break;
        }
    }
    Ok(())
}

fn unexpected(received: &[u8]) -> BoxError {
    if received.is_empty() {
        return "the server closed the connection without a reply".into();
    }
    let shown = &received[..received.len().min(SHOWN)];
    let text = String::from_utf8_lossy(shown);
    // The report of a check is escaped as a whole.
    format!("unexpected reply: {text}").into()
}

/// Longer than most round trips to a server, and shorter than all timeouts of checks.
#[cfg(feature = "tls")]
const ALERT_TIMEOUT: Duration = Duration::from_millis(100);
const MAX_STATUS_LINE: usize = 1024;
const MAX_REPLY: usize = 4 * 1024;
/// Of an unexpected reply.
const SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_the_second_word_of_the_first_line() {
        for (response, expected) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 503\r\n", Some(503)),
            ("HTTP/1.1 204", Some(204)),
            ("HTTP/1.1 20", None),
            ("HTTP/1.1 +20 OK", None),
            ("HTTP/2 200", None),
            ("HTTP/1.1  200", None),
            ("SSH-2.0-OpenSSH", None),
            ("\nHTTP/1.1 200", None),
            ("", None),
        ] {
            assert_eq!(status(response.as_bytes()), expected, "{response:?}");
        }
    }

    #[test]
    fn an_unexpected_reply_is_shown_shortened() {
        assert_eq!(
            unexpected(b"-LOADING").to_string(),
            "unexpected reply: -LOADING"
        );
        assert!(unexpected(&[b'x'; 1000]).to_string().len() < 100);
    }
}
