//! A subscriber that records events and spans.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    dispatcher::{DefaultGuard, set_default},
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::Interest,
};

/// Events and spans of this thread since [`Log::start`], up to a level.
pub(crate) struct Log {
    records: Arc<Mutex<Records>>,
    _default: DefaultGuard,
}

#[derive(Default)]
struct Records {
    spans: Vec<Span>,
    events: Vec<Line>,
    entered: Vec<u64>,
}

pub(crate) type Fields = BTreeMap<&'static str, String>;

#[derive(Clone)]
pub(crate) struct Span {
    pub(crate) name: &'static str,
    pub(crate) level: Level,
    pub(crate) fields: Fields,
    pub(crate) is_closed: bool,
}

#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) target: &'static str,
    pub(crate) level: Level,
    pub(crate) fields: Fields,
    pub(crate) span: Option<&'static str>,
}

impl Log {
    pub(crate) fn start(level: Level) -> Self {
        Self::with(level, true)
    }

    /// Disables spans.
    pub(crate) fn of_lines(level: Level) -> Self {
        Self::with(level, false)
    }

    fn with(level: Level, spans: bool) -> Self {
        settle_interest();
        let records = Arc::new(Mutex::new(Records::default()));
        let recorder = Recorder {
            level,
            spans,
            records: records.clone(),
        };
        let _default = set_default(&Dispatch::new(recorder));
        Self { records, _default }
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        lock(&self.records).events.clone()
    }

    pub(crate) fn last(&self) -> Line {
        self.lines().pop().expect("there is a line")
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        lock(&self.records).spans.clone()
    }

    /// The only span.
    pub(crate) fn span(&self) -> Span {
        let [span] = self.spans().try_into().ok().expect("there is one span");
        span
    }
}

/// `tracing` caches for the whole process which call sites are enabled. While at most one subscriber
/// exists, it asks only the first thread that reaches the call site, which may have no subscriber. Two
/// more subscribers that stay undecided make it ask each time.
pub(crate) fn settle_interest() {
    static UNDECIDED: OnceLock<[Dispatch; 2]> = OnceLock::new();
    UNDECIDED.get_or_init(|| {
        [(); 2].map(|()| {
            Dispatch::new(Recorder {
                level: Level::TRACE,
                spans: true,
                records: Arc::default(),
            })
        })
    });
}

struct Recorder {
    level: Level,
    spans: bool,
    records: Arc<Mutex<Records>>,
}

impl Subscriber for Recorder {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level && (self.spans || !metadata.is_span())
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::new();
        span.record(&mut Write(&mut fields));
        let mut records = lock(&self.records);
        records.spans.push(Span {
            name: span.metadata().name(),
            level: *span.metadata().level(),
            fields,
            is_closed: false,
        });
        Id::from_u64(records.spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut records = lock(&self.records);
        let span = &mut records.spans[index(span)];
        values.record(&mut Write(&mut span.fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Write(&mut fields));
        let mut records = lock(&self.records);
        let span = records.entered.last();
        let span = span.map(|id| records.spans[index(&Id::from_u64(*id))].name);
        records.events.push(Line {
            text: fields.remove("message").unwrap_or_default(),
            target: event.metadata().target(),
            level: *event.metadata().level(),
            fields,
            span,
        });
    }

    fn enter(&self, span: &Id) {
        lock(&self.records).entered.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        assert_eq!(lock(&self.records).entered.pop(), Some(span.into_u64()));
    }

    fn try_close(&self, span: Id) -> bool {
        lock(&self.records).spans[index(&span)].is_closed = true;
        true
    }
}

/// The span is never cloned here, so its number is its index.
fn index(span: &Id) -> usize {
    usize::try_from(span.into_u64() - 1).expect("few spans")
}

fn lock(records: &Mutex<Records>) -> MutexGuard<'_, Records> {
    records.lock().expect("no test panics in here")
}

struct Write<'a>(&'a mut Fields);

impl Visit for Write<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}
