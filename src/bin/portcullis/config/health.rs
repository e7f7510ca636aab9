//! `backend.health`: how it is found out whether a server works.

use super::{
    backend::BackendTls,
    section::{Reader, Section, Value},
    value::{Host, OneOrMore, Positive, RequestPath, one_of},
};
use std::{ops::RangeInclusive, time::Duration};
use toml::{Spanned, de::DeValue};

/// How servers are checked.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    pub(crate) check: Check,
    /// Instead of the TLS of the backend.
    pub(crate) tls: Option<BackendTls>,
    /// On another port than the server's own.
    pub(crate) port: Option<u16>,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) fall: u32,
    pub(crate) rise: u32,
    pub(crate) close_on_down: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// No check; failed connects still count.
    Off,
    Tcp,
    Tls,
    Http {
        path: String,
        /// The host and port of the server by default.
        host: Option<String>,
        expect: Vec<Statuses>,
    },
    Bytes {
        send: String,
        /// One of them has to be in the answer.
        expect: Vec<String>,
    },
}

impl Default for Health {
    fn default() -> Self {
        Self {
            check: Check::Tcp,
            tls: None,
            port: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            fall: 3,
            rise: 2,
            close_on_down: false,
        }
    }
}

/// A port that can be connected to.
struct Port(u16);

impl Value for Port {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let port = u16::read(value, reader)?;
        if port == 0 {
            reader.error(value.span(), "a server has a port from 1 to 65535");
            return None;
        }
        Some(Self(port))
    }
}

/// Statuses of HTTP: `200`, or `"200-299"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statuses(pub(crate) RangeInclusive<u16>);

impl Value for Statuses {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let Some(text) = value.get_ref().as_str() else {
            return u16::read(value, reader).map(|status| Self(status..=status));
        };
        let range = text.split_once('-').and_then(|(first, last)| {
            let range: (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
            (range.0 <= range.1).then_some(range.0..=range.1)
        });
        if range.is_none() {
            let text = text.escape_debug();
            let message =
                format!("\"{text}\" is not a range of statuses; write 200 or \"200-299\"");
            reader.error(value.span(), message);
        }
        range.map(Self)
    }
}

/// What a check expects: one value or several.
fn expected<T: Value>(section: &Section<'_>) -> Option<Vec<T>> {
    let expected = section.get::<OneOrMore<T>>("expect")?.0;
    if expected.is_empty() {
        section.error_at("expect", "at least one value is needed");
    }
    Some(expected)
}

/// `health = "tcp"` in one word.
#[derive(Clone, Copy)]
struct HealthWord(bool);

impl Value for HealthWord {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        one_of(value, reader, &[("tcp", Self(true)), ("off", Self(false))])
    }
}

#[derive(Clone, Copy)]
struct OnDown(bool);

impl Value for OnDown {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        one_of(
            value,
            reader,
            &[("keep", Self(false)), ("close", Self(true))],
        )
    }
}

impl Health {
    pub(super) fn of(backend: &Section<'_>) -> Self {
        if backend.has("health") && !backend.has_table("health") {
            let tcp = backend
                .get::<HealthWord>("health")
                .is_none_or(|word| word.0);
            let check = if tcp { Check::Tcp } else { Check::Off };
            return Self {
                check,
                ..Self::default()
            };
        }
        let section = backend.section("health");
        section.map_or_else(Self::default, |section| section.read(Self::read))
    }

    fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        let path = section.get::<RequestPath>("http");
        let is_http = section.has("http");
        let host = section.get::<Host>("host");
        if host.is_some() && !is_http {
            section.error_at(
                "host",
                "it is for `http`; a check of another kind sends no host",
            );
        }
        let own_tls = match section.has_table("tls") {
            true => section.section("tls"),
            false => None,
        };
        let own_tls = own_tls.map(|section| section.read(BackendTls::read));
        let only_tls = own_tls.is_none() && section.get("tls").unwrap_or(false);
        let send = section.get::<String>("send");
        let kinds = usize::from(is_http) + usize::from(only_tls) + usize::from(send.is_some());
        if kinds > 1 {
            section.error(format!(
                "{}: keep one of `http`, `tls` and `send`",
                section.words()
            ));
        }
        let check = match (path, send) {
            (None, _) if is_http => {
                // The path is wrong, which is reported; `expect` belongs to it.
                section.has("expect");
                Check::Tcp
            }
            (Some(path), _) => Check::Http {
                path: path.0,
                host: host.map(|host| host.0),
                expect: expected(section).unwrap_or_else(|| vec![Statuses(200..=200)]),
            },
            (None, Some(send)) => Check::Bytes {
                send,
                expect: {
                    section.missing("expect", "");
                    expected(section).unwrap_or_default()
                },
            },
            (None, None) if only_tls => Check::Tls,
            // The server speaks first.
            (None, None) if section.has("expect") => Check::Bytes {
                send: String::new(),
                expect: expected(section).unwrap_or_default(),
            },
            (None, None) if own_tls.is_some() => Check::Tls,
            (None, None) => Check::Tcp,
        };
        let whole = |key, default| {
            let read = section.get::<Positive>(key);
            read.map_or(default, |number| {
                u32::try_from(number.0).unwrap_or(u32::MAX)
            })
        };
        let time = |key, default: Duration| {
            let time = section.get(key).unwrap_or(default);
            if time < Duration::from_millis(100) {
                section.error_at(key, "the time must be at least \"100ms\"");
            }
            time
        };
        Self {
            check,
            tls: own_tls,
            port: section.get::<Port>("port").map(|port| port.0),
            interval: time("interval", default.interval),
            timeout: time("timeout", default.timeout),
            fall: whole("fall", default.fall),
            rise: whole("rise", default.rise),
            close_on_down: section.get::<OnDown>("on-down").is_some_and(|word| word.0),
        }
    }
}
