//! `[process]`, `[drain]` and `[log]`: what concerns the process as a whole.

use super::{
    Placed,
    address::no_socket,
    section::{Reader, Section, Value},
    value::{Positive, one_of},
};
use std::{path::PathBuf, time::Duration};
use toml::{Spanned, de::DeValue};

/// What a process cannot change while it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Process {
    pub(crate) workers: Workers,
    /// Whether a change of the configuration's files reloads it.
    pub(crate) watch: bool,
    /// Where a new process asks for the listening sockets.
    pub(crate) upgrade_socket: Option<Placed<PathBuf>>,
}

impl Process {
    pub(crate) fn read(section: &Section<'_>) -> Self {
        let upgrade_socket = section.file("upgrade-socket");
        if upgrade_socket.is_some() && !cfg!(unix) {
            section.error_at(
                "upgrade-socket",
                "this system cannot pass sockets between processes",
            );
        }
        if let Some(problem) = upgrade_socket.as_ref().and_then(|it| no_socket(&it.value)) {
            section.error_at("upgrade-socket", problem);
        }
        Self {
            workers: section.get("workers").unwrap_or_default(),
            watch: section.get("watch").unwrap_or(false),
            upgrade_socket,
        }
    }
}

/// The threads that serve connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Workers {
    /// One runtime, with a thread for each core.
    #[default]
    Shared,
    /// One runtime, with this number of threads.
    Threads(usize),
    /// A thread for each core, each with its own runtime and sockets.
    PerCore,
}

impl Value for Workers {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        if value.get_ref().is_integer() {
            const MAX: usize = 1_024;
            let threads = Positive::read(value, reader)?.0;
            if threads > MAX {
                reader.error(value.span(), format!("at most {MAX} threads are possible"));
                return None;
            }
            return Some(Self::Threads(threads));
        }
        let words = [("shared", Self::Shared), ("per-core", Self::PerCore)];
        one_of(value, reader, &words)
    }
}

/// The graceful shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drain {
    /// The time after SIGTERM in which connections are still accepted, for load balancers.
    pub(crate) announce: Duration,
    /// Counted from SIGTERM, with `announce`. Connections that are open then are force-closed.
    pub(crate) deadline: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            announce: Duration::ZERO,
            deadline: Duration::from_secs(30),
        }
    }
}

impl Drain {
    pub(crate) fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        let announce = section.get("announce").unwrap_or(default.announce);
        let deadline = section.get("deadline").unwrap_or(default.deadline);
        if !announce.is_zero() && announce >= deadline {
            let default = match section.has("deadline") {
                true => "",
                false => " by default",
            };
            let message = format!(
                "`drain.announce` ({announce:?}) counts towards `drain.deadline`, which is {deadline:?}{default}, so \
                 connections would be force-closed without a drain; write a longer `deadline`"
            );
            section.error_at("announce", message);
        }
        Self { announce, deadline }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) level: Level,
    pub(crate) format: Format,
    pub(crate) access: Access,
}

/// Where the line goes that each connection has at its end.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    Off,
    Stdout,
    File(Placed<PathBuf>),
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: Level(tracing::Level::INFO),
            format: Format::Auto,
            access: Access::Stdout,
        }
    }
}

impl Log {
    pub(crate) fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        Self {
            level: section.get("level").unwrap_or(default.level),
            format: section.get("format").unwrap_or(default.format),
            access: Access::read(section).unwrap_or(default.access),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level(pub(crate) tracing::Level);

impl Value for Level {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        use tracing::Level;
        let words = [
            ("error", Self(Level::ERROR)),
            ("warn", Self(Level::WARN)),
            ("info", Self(Level::INFO)),
            ("debug", Self(Level::DEBUG)),
            ("trace", Self(Level::TRACE)),
        ];
        one_of(value, reader, &words)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text on a terminal, else JSON.
    Auto,
    Text,
    Json,
}

impl Value for Format {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let words = [
            ("auto", Self::Auto),
            ("text", Self::Text),
            ("json", Self::Json),
        ];
        one_of(value, reader, &words)
    }
}

impl Access {
    fn read(section: &Section<'_>) -> Option<Self> {
        let text = section.get::<String>("access")?;
        Some(match &*text {
            "off" => Self::Off,
            "stdout" => Self::Stdout,
            // A misspelt word would be the name of a file.
            path if !path.contains(['/', '\\', '.']) => {
                let path = path.escape_debug();
                let message = format!(
                    "\"{path}\" is unknown here; write \"stdout\", \"off\" or a path such as \"./{path}\""
                );
                section.error_at("access", message);
                return None;
            }
            _ => Self::File(section.file("access")?),
        })
    }
}
