//! Layers that wrap the stream of a connection or change its bytes.
//!
//! | layer | when to use it |
//! |---|---|
//! | [`map_io`](fn@map_io), [`try_map_io`] | to wrap the stream in a custom type |
//! | [`BoxIoLayer`] | to erase the type of the stream, in deep stacks or inside of optional layers |
//! | [`WriteBufferLayer`] | for handlers that make many small writes |
//! | `TranscodeLayer` (feature `transcode`) | for protocols in a charset other than UTF-8 |

pub mod map_io;
#[cfg(feature = "transcode")]
pub mod transcode;
pub mod write_buffer;

#[cfg(feature = "transcode")]
pub use self::transcode::{BadText, Transcode, TranscodeIo, TranscodeLayer};
pub use self::{
    map_io::{
        BoxIoLayer, BoxIoService, MapIo, MapIoLayer, TryMapIo, TryMapIoLayer, map_io, try_map_io,
    },
    write_buffer::{WriteBuffer, WriteBufferIo, WriteBufferLayer},
};
