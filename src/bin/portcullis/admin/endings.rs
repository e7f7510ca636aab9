//! `/api/endings`: the connections that ended last, and why.
//!
//! A connection that ends leaves its facts here as they are. They are put into words when a request asks for them.

use super::{
    connection,
    filter::{Filter, Subject},
    live,
    reply::{self, Refusal, Reply},
    router::Call,
    story,
};
use crate::{
    reason::{Failure, reason},
    view,
};
use portcullis::{
    ConnectionInfo,
    connection::EndedBy,
    middleware::{observe::trace::Closed, outcome::Outcome},
};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// The endings that are kept, and sums over all of them.
pub(crate) struct Endings {
    capacity: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The newest is the last one.
    endings: VecDeque<Ending>,
    /// The number of the newest.
    last: u64,
    bytes: Bytes,
}

/// Bytes from and to clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bytes {
    pub(super) read: u64,
    pub(super) written: u64,
}

impl Bytes {
    pub(super) fn add(&mut self, info: &ConnectionInfo) {
        self.read += info.bytes_read();
        self.written += info.bytes_written();
    }
}

/// How a connection ended.
#[derive(Clone)]
pub(super) struct Ending {
    pub(super) sequence: u64,
    pub(super) info: ConnectionInfo,
    pub(super) duration: Duration,
    pub(super) outcome: Outcome,
    error: Option<Box<Failure>>,
}

impl Endings {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity: AtomicUsize::new(capacity),
            kept: Mutex::default(),
        }
    }

    pub(crate) fn add(&self, closed: &Closed<'_>) {
        let mut ending = Ending {
            sequence: 0,
            info: closed.info().clone(),
            duration: closed.duration(),
            outcome: closed.outcome(),
            error: closed.error().map(|error| Box::new(Failure::of(error))),
        };
        let mut kept = self.lock();
        kept.last += 1;
        kept.bytes.add(&ending.info);
        ending.sequence = kept.last;
        let is_full = kept.endings.len() >= self.capacity.load(Ordering::Relaxed);
        let oldest = if is_full {
            kept.endings.pop_front()
        } else {
            None
        };
        kept.endings.push_back(ending);
        drop(kept);
        // Without the lock, because it may free the facts of a connection.
        drop(oldest);
    }

    /// Keeps this many from now on, the newest ones.
    pub(crate) fn resize(&self, capacity: usize) {
        self.capacity.store(capacity, Ordering::Relaxed);
        let mut kept = self.lock();
        let surplus = kept.endings.len().saturating_sub(capacity);
        let oldest: Vec<_> = kept.endings.drain(..surplus).collect();
        kept.endings.shrink_to(capacity);
        drop(kept);
        // As in `add`.
        drop(oldest);
    }

    /// Bytes of all connections that have ended.
    pub(super) fn bytes(&self) -> Bytes {
        self.lock().bytes
    }

    /// Calls `each` with the connections that are kept, the newest first.
    pub(super) fn each_connection(&self, mut each: impl FnMut(&ConnectionInfo)) {
        self.walk(0, usize::MAX, |ending| {
            each(&ending.info);
            false
        });
    }

    fn last(&self) -> u64 {
        self.lock().last
    }

    /// Up to `count` endings before the number `before`, the newest first.
    fn newest(&self, before: u64, count: usize) -> Vec<Ending> {
        let kept = self.lock();
        let first = kept.last + 1 - kept.endings.len() as u64;
        let end = before.saturating_sub(first).min(kept.endings.len() as u64) as usize;
        let begin = end.saturating_sub(count);
        kept.endings.range(begin..end).rev().cloned().collect()
    }

    /// Those that `matches`, from the newest to the number `since`.
    ///
    /// The number is that of an ending before which none is missing, even if others end meanwhile.
    fn find(
        &self,
        since: u64,
        limit: usize,
        matches: impl Fn(&Ending) -> bool,
    ) -> (Vec<Ending>, u64) {
        let last = self.last();
        (self.walk(since, limit, matches), last)
    }

    fn walk(
        &self,
        since: u64,
        limit: usize,
        mut matches: impl FnMut(&Ending) -> bool,
    ) -> Vec<Ending> {
        /// Looked at without others waiting for the lock.
        const AT_ONCE: usize = 256;
        let (mut found, mut before) = (Vec::new(), u64::MAX);
        loop {
            let some = self.newest(before, AT_ONCE);
            let Some(oldest) = some.last() else {
                return found;
            };
            before = oldest.sequence;
            for ending in some {
                if ending.sequence <= since || found.len() == limit {
                    return found;
                }
                if matches(&ending) {
                    found.push(ending);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ending {
    /// The time since the end.
    fn age(&self) -> Duration {
        (self.info.accepted_at() + self.duration).elapsed()
    }

    pub(super) fn reason(&self) -> String {
        reason(&self.info, self.outcome, self.error.as_deref())
    }

    fn ended_by(&self) -> Option<EndedBy> {
        view::ended_by(&self.info, self.outcome)
    }

    /// What it was doing when it ended.
    fn phase(&self) -> &'static str {
        match self.outcome {
            Outcome::TimedOut(phase) => phase.as_str(),
            Outcome::HandshakeFailed => "handshake",
            Outcome::ProxyHeaderFailed => "proxy_header",
            Outcome::Unreachable => "connect",
            _ if self.info.upstream().is_some() => "serving",
            Outcome::Refused => "admission",
            _ => "accepted",
        }
    }

    fn show(&self) -> Value {
        let mut value = connection::facts(&self.info);
        let ended = self.info.accepted_at() + self.duration;
        let mut story = story::of(&self.info);
        story.push(story::step("end", Some(self.duration), self.reason()));
        for (key, fact) in [
            ("sequence", json!(self.sequence)),
            ("ended", json!(super::time::millis_of(ended))),
            ("duration", json!(self.duration.as_secs_f64())),
            ("outcome", json!(self.outcome.as_str())),
            ("ended_by", json!(self.ended_by().map(EndedBy::as_str))),
            ("phase", json!(self.phase())),
            ("reason", json!(self.reason())),
            ("story", story.into()),
        ] {
            value[key] = fact;
        }
        if let Some(name) = self.error.as_ref().and_then(|error| error.name()) {
            value["name"] = name.into();
        }
        value
    }
}

pub(super) fn list(call: &Call<'_>) -> Result<Reply, Refusal> {
    let known = [&["outcome", "since", "within", "limit"][..], Filter::FACTS].concat();
    let query = call.query(&known)?;
    let since = query.number("since", 0..=u64::MAX)?;
    let limit = query.number("limit", 1..=PAGE as u64)?;
    let limit = limit.map_or(PAGE, |limit| limit as usize);
    let outcome = query.word("outcome", live::outcome_names())?;
    let within = query.seconds("within")?;
    let filter = Filter::of(call, &query)?;
    let endings = &call.interface.endings;
    let (found, last) = endings.find(since.unwrap_or(0), limit, |ending| {
        outcome.is_none_or(|outcome| ending.outcome.as_str() == outcome)
            && within.is_none_or(|within| ending.age() <= within)
            && filter.matches(&Subject::Ended(ending))
    });
    Ok(reply::ok(&json!({
        "endings": found.iter().map(Ending::show).collect::<Vec<_>>(),
        "last": last,
        "kept": endings.capacity.load(Ordering::Relaxed),
    })))
}

/// The most of one reply.
const PAGE: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis::{
        BoxError, Connection, ServiceBuilderExt,
        middleware::{access::AclLayer, error::Refused, observe::TraceLayer},
    };
    use std::sync::Arc;
    use tower::{Service, ServiceBuilder, service_fn};

    /// Lets connections end with these errors.
    async fn end(endings: &Arc<Endings>, errors: Vec<BoxError>) {
        for error in errors {
            let kept = endings.clone();
            let mut error = Some(error);
            let trace = TraceLayer::new().on_close(move |closed| kept.add(closed));
            let mut stack = ServiceBuilder::new()
                .peer_addr()
                .layer(trace)
                .service(service_fn(move |connection: Connection<_>| {
                    drop(connection);
                    std::future::ready(Err::<(), _>(error.take().expect("it is called once")))
                }));
            let (stream, _peer) = tokio::io::duplex(1);
            stack.call(stream).await.expect_err("it fails");
        }
    }

    fn errors(count: usize) -> Vec<BoxError> {
        (1..=count)
            .map(|number| format!("error {number}").into())
            .collect()
    }

    #[tokio::test]
    async fn another_number_of_endings_keeps_the_newest() {
        let endings = Arc::new(Endings::new(300));
        end(&endings, errors(300)).await;
        let kept = || {
            let (found, last) = endings.find(0, 1_000, |_| true);
            (found.iter().map(|it| it.sequence).collect::<Vec<_>>(), last)
        };
        endings.resize(2);
        assert_eq!(kept(), (vec![300, 299], 300));
        end(&endings, errors(1)).await;
        assert_eq!(kept(), (vec![301, 300], 301));
        endings.resize(3);
        end(&endings, errors(2)).await;
        assert_eq!(kept(), (vec![303, 302, 301], 303));
    }

    #[tokio::test]
    async fn the_newest_endings_are_kept_and_found() {
        let endings = Arc::new(Endings::new(300));
        end(&endings, errors(1_000)).await;
        assert_eq!((endings.last(), endings.lock().endings.len()), (1_000, 300));
        let (all, _) = endings.find(0, 1_000, |_| true);
        assert!(all.iter().map(|it| it.sequence).eq((701..=1_000).rev()));
        let even = |ending: &Ending| ending.sequence.is_multiple_of(2);
        let (some, last) = endings.find(990, 3, even);
        assert_eq!(last, 1_000);
        assert!(some.iter().map(|it| it.sequence).eq([1_000, 998, 996]));
        assert_eq!(endings.find(998, 9, even).0.len(), 1);
        assert_eq!(all[0].reason(), "error 1000");
    }

    #[tokio::test]
    async fn what_ends_during_a_search_is_found_by_the_next_one() {
        let endings = Arc::new(Endings::new(9));
        end(&endings, errors(2)).await;
        let ends_meanwhile = |ending: &Ending| {
            let mut kept = endings.lock();
            let sequence = kept.last + 1;
            kept.last = sequence;
            kept.endings.push_back(Ending {
                sequence,
                ..ending.clone()
            });
            true
        };
        let (found, last) = endings.find(0, 9, ends_meanwhile);
        assert_eq!((found.len(), last), (2, 2));
        let (found, last) = endings.find(last, 9, |_| true);
        assert_eq!((found.len(), last), (2, 4));
    }

    #[tokio::test]
    async fn reasons_are_words_and_short() {
        let endings = Arc::new(Endings::new(9));
        let refused = Refused::new("keyed_limit", "per_key");
        let nested = std::io::Error::other("<b>inner</b>");
        let long = "ü".repeat(1_000);
        end(&endings, vec![refused.into(), nested.into(), long.into()]).await;
        let reasons: Vec<_> = endings
            .find(0, 9, |_| true)
            .0
            .iter()
            .map(Ending::reason)
            .collect();
        assert_eq!(
            reasons[2],
            "rejected by keyed_limit: per key (`per-client.connections`)"
        );
        assert_eq!(reasons[1], "<b>inner</b>");
        assert_eq!(reasons[0], "ü".repeat(250));
    }

    #[tokio::test]
    async fn a_reason_names_the_guard_and_its_cause_once() {
        let endings = Arc::new(Endings::new(9));
        let denied =
            Refused::new("acl", AclLayer::DENIED).with_source("the address is on the deny list");
        let unknown = Refused::new("route", "no_route").with_source("server name a.test");
        end(&endings, vec![denied.into(), unknown.into()]).await;
        let (found, _) = endings.find(0, 9, |_| true);
        let reasons: Vec<_> = found.iter().map(Ending::reason).collect();
        assert_eq!(
            reasons,
            [
                "rejected by route: no route: server name a.test",
                "rejected by acl: the address is on the deny list (`access`)"
            ]
        );
        assert!(found.iter().all(|it| it.ended_by() == Some(EndedBy::Gate)));
    }
}
