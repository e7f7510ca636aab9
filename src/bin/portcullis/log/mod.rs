//! The log of the program: what is written, and where.
//!
//! Messages go to the standard output. Access lines, one for each connection, go there or to a file. Both can be
//! changed while the program runs.

mod access;
mod formats;
mod levels;
mod lines;

pub(crate) use self::{access::log as log_access, lines::dropped};

use crate::config::{Access, Format, Log, Problems};
use access::Destination;
use arc_swap::ArcSwap;
use formats::{Formats, HasColors, IsJson};
use levels::Levels;
use lines::{Flush, Line, Lines};
use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal},
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};
use tracing::{Level, Metadata};
use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

/// That of the process, as the subscriber of `tracing`.
static OUTPUT: OnceLock<Output> = OnceLock::new();

/// Where lines go.
struct Output {
    messages: Lines,
    access: ArcSwap<Destination>,
    levels: Levels,
    is_json: IsJson,
    /// That of the access file.
    flush: Mutex<Option<Flush>>,
}

/// Writes what is left when it is dropped.
pub(crate) struct Guard {
    _messages: Flush,
}

/// Opens the log of messages. Access lines are written once their destination is [opened](open).
pub(crate) fn init(settings: &Log) -> Result<Guard, String> {
    let messages = Lines::to(io::stdout());
    let (messages, flush) = messages.map_err(|error| format!("the log has no thread: {error}"))?;
    let levels = Levels::new(settings.level.0);
    let is_json = IsJson::new(settings.format);
    let output = OUTPUT.get_or_init(|| Output {
        messages,
        access: ArcSwap::from_pointee(Destination::Off),
        levels: levels.clone(),
        is_json: is_json.clone(),
        flush: Mutex::default(),
    });
    let colors = io::stdout().is_terminal() && wants_color(env::var_os("NO_COLOR"));
    let colors = colors.then_some(is_on_stdout as HasColors);
    tracing_subscriber::registry()
        .with(levels)
        .with(Formats::new(is_json, colors, output))
        .init();
    Ok(Guard { _messages: flush })
}

/// Whether a terminal shows colors, by the value of `NO_COLOR` (<https://no-color.org>).
fn wants_color(no_color: Option<OsString>) -> bool {
    no_color.is_none_or(|value| value.is_empty())
}

/// Whether an event goes to the standard output, and not to the file of access lines.
fn is_on_stdout(metadata: &Metadata<'_>) -> bool {
    let is_file = |output: &Output| matches!(**output.access.load(), Destination::File(_));
    metadata.target() != access::TARGET || !OUTPUT.get().is_some_and(is_file)
}

/// The level of messages.
pub(crate) fn level() -> Level {
    OUTPUT
        .get()
        .map_or(Level::INFO, |output| output.levels.level())
}

/// Changes the level of messages, until the process ends or the level in the configuration changes.
pub(crate) fn set_level(level: Level) {
    if let Some(output) = OUTPUT.get() {
        output.levels.set_level(level);
    }
}

/// Changes the format of messages and access lines.
pub(crate) fn set_format(format: Format) {
    if let Some(output) = OUTPUT.get() {
        output.is_json.set(format);
    }
}

/// A destination of access lines that is open and not yet used.
pub(crate) struct Opened(Destination, Option<Flush>);

/// Opens the file of access lines, if there is one. Opening it again follows a rotation.
pub(crate) fn open(settings: &Log) -> Result<Opened, String> {
    Ok(match &settings.access {
        Access::Off => Opened(Destination::Off, None),
        Access::Stdout => Opened(Destination::Stdout, None),
        Access::File(path) => {
            let opened = access::open(&path.value).and_then(Lines::to);
            let (lines, flush) = opened.map_err(|error| {
                format!(
                    "{}{}",
                    path.place.before(),
                    cannot_open(&path.value, &error)
                )
            })?;
            Opened(Destination::File(lines), Some(flush))
        }
    })
}

/// Reports a file of access lines that cannot be opened, without creating it.
pub(crate) fn check(settings: &Log, problems: &mut Problems) {
    if let Access::File(path) = &settings.access
        && let Err(error) = access::check(&path.value)
    {
        problems.error(path.place.clone(), cannot_open(&path.value, &error));
    }
}

fn cannot_open(path: &Path, error: &io::Error) -> String {
    format!("log.access cannot be opened: {}: {error}", path.display())
}

impl Opened {
    /// Writes access lines there from now on. Those that are under way arrive at the destination of before.
    pub(crate) fn commit(self) {
        let Some(output) = OUTPUT.get() else {
            return;
        };
        output
            .levels
            .set_access(!matches!(self.0, Destination::Off));
        output.access.store(Arc::new(self.0));
        let mut flush = output.flush.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = std::mem::replace(&mut *flush, self.1) {
            before.detach();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(output) = OUTPUT.get() {
            let mut flush = output.flush.lock().unwrap_or_else(PoisonError::into_inner);
            drop(flush.take());
        }
    }
}

impl<'a> MakeWriter<'a> for &'static Output {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        self.messages.line()
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        if metadata.target() != access::TARGET {
            return self.messages.line();
        }
        match &**self.access.load() {
            Destination::File(lines) => lines.line(),
            Destination::Stdout | Destination::Off => self.messages.line(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_shows_colors_unless_no_color_has_a_value() {
        assert!(wants_color(None) && wants_color(Some("".into())));
        assert!(!wants_color(Some("1".into())));
    }
}
