//! Layers that wrap the stream of a connection or change its bytes.

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
