//! The stream under a TLS session.

use crate::io::forward_io;
use tokio::io::{AsyncRead, AsyncWrite};

/// The stream underneath, as a type of this crate. tonic exposes TLS information only for streams that
/// implement its trait `Connected`, and this newtype implements it.
#[derive(Debug)]
pub(super) struct Wire<IO>(pub(super) IO);

forward_io!([IO: AsyncRead + AsyncWrite + Unpin] Wire<IO>, io => [Self(io)]);

/// Without addresses, because a layer may learn them after the handshake.
#[cfg(feature = "tonic")]
impl<IO> tonic::transport::server::Connected for Wire<IO> {
    type ConnectInfo = tonic::transport::server::TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        tonic::transport::server::TcpConnectInfo {
            local_addr: None,
            remote_addr: None,
        }
    }
}

#[cfg(test)]
#[test]
fn a_wire_is_transparent() {
    crate::testing::assert_transparent(Wire);
}
