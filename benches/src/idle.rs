//! Memory of idle connections.

use super::{
    Variant,
    backend::Backend,
    load::{Client, Workload},
    serve::{Unbuffered, role},
};
use harness::{
    child::Child,
    proc::{files, open_files, resident},
    sequence::Connect,
};
use portcullis::BoxError;
use std::time::Duration;
use tokio::time::sleep;

/// What idle connections have done before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Nothing,
    OneEcho,
}

/// Bytes of resident memory for each of `count` idle connections, without the kernel's memory.
///
/// Fewer are opened if the limit on open files is too low.
pub(crate) async fn bytes_per_connection(
    variant: Variant,
    after: After,
    count: usize,
) -> Result<f64, BoxError> {
    let backend = Backend::start(variant, false).await?;
    // The other side of a forwarder takes as many files, there and here.
    let each = if backend.is_some() { 2 } else { 1 };
    let count = count.min((open_files()?.saturating_sub(SPARE) / each).saturating_sub(WARM_UP));
    let role = role(variant, Unbuffered, backend.as_ref())?;
    let server = Child::start(&[], &role).await?;
    let id = u32::try_from(server.pid()?.as_raw())?;
    let client = Client::new(server.address(), variant, Workload::Connection)?;
    let (mut open, mut buffer) = (Vec::new(), Vec::new());
    for _ in 0..WARM_UP {
        let mut stream = client.connect().await?;
        client.exchange().run(&mut stream, &mut buffer).await?;
        open.push(stream);
    }
    let before = (resident(id)?, files(id)?);
    for _ in 0..count {
        let mut stream = client.connect().await?;
        if after == After::OneEcho {
            client.exchange().run(&mut stream, &mut buffer).await?;
        }
        open.push(stream);
        // The server accepts them later, and its queue is short.
        let accepted = before.1 - WARM_UP + open.len();
        while open.len() % WARM_UP == 0 && files(id)? < accepted {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let after = resident(id)?;
    drop(open);
    server.stop().await?;
    Ok((after - before.0) / count as f64)
}

/// Connections before the first look at the memory, for what is allocated once.
const WARM_UP: usize = 100;

/// Other open files.
const SPARE: usize = 100;
