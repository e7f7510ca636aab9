//! Requests to the admin interface.

use crate::config::{self, Config, ListenAddress, Severity, TokenSource, chain};
use bytes::Bytes;
use http::{
    Method, Request, StatusCode,
    header::{AUTHORIZATION, CONNECTION, CONTENT_SECURITY_POLICY, HOST, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use portcullis::middleware::tls::TlsConnector;
use std::{
    env, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

/// Where the admin interface is, and the token for it.
pub(crate) struct Client {
    address: Address,
    token: Option<String>,
    /// Why that of the configuration cannot be read.
    no_token: Option<String>,
    roots: Option<PathBuf>,
    timeout: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum Address {
    /// `host:port`.
    Tcp(String),
    /// The same with TLS.
    Tls(String),
    Unix(PathBuf),
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
    /// What to do about a token that is missing.
    pub(crate) needs_token: Option<String>,
}

/// What a command line says of the interface.
#[derive(Clone, Copy)]
pub(crate) struct Interface<'a> {
    pub(crate) admin: Option<&'a str>,
    pub(crate) config: &'a Path,
    pub(crate) token_file: Option<&'a Path>,
    pub(crate) roots: Option<&'a Path>,
    /// For each request.
    pub(crate) timeout: Duration,
}

impl Client {
    pub(crate) fn new(args: Interface<'_>) -> Result<Self, String> {
        let configured = match &args.admin {
            Some(_) => None,
            None => Some(configured(args.config)?),
        };
        let address = match (&args.admin, &configured) {
            (Some(address), _) => Address::parse(address)?,
            (None, Some(admin)) => Address::of(&admin.listen.value, admin.tls.is_some()),
            (None, None) => unreachable!("one of them is there"),
        };
        let mut no_token = None;
        let token = match (args.token_file, env::var("PORTCULLIS_TOKEN")) {
            (Some(file), _) => Some(TokenSource::File(file.into()).load()?.expose().to_owned()),
            (None, Ok(token)) => Some(token),
            // That of the configuration, for those who may read it.
            (None, Err(_)) => match configured.and_then(|admin| admin.token) {
                Some(token) => match token.value.load() {
                    Ok(token) => Some(token.expose().to_owned()),
                    Err(error) => {
                        no_token = Some(format!("{}{error}", token.place.before()));
                        None
                    }
                },
                None => None,
            },
        };
        Ok(Self {
            address,
            token,
            no_token,
            roots: args.roots.map(Into::into),
            timeout: args.timeout,
        })
    }

    pub(crate) async fn request(
        &self,
        method: &Method,
        path: &str,
        body: String,
    ) -> Result<Answer, String> {
        let exchange = async {
            match &self.address {
                Address::Tcp(address) => {
                    let stream = portcullis::connect::connect(address).await;
                    let stream = stream.map_err(|error| self.failed(&error))?;
                    self.exchange(stream, address, method, path, body).await
                }
                Address::Tls(address) => {
                    let tls = self.tls()?;
                    let stream = portcullis::connect::connect(address).await;
                    let stream = stream.map_err(|error| self.failed(&error))?;
                    let name = host_of(address);
                    let stream = tls.connect(name, stream).await;
                    let stream = stream.map_err(|error| self.failed(&error))?;
                    self.exchange(stream, address, method, path, body).await
                }
                #[cfg(not(unix))]
                Address::Unix(_) => Err(format!("{self}: this system has no Unix sockets")),
                #[cfg(unix)]
                Address::Unix(path_of_socket) => {
                    let stream = tokio::net::UnixStream::connect(path_of_socket).await;
                    let stream = stream.map_err(|error| {
                        let advice = advice(error.kind());
                        self.failed(&error) + advice
                    })?;
                    self.exchange(stream, "localhost", method, path, body).await
                }
            }
        };
        let answer = timeout(self.timeout, exchange).await;
        answer.unwrap_or_else(|_| Err(format!("{self}: no answer within {:?}", self.timeout)))
    }

    /// Whether the program has stopped listening, because a connection is refused or the file of the socket is missing.
    pub(crate) async fn is_absent(&self) -> bool {
        let connect = async {
            match &self.address {
                Address::Tcp(address) | Address::Tls(address) => {
                    TcpStream::connect(&**address).await.map(drop)
                }
                #[cfg(not(unix))]
                Address::Unix(_) => Ok(()),
                #[cfg(unix)]
                Address::Unix(path) => tokio::net::UnixStream::connect(path).await.map(drop),
            }
        };
        let connected = timeout(self.timeout, connect).await;
        connected.is_ok_and(|it| it.is_err_and(|error| is_absent(error.kind())))
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: &str,
        method: &Method,
        path: &str,
        body: String,
    ) -> Result<Answer, String> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.failed(&error))?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host)
            .header(CONNECTION, "close");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.failed(&error))?;
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| self.failed(&error))?;
        let status = response.status();
        // All answers of an admin interface have it.
        let is_ours = response.headers().get(X_CONTENT_TYPE_OPTIONS).is_some()
            && response.headers().contains_key(CONTENT_SECURITY_POLICY);
        if !is_ours {
            return Err(format!(
                "{self}: this is not an admin interface of portcullis"
            ));
        }
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| self.failed(&error))?.to_bytes();
        driver.abort();
        let needs_token = (status == StatusCode::UNAUTHORIZED).then(|| {
            let reason = self.no_token.iter().map(|reason| format!("; {reason}"));
            let change = if method == Method::POST {
                "change"
            } else {
                "request"
            };
            let way = "set PORTCULLIS_TOKEN, or use --token-file";
            format!(
                "this {change} needs the token: {way}{}",
                reason.collect::<String>()
            )
        });
        Ok(Answer {
            status,
            text: String::from_utf8_lossy(&body).into_owned(),
            needs_token,
        })
    }

    fn tls(&self) -> Result<TlsConnector, String> {
        let connector = match &self.roots {
            None => TlsConnector::with_native_roots().map_err(|error| chain(&error)),
            Some(roots) => fs::read(roots)
                .map_err(|error| format!("{} cannot be read: {error}", roots.display()))
                .and_then(|pem| TlsConnector::with_roots_pem(&pem).map_err(|error| chain(&error))),
        };
        connector.map_err(|error| format!("{self}: {error}"))
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> String {
        format!("{self}: {}", chain(error))
    }
}

fn is_absent(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
    )
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.address {
            Address::Tcp(address) => write!(f, "http://{address}"),
            Address::Tls(address) => write!(f, "https://{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        if text.starts_with('/') || text.starts_with('.') {
            return Ok(Self::Unix(text.into()));
        }
        let tls = text.strip_prefix("https://");
        let address = tls.or(text.strip_prefix("http://")).unwrap_or(text);
        let address = address.trim_end_matches('/');
        if address.is_empty() || address.contains('/') {
            return Err(format!(
                "\"{}\" is not an admin interface; write http://127.0.0.1:9900 or unix:/path",
                text.escape_debug()
            ));
        }
        let port = address
            .rsplit_once(':')
            .filter(|(_, port)| !port.contains(']'));
        Ok(match (port, tls) {
            (Some(_), None) => Self::Tcp(address.to_owned()),
            (Some(_), Some(_)) => Self::Tls(address.to_owned()),
            (None, None) => Self::Tcp(format!("{address}:80")),
            (None, Some(_)) => Self::Tls(format!("{address}:443")),
        })
    }

    /// An address to listen on, as an address to connect to.
    fn of(listen: &ListenAddress, has_tls: bool) -> Self {
        let address = match listen {
            ListenAddress::Unix(path) => return Self::Unix(path.clone()),
            ListenAddress::Tcp(address) if !address.ip().is_unspecified() => address.to_string(),
            ListenAddress::Tcp(address) if address.is_ipv4() => {
                format!("127.0.0.1:{}", address.port())
            }
            ListenAddress::Tcp(address) => format!("[::1]:{}", address.port()),
            ListenAddress::Activated(_) => unreachable!("[admin] has no such address"),
        };
        if has_tls {
            Self::Tls(address)
        } else {
            Self::Tcp(address)
        }
    }
}

/// What to do if the Unix socket of the interface cannot be connected to.
#[cfg(unix)]
fn advice(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind;
    match kind {
        ErrorKind::PermissionDenied => {
            "; only the user of the program and root may use it, so run this as one of them"
        }
        ErrorKind::ConnectionRefused => {
            "; no program listens there any more, so start it, or name another socket"
        }
        ErrorKind::NotFound => "; the program is not running, or its socket is elsewhere",
        _ => "",
    }
}

/// The host of `host:port`.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The admin interface of a configuration file, which may have problems elsewhere.
fn configured(file: &Path) -> Result<config::Admin, String> {
    let (config, problems) = Config::load(file);
    config.admin.ok_or_else(|| {
        if !file.exists() {
            return format!(
                "{} is not there; write --admin with the address of the admin interface, or --config",
                file.display()
            );
        }
        // It may be why the section was not read.
        match problems.sorted().into_iter().find(|it| it.severity == Severity::Error) {
            Some(problem) => format!("{problem}\nwrite --admin with the address of the admin interface"),
            None => format!(
                "{}: there is no [admin] section; write --admin with its address",
                file.display()
            ),
        }
    })
}

/// For a request by default. A reload may wait for another one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(35);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_url_or_a_path() {
        let tcp = |text: &str| Ok(Address::Tcp(text.into()));
        assert_eq!(
            Address::parse("http://127.0.0.1:9900/"),
            tcp("127.0.0.1:9900")
        );
        assert_eq!(Address::parse("gate.internal"), tcp("gate.internal:80"));
        assert_eq!(Address::parse("[::1]:9900"), tcp("[::1]:9900"));
        assert_eq!(Address::parse("http://[::1]"), tcp("[::1]:80"));
        let tls = Address::parse("https://gate.internal");
        assert_eq!(tls, Ok(Address::Tls("gate.internal:443".into())));
        let unix = Ok(Address::Unix("/run/a".into()));
        assert_eq!(Address::parse("unix:/run/a"), unix);
        assert_eq!(Address::parse("/run/a"), unix);
        assert!(Address::parse("http://a/b").is_err());
    }
}
