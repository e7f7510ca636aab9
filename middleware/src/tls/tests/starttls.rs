//! TLS that begins in the middle of a conversation.

use super::*;
use crate::{
    error::{HandshakeError, Refused},
    io::unbuffered,
};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Talks in plain text until the client sends a line, then echoes under TLS.
async fn converse<IO>(connection: Connection<IO>) -> Result<(), BoxError>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut plain = BufReader::new(connection);
    plain.read_line(&mut String::new()).await?;
    plain.write_all(b"ready\n").await?;
    let connection = tls_layer().accept(unbuffered(plain)?).await?;
    Ok(echo(connection).await?)
}

#[tokio::test]
async fn tls_begins_behind_the_line_however_it_is_split() {
    let line = b"STARTTLS\r\n";
    for split in 0..line.len() {
        let (connection, mut io) = in_memory();
        let talk_tls = async {
            io.write_all(&line[..split]).await?;
            tokio::task::yield_now().await;
            io.write_all(&line[split..]).await?;
            io.read_exact(&mut [0; 6]).await?;
            talk(connect(client(), io).await?, b"hello").await
        };
        let (served, received) = tokio::join!(converse(connection), talk_tls);
        served.unwrap();
        assert_eq!(received.unwrap(), b"hello");
    }
}

/// What an attacker on the network adds must reach neither the handler nor be lost.
#[tokio::test]
async fn bytes_behind_the_line_end_the_connection_wherever_they_are_cut() {
    let plain = b"STARTTLS\r\nQUIT\r\nMAIL\r\n";
    for split in 0..plain.len() {
        let (connection, mut io) = in_memory();
        let talk = async {
            io.write_all(&plain[..split]).await.unwrap();
            tokio::task::yield_now().await;
            // The server may have closed.
            let _ = io.write_all(&plain[split..]).await;
            read_all(io).await.0
        };
        let (served, received) = tokio::join!(converse(connection), talk);
        let error = served.unwrap_err();
        let refused = error.downcast_ref::<Refused>();
        assert!(refused.is_some() || error.is::<HandshakeError>(), "{error}");
        assert!(received.starts_with(b"ready\n"));
        assert!(!received.windows(4).any(|bytes| bytes == b"QUIT"));
    }
}

#[tokio::test]
async fn a_buffer_with_a_byte_is_refused_and_an_empty_one_is_not() {
    for (bytes, is_usable) in [(&b"STARTTLS\n"[..], true), (b"STARTTLS\n\0", false)] {
        let mut reader = BufReader::new(bytes);
        reader.read_line(&mut String::new()).await.unwrap();
        match unbuffered(reader) {
            Ok(_) => assert!(is_usable),
            Err(refused) => {
                assert!(!is_usable);
                assert_eq!(
                    (refused.by(), refused.reason()),
                    ("starttls", "bytes follow the request for TLS")
                );
            }
        }
    }
}
