//! Forwards `AsyncRead` and `AsyncWrite` to the stream inside a wrapper.

/// Implements `AsyncRead` and `AsyncWrite` for a type that only passes calls on.
///
/// Each pattern of `Self` binds the stream inside, which must be `Unpin`. Vectored writes are forwarded, too.
///
/// ```text
/// forward_io!([IO: AsyncRead + AsyncWrite + Unpin] Wrapper<IO>, io => [Self(io)]);
/// ```
macro_rules! forward_io {
    ([$($generics:tt)*] $wrapper:ty, $io:ident => [$($(#[$attribute:meta])* $pattern:pat),* $(,)?]) => {
        impl<$($generics)*> ::tokio::io::AsyncRead for $wrapper {
            #[inline]
            fn poll_read(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                buf: &mut ::tokio::io::ReadBuf<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                match self.get_mut() {
                    $($(#[$attribute])* $pattern => ::std::pin::Pin::new($io).poll_read(cx, buf),)*
                }
            }
        }

        impl<$($generics)*> ::tokio::io::AsyncWrite for $wrapper {
            #[inline]
            fn poll_write(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                buf: &[u8],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                match self.get_mut() {
                    $($(#[$attribute])* $pattern => ::std::pin::Pin::new($io).poll_write(cx, buf),)*
                }
            }

            #[inline]
            fn poll_flush(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                match self.get_mut() {
                    $($(#[$attribute])* $pattern => ::std::pin::Pin::new($io).poll_flush(cx),)*
                }
            }

            #[inline]
            fn poll_shutdown(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                match self.get_mut() {
                    $($(#[$attribute])* $pattern => ::std::pin::Pin::new($io).poll_shutdown(cx),)*
                }
            }

            #[inline]
            fn poll_write_vectored(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                bufs: &[::std::io::IoSlice<'_>],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                match self.get_mut() {
                    $($(#[$attribute])* $pattern => {
                        ::std::pin::Pin::new($io).poll_write_vectored(cx, bufs)
                    })*
                }
            }

            #[inline]
            fn is_write_vectored(&self) -> bool {
                match self {
                    $($(#[$attribute])* $pattern => $io.is_write_vectored(),)*
                }
            }
        }
    };
}

pub(crate) use forward_io;
