//! Connection information in tonic's types.

use super::ConnectionInfo;
use ::tonic::transport::server::{Connected, TcpConnectInfo};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// tonic's `TlsConnectInfo<TcpConnectInfo>`. tonic exports that name only with one of its own TLS features.
pub type TlsConnectInfo = <TlsStream<TcpStream> as Connected>::ConnectInfo;

impl ConnectionInfo {
    /// The effective addresses in tonic's type; feature `tonic`.
    ///
    /// In a request's extensions they provide its `remote_addr()` and `local_addr()`.
    pub fn tcp_connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo {
            local_addr: self.local_addr(),
            remote_addr: self.peer_addr(),
        }
    }

    /// The addresses and the peer's certificates in tonic's type; feature `tonic`.
    ///
    /// In a request's extensions they provide its `peer_certs()`. `None` unless
    /// [`TlsLayer`](crate::tls::TlsLayer) performed the handshake, with the default
    /// [session](crate::tls::TlsLayer::unbuffered).
    pub fn tls_connect_info(&self) -> Option<TlsConnectInfo> {
        let mut tls = self.tls()?.tonic.as_ref()?.0.clone();
        *tls.get_mut() = self.tcp_connect_info();
        Some(tls)
    }
}

/// tonic's view of a TLS session, which only tonic can construct.
#[derive(Clone, Debug)]
pub(crate) struct TonicTls(TlsConnectInfo);

impl TonicTls {
    pub(crate) fn of<T>(stream: &T) -> Self
    where
        T: Connected<ConnectInfo = TlsConnectInfo>,
    {
        Self(stream.connect_info())
    }
}

impl PartialEq for TonicTls {
    fn eq(&self, other: &Self) -> bool {
        self.0.peer_certs() == other.0.peer_certs()
    }
}

impl Eq for TonicTls {}
