//! `portcullis ctl drain --wait`, and what a shutdown waits for.

use super::{
    client::{Answer, Client},
    show,
};
use crate::{exit, output, running::Remaining};
use http::Method;
use serde_json::Value;
use std::{process::ExitCode, time::Duration};
use tokio::time::{Instant, sleep};

/// Waits until a program that drains has ended, and prints what it waits for.
pub(super) async fn wait(client: &Client, as_json: bool) -> ExitCode {
    let (mut last, mut printed) = (None::<Look>, None);
    let mut patience = Instant::now() + GRACE;
    loop {
        let status = client.request(&Method::GET, "/api/status", String::new());
        let answer = match status.await {
            Ok(answer) => answer,
            // The program listens until all connections have ended.
            Err(_) if client.is_absent().await => break,
            Err(_) if Instant::now() < patience => {
                sleep(BETWEEN).await;
                continue;
            }
            Err(error) => {
                output::say(format_args!("portcullis: {error}"));
                return ExitCode::from(exit::FAILED);
            }
        };
        if !answer.status.is_success() {
            output::say(show::refusal(&answer).trim_end());
            return ExitCode::from(exit::FAILED);
        }
        let Some(look) = Look::of(&answer) else {
            // Another program has taken its place.
            break;
        };
        if look.is_news_after(printed.as_ref()) {
            let line = match as_json {
                true => look.json.clone(),
                false => format!("draining: {}", look.remaining),
            };
            if let Err(failed) = output::print(&format!("{line}\n")) {
                return failed;
            }
            printed = Some(look.clone());
        }
        patience = look.at + look.remaining.left + GRACE;
        last = Some(look);
        sleep(BETWEEN).await;
    }
    if last.is_some_and(|last| last.was_cut()) {
        output::say("portcullis: the connections that were open at the deadline were force-closed");
        return ExitCode::from(exit::CUT);
    }
    match as_json {
        true => ExitCode::from(exit::OK),
        false => output::end_with("the program has ended\n", exit::OK),
    }
}

/// What one status says of the shutdown.
#[derive(Clone, Debug)]
struct Look {
    remaining: Remaining,
    json: String,
    at: Instant,
}

impl Look {
    /// `None` if the program does not shut down.
    fn of(answer: &Answer) -> Option<Self> {
        let status: Value = serde_json::from_str(&answer.text).ok()?;
        Some(Self {
            remaining: remaining(&status)?,
            json: status["drain"].to_string(),
            at: Instant::now(),
        })
    }

    /// Whether a line is due: once a second if the number of connections changes, else every ten seconds.
    fn is_news_after(&self, printed: Option<&Self>) -> bool {
        let Some(printed) = printed else {
            return true;
        };
        let since = self.at.duration_since(printed.at);
        let has_changed = self.remaining.open != printed.remaining.open;
        since >= QUIET || has_changed && since >= AT_MOST
    }

    /// Whether connections were open until the deadline.
    fn was_cut(&self) -> bool {
        self.remaining.open > 0 && self.at.elapsed() >= self.remaining.left
    }
}

/// What a shutdown waits for. `None` if the program does not shut down.
pub(super) fn remaining(status: &Value) -> Option<Remaining> {
    let drain = &status["drain"];
    let left = drain["deadline"]
        .as_u64()?
        .saturating_sub(status["now"].as_u64()?);
    Some(Remaining {
        open: drain["open"].as_u64()?.try_into().ok()?,
        left: Duration::from_millis(left),
    })
}

/// After the deadline, for a program that does not answer.
const GRACE: Duration = Duration::from_secs(5);
const BETWEEN: Duration = Duration::from_millis(200);
const AT_MOST: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::time::advance;

    fn look(open: usize, left: u64) -> Look {
        Look {
            remaining: Remaining {
                open,
                left: Duration::from_secs(left),
            },
            json: String::new(),
            at: Instant::now(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_is_due_after_a_second_with_a_change_or_after_ten() {
        let printed = look(2, 60);
        assert!(printed.is_news_after(None));
        advance(Duration::from_millis(999)).await;
        assert!(!look(1, 59).is_news_after(Some(&printed)));
        advance(Duration::from_millis(1)).await;
        assert!(look(1, 59).is_news_after(Some(&printed)));
        advance(Duration::from_millis(8_999)).await;
        assert!(!look(2, 50).is_news_after(Some(&printed)));
        advance(Duration::from_millis(1)).await;
        assert!(look(2, 50).is_news_after(Some(&printed)));
    }

    #[tokio::test(start_paused = true)]
    async fn connections_were_cut_if_they_were_open_until_the_deadline() {
        let (open, none) = (look(1, 1), look(0, 1));
        advance(Duration::from_millis(999)).await;
        assert!(!open.was_cut());
        advance(Duration::from_millis(1)).await;
        assert!(open.was_cut() && !none.was_cut());
    }

    #[test]
    fn a_program_that_serves_has_nothing_to_wait_for() {
        let status = |drain| json!({ "now": 1_000, "drain": drain });
        assert!(remaining(&status(Value::Null)).is_none());
        for (deadline, left) in [(3_500, 2_500), (999, 0)] {
            let found = remaining(&status(json!({ "open": 3, "deadline": deadline })));
            let found = found.expect("it drains");
            assert_eq!((found.open, found.left.as_millis()), (3, left));
        }
    }
}
