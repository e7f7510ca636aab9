//! Connection info that is inserted into each request.

use http::Request;
use portcullis_middleware::{Connection, ConnectionInfo, Extensions};
#[cfg(feature = "axum")]
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The values of one connection that are inserted into its requests.
#[derive(Debug)]
pub(crate) struct RequestContext {
    info: ConnectionInfo,
    /// The extensions that layers left in the connection.
    extensions: Option<Extensions>,
    #[cfg(feature = "axum")]
    connect_info: bool,
}

impl RequestContext {
    pub(crate) fn of<IO>(connection: &Connection<IO>) -> Self {
        let extensions = connection.extensions();
        Self {
            info: connection.info().clone(),
            extensions: (!extensions.is_empty()).then(|| extensions.clone()),
            #[cfg(feature = "axum")]
            connect_info: true,
        }
    }

    /// Sets whether requests get axum's `ConnectInfo`.
    #[cfg(feature = "axum")]
    pub(super) const fn with_connect_info(mut self, connect_info: bool) -> Self {
        self.connect_info = connect_info;
        self
    }

    /// Inserts the values into `request`.
    pub(crate) fn insert_into<B>(&self, request: &mut Request<B>) {
        let inserted = request.extensions_mut();
        inserted.insert(self.info.clone());
        if let Some(extensions) = &self.extensions {
            inserted.insert(extensions.clone());
        }
        #[cfg(feature = "axum")]
        if self.connect_info {
            let peer = self.info.peer_addr().unwrap_or(NOWHERE);
            inserted.insert(axum::extract::ConnectInfo(peer));
        }
    }

    /// Inserts what tonic's `remote_addr()` and `peer_certs()` read.
    #[cfg(feature = "tonic")]
    pub(super) fn add_to_tonic_request<B>(&self, request: &mut Request<B>) {
        crate::tonic::insert_connect_info_of(&self.info, request.extensions_mut());
    }
}

/// The placeholder for the address of a peer without an IP address.
#[cfg(feature = "axum")]
pub(crate) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
