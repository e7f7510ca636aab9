//! A time-of-day server, which sends one line with the date and closes.
//!
//! ```text
//! cargo run --release --example time_of_day           # or: -- 127.0.0.1:0
//! nc 127.0.0.1 6504
//! ```
//!
//! Port 6504, as in the Scheme library that it is modelled on. The client receives the whole answer even if
//! its input was never read, because the handler ends with `close()`. Ctrl-C or SIGTERM shuts it down.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use portcullis::{BoxError, Connection, Server, ServiceBuilderExt, listener::TcpListener};
use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::io::AsyncWriteExt;
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:6504".to_owned());
    let listener = TcpListener::bind(&address)?;
    println!("listening on {}", listener.local_addr()?);

    let stack = ServiceBuilder::new()
        .peer_addr()
        .connection_limit(100)
        .io_timeout()
        .service_fn(|mut connection: Connection<_>| async move {
            let line = format!("{}\n", date(SystemTime::now()));
            connection.write_all(line.as_bytes()).await?;
            connection.close().await
        });

    Server::new()
        .listen(listener, stack)
        .stop_on_signals()
        .run()
        .await?;
    Ok(())
}

/// The date and time in UTC, as in `2026-11-22 04:05:06 UTC`.
fn date(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Year, month and day of the day that is `days` after 1970-01-01 in the Gregorian calendar.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_follow_the_calendar() {
        let at = |seconds| date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(at(951_827_696), "2000-02-29 12:34:56 UTC");
        assert_eq!(at(1_767_225_599), "2025-12-31 23:59:59 UTC");
    }
}
