//! Messages as text, with or without colors, or as JSON, which can be changed at run time.

use crate::config::Format;
use std::{
    io::{self, IsTerminal},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tracing::{
    Event, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    field::RecordFields,
    fmt::{
        self, FormatFields, MakeWriter,
        format::{Compact, DefaultFields, Json, JsonFields, Writer},
    },
    layer::Context,
    registry::LookupSpan,
};

/// Which of both is written; clones are the same one.
#[derive(Clone)]
pub(super) struct IsJson(Arc<AtomicBool>);

impl IsJson {
    pub(super) fn new(format: Format) -> Self {
        Self(Arc::new(AtomicBool::new(is_json(format))))
    }

    pub(super) fn set(&self, format: Format) {
        self.0.store(is_json(format), Ordering::Relaxed);
    }
}

fn is_json(format: Format) -> bool {
    match format {
        Format::Auto => !io::stdout().is_terminal(),
        Format::Text => false,
        Format::Json => true,
    }
}

/// Whether an event is shown with colors, on a terminal that has them.
pub(super) type HasColors = fn(&Metadata<'_>) -> bool;

/// All formats.
///
/// Each keeps the fields of spans in its own way. All keep them, because a span may outlast the format.
pub(super) struct Formats<S, W> {
    is_json: IsJson,
    colored: Option<(HasColors, Text<S, ColoredFields, W>)>,
    text: Text<S, DefaultFields, W>,
    json: fmt::Layer<S, JsonFields, fmt::format::Format<Json>, W>,
}

type Text<S, N, W> = fmt::Layer<S, N, fmt::format::Format<Compact>, W>;

/// A type of its own, because spans keep their fields by type.
#[derive(Default)]
struct ColoredFields(DefaultFields);

impl<'a> FormatFields<'a> for ColoredFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'a>, fields: R) -> std::fmt::Result {
        self.0.format_fields(writer, fields)
    }
}

impl<S, W: Clone> Formats<S, W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    /// Without `colors`, no event has them.
    pub(super) fn new(is_json: IsJson, colors: Option<HasColors>, writer: W) -> Self {
        let layer = || fmt::layer().with_writer(writer.clone());
        let colored = || layer().with_ansi(true).fmt_fields(ColoredFields::default());
        Self {
            is_json,
            colored: colors.map(|colors| (colors, colored().compact())),
            text: layer().with_ansi(false).compact(),
            json: layer().with_ansi(false).json().flatten_event(true),
        }
    }
}

impl<S, W> Layer<S> for Formats<S, W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some((_, colored)) = &self.colored {
            colored.on_new_span(attributes, id, context.clone());
        }
        self.text.on_new_span(attributes, id, context.clone());
        self.json.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some((_, colored)) = &self.colored {
            colored.on_record(id, values, context.clone());
        }
        self.text.on_record(id, values, context.clone());
        self.json.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        match &self.colored {
            _ if self.is_json.0.load(Ordering::Relaxed) => self.json.on_event(event, context),
            Some((has_colors, colored)) if has_colors(event.metadata()) => {
                colored.on_event(event, context);
            }
            _ => self.text.on_event(event, context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, PoisonError};
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Text(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            text.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_span_that_was_opened_before_the_change_is_written_in_each_format() {
        let text = Text::default();
        let writer = text.clone();
        let is_json = IsJson::new(Format::Text);
        let formats = Formats::new(is_json.clone(), None, move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(formats);
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!(
                "connection",
                peer = "192.0.2.1",
                late = tracing::field::Empty
            );
            let _entered = span.enter();
            tracing::info!("one");
            is_json.set(Format::Json);
            span.record("late", 7);
            tracing::info!("two");
            is_json.set(Format::Text);
            tracing::info!("three");
        });
        let text = text.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8(text.clone()).expect("UTF-8");
        let lines: Vec<_> = text.lines().collect();
        let [one, two, three] = &*lines else {
            panic!("three lines: {text}");
        };
        assert!(
            one.contains("one") && one.contains("peer=\"192.0.2.1\""),
            "{one}"
        );
        let two: serde_json::Value = serde_json::from_str(two).expect("it is JSON");
        assert_eq!(
            (&two["message"], &two["span"]["late"]),
            (&"two".into(), &7.into())
        );
        assert!(
            three.contains("three") && three.contains("late=7"),
            "{three}"
        );
    }

    #[test]
    fn an_event_without_colors_has_none_of_its_span_either() {
        let text = Text::default();
        let writer = text.clone();
        let is_message: HasColors = |metadata| metadata.target() != "access";
        let formats = Formats::new(IsJson::new(Format::Text), Some(is_message), move || {
            writer.clone()
        });
        let subscriber = tracing_subscriber::registry().with(formats);
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("connection", peer = 1, late = tracing::field::Empty);
            let _entered = span.enter();
            span.record("late", 7);
            tracing::info!("one");
            tracing::info!(target: "access", "two");
        });
        let text = text.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8(text.clone()).expect("UTF-8");
        let [one, two] = &*text.lines().collect::<Vec<_>>() else {
            panic!("two lines: {text}");
        };
        assert!(one.contains("\u{1b}[3mpeer\u{1b}[0m"), "{one:?}");
        assert!(
            two.contains("two peer=1 late=7") && !two.contains('\u{1b}'),
            "{two:?}"
        );
    }
}
