//! TCP and Unix listeners as one type.

use super::{Accepted, Listener, TcpListener};
#[cfg(unix)]
use super::{UnixListener, WeakSocket};
use portcullis_middleware::connection::{Address, AnyStream};
use std::{
    io,
    task::{Context, Poll},
};

/// A TCP or a Unix listener, for one stack that serves both.
///
/// It yields [`AnyStream`].
///
/// ```
/// use portcullis::listener::{AnyListener, TcpListener};
///
/// let mut listeners: Vec<AnyListener> = vec![TcpListener::bind("127.0.0.1:0")?.into()];
/// # #[cfg(unix)] {
/// # let directory = std::env::temp_dir();
/// # let path = directory.join(format!("portcullis-any-{}", std::process::id()));
/// use portcullis::listener::UnixListener;
///
/// listeners.push(UnixListener::bind(path)?.into());
/// # }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyListener {
    /// A TCP listener.
    Tcp(TcpListener),
    /// A Unix listener.
    #[cfg(unix)]
    Unix(UnixListener),
}

impl From<TcpListener> for AnyListener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

#[cfg(unix)]
impl From<UnixListener> for AnyListener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

impl Listener for AnyListener {
    type Io = AnyStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted<AnyStream>>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_accept(cx).map_ok(any),
            #[cfg(unix)]
            Self::Unix(unix) => unix.poll_accept(cx).map_ok(any),
        }
    }

    fn local_address(&self) -> Address {
        match self {
            Self::Tcp(tcp) => tcp.local_address(),
            #[cfg(unix)]
            Self::Unix(unix) => unix.local_address(),
        }
    }

    #[cfg(unix)]
    fn socket(&self) -> Option<WeakSocket> {
        match self {
            Self::Tcp(tcp) => tcp.socket(),
            Self::Unix(unix) => unix.socket(),
        }
    }

    fn is_ready(&self) -> io::Result<bool> {
        match self {
            Self::Tcp(tcp) => tcp.is_ready(),
            #[cfg(unix)]
            Self::Unix(unix) => unix.is_ready(),
        }
    }

    fn accept_now(&mut self) -> io::Result<Option<Accepted<AnyStream>>> {
        match self {
            Self::Tcp(tcp) => Ok(tcp.accept_now()?.map(any)),
            #[cfg(unix)]
            Self::Unix(unix) => Ok(unix.accept_now()?.map(any)),
        }
    }

    fn connection_local_address(&self, io: &AnyStream) -> Address {
        match (self, io) {
            (Self::Tcp(tcp), AnyStream::Tcp(io)) => tcp.connection_local_address(io),
            #[cfg(unix)]
            (Self::Unix(unix), AnyStream::Unix(io)) => unix.connection_local_address(io),
            // The stream is not from this listener.
            (_, io) => portcullis_middleware::connection::Transport::local_address(io),
        }
    }

    fn shard(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(tcp) => tcp.shard().map(Self::Tcp),
            #[cfg(unix)]
            Self::Unix(unix) => unix.shard().map(Self::Unix),
        }
    }
}

fn any<Io: Into<AnyStream>>(accepted: Accepted<Io>) -> Accepted<AnyStream> {
    accepted.map_io(Into::into)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::io::Write;

    #[tokio::test]
    async fn one_type_serves_tcp_and_unix() {
        let directory = super::super::unix::tests::Directory::new("any");
        let path = directory.join("socket");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut to_tcp = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let unix = UnixListener::bind(&path).unwrap();
        let mut to_unix = std::os::unix::net::UnixStream::connect(&path).unwrap();
        to_tcp.write_all(b"tcp").unwrap();
        to_unix.write_all(b"unix").unwrap();

        for (mut listener, sent) in [
            (AnyListener::from(tcp), &b"tcp"[..]),
            (AnyListener::from(unix), b"unix"),
        ] {
            let (mut io, _) = listener.accept().await.unwrap();
            let mut received = vec![0; sent.len()];
            tokio::io::AsyncReadExt::read_exact(&mut io, &mut received)
                .await
                .unwrap();
            assert_eq!(received, sent);
            let local = listener.local_address();
            assert_ne!(local, Address::Unknown);
            assert_eq!(listener.connection_local_address(&io), local);
            assert!(listener.accept_now().unwrap().is_none());
        }
    }
}
