//! What a request is told of its connection.

use http::Request;
use portcullis_middleware::{Connection, ConnectionInfo, Extensions};
#[cfg(feature = "axum")]
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What the requests of one connection are told.
#[derive(Debug)]
pub(crate) struct RequestContext {
    info: ConnectionInfo,
    /// What layers left, if anything.
    extensions: Option<Extensions>,
}

impl RequestContext {
    pub(crate) fn of<IO>(connection: &Connection<IO>) -> Self {
        let extensions = connection.extensions();
        Self {
            info: connection.info().clone(),
            extensions: (!extensions.is_empty()).then(|| extensions.clone()),
        }
    }

    pub(crate) fn tell<B>(&self, request: &mut Request<B>) {
        let told = request.extensions_mut();
        told.insert(self.info.clone());
        if let Some(extensions) = &self.extensions {
            told.insert(extensions.clone());
        }
        #[cfg(feature = "axum")]
        told.insert(axum::extract::ConnectInfo(
            self.info.peer_addr().unwrap_or(NOWHERE),
        ));
    }

    /// Tells a gRPC request what tonic's `remote_addr()` and `peer_certs()` look for.
    #[cfg(feature = "tonic")]
    pub(super) fn add_to_tonic_request<B>(&self, request: &mut Request<B>) {
        crate::tonic::tell_of(&self.info, request.extensions_mut());
    }
}

/// The address of a peer that has no IP address, where a type demands one.
#[cfg(feature = "axum")]
pub(crate) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
