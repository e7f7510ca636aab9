//! The IO under a TLS session.

use crate::io::forward_io;
use tokio::io::{AsyncRead, AsyncWrite};

/// The IO underneath, under a name of ours: what tonic knows of TLS it tells only of IO that has its trait
/// `Connected`, which IO in general has not.
#[derive(Debug)]
pub(super) struct Wire<IO>(pub(super) IO);

forward_io!([IO: AsyncRead + AsyncWrite + Unpin] Wire<IO>, io => [Self(io)]);

/// The addresses are left out: those of the connection may be learned later than TLS.
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
