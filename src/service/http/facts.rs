//! What a request is told of its connection.

use http::Request;
use portcullis_middleware::{Connection, ConnectionInfo, Extensions};

/// What the requests of one connection are told.
#[derive(Debug)]
pub(super) struct Facts {
    info: ConnectionInfo,
    /// What layers left, if anything.
    extensions: Option<Extensions>,
}

impl Facts {
    pub(super) fn of<IO>(connection: &Connection<IO>) -> Self {
        let extensions = connection.extensions();
        Self {
            info: connection.info().clone(),
            extensions: (!extensions.is_empty()).then(|| extensions.clone()),
        }
    }

    pub(super) fn tell<B>(&self, request: &mut Request<B>) {
        let told = request.extensions_mut();
        told.insert(self.info.clone());
        if let Some(extensions) = &self.extensions {
            told.insert(extensions.clone());
        }
        #[cfg(feature = "axum")]
        if let Some(peer) = self.info.peer_addr() {
            told.insert(axum::extract::ConnectInfo(peer));
        }
    }
}
