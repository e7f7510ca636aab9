//! What decides about the first bytes.

use crate::{BoxError, connection::Hello};

/// Examines the first bytes of a connection. It performs no I/O.
///
/// [`PeekLayer`](super::PeekLayer) clones it for each connection, so it may keep state between calls. It limits the
/// number of bytes and the time.
///
/// ```
/// use portcullis_middleware::peek::{Detect, Detector};
///
/// /// Detects a protocol whose clients begin with one of two bytes.
/// #[derive(Clone, Debug)]
/// struct VersionByte;
///
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// struct Version(u8);
///
/// impl Detector for VersionByte {
///     type Found = Version;
///
///     fn detect(&mut self, bytes: &[u8]) -> Detect<Version> {
///         match bytes.first() {
///             None => Detect::Need,
///             Some(&version @ (4 | 5)) => Detect::Found(Version(version)),
///             Some(_) => Detect::Not,
///         }
///     }
/// }
/// ```
pub trait Detector: Clone {
    /// The result, which the layer puts into the connection's [`Extensions`](crate::Extensions).
    type Found: Clone + Send + Sync + 'static;

    /// Continues with `bytes`, all bytes received so far. The last one is new, and the layer stops after a decision.
    fn detect(&mut self, bytes: &[u8]) -> Detect<Self::Found>;

    /// The ClientHello that was found, for [`ConnectionInfo::hello`](crate::ConnectionInfo::hello); none by
    /// default.
    fn into_hello(self) -> Option<Hello> {
        None
    }
}

/// The decision of a [`Detector`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Detect<T> {
    /// The bytes do not suffice.
    Need,
    /// The connection is passed on with this result.
    Found(T),
    /// The connection is passed on without a result.
    Not,
    /// The connection is rejected.
    Invalid(BoxError),
}
