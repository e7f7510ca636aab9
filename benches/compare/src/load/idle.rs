//! Idle connections.

use super::{
    client::{Client, Stream},
    outcome::PATIENCE,
};
use harness::{BoxError, sequence::Connect};
use std::ops::Range;
use tokio::{io::AsyncReadExt, task::JoinSet, time::timeout};

/// Opens the connections of these numbers, with one exchange on each.
pub(crate) async fn open(client: &Client, numbers: Range<usize>) -> Result<Vec<Stream>, BoxError> {
    connect(client, numbers, true).await
}

/// Opens connections without an exchange.
pub(crate) async fn silent(
    client: &Client,
    numbers: Range<usize>,
) -> Result<Vec<Stream>, BoxError> {
    connect(client, numbers, false).await
}

async fn connect(
    client: &Client,
    numbers: Range<usize>,
    ask: bool,
) -> Result<Vec<Stream>, BoxError> {
    let count = numbers.len();
    let mut open = Vec::with_capacity(count);
    let mut opening = JoinSet::new();
    for number in numbers {
        if opening.len() >= AT_ONCE {
            open.push(opening.join_next().await.ok_or("nothing is opening")???);
        }
        let client = client.clone();
        opening.spawn(async move {
            timeout(PATIENCE, async {
                let mut stream = client.connect_numbered(number).await?;
                if ask {
                    client.exchange().run(&mut stream, &mut Vec::new()).await?;
                }
                Ok::<_, BoxError>(stream)
            })
            .await?
        });
    }
    while let Some(opened) = opening.join_next().await {
        open.push(opened??);
    }
    Ok(open)
}

/// Waits until the server has closed all of them.
pub(crate) async fn ended(open: Vec<Stream>) -> Result<(), BoxError> {
    timeout(PATIENCE * 3, async {
        for mut stream in open {
            match stream.read(&mut [0]).await {
                // A reset closes a connection as well.
                Ok(0) | Err(_) => {}
                Ok(_) => return Err("more came than was asked for".into()),
            }
        }
        Ok(())
    })
    .await?
}

/// Few enough for the queues of any listener.
const AT_ONCE: usize = 32;
