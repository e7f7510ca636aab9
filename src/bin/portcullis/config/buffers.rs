//! The kernel's buffers of TCP connections.

use super::{
    section::Section,
    value::{OrOff, Size},
};

/// Their sizes in bytes. The system adapts those without one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) receive: Option<usize>,
    pub(crate) send: Option<usize>,
}

impl Buffers {
    /// Systems use signed numbers of 32 bits, and Linux doubles this one. It also caps it, usually far below.
    pub(crate) const MOST: usize = 512 << 20;

    /// `has_tcp` says whether there can be such connections.
    pub(super) fn read(section: &Section<'_>, has_tcp: bool) -> Self {
        let size = |key| {
            let size = section.get::<OrOff<Size>>(key)?.into_option()?.0;
            if !has_tcp {
                section.error_at(key, "it is for TCP; all addresses here are Unix sockets");
            }
            let size = usize::try_from(size).ok();
            let size = size.filter(|size| (LEAST..=Self::MOST).contains(size));
            if size.is_none() {
                section.error_at(key, "a buffer has at least 4 KiB and at most 512 MiB");
            }
            size
        };
        Self {
            receive: size("receive-buffer"),
            send: size("send-buffer"),
        }
    }
}

/// About what Linux uses in place of smaller ones.
const LEAST: usize = 4 << 10;
