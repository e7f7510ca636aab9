//! Durations, sizes, rates and the other values that a key may have.

use super::{
    address::{no_scope, socket_path},
    section::{Reader, Value},
};
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::{IntErrorKind, NonZeroU32, ParseIntError},
    path::PathBuf,
    time::Duration,
};
use toml::{Spanned, de::DeValue};

/// A value, or the word `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrOff<T> {
    Off,
    On(T),
}

impl<T> OrOff<T> {
    pub(crate) fn into_option(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

impl<T: Value> Value for OrOff<T> {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        if value.get_ref().as_str() == Some("off") {
            return Some(Self::Off);
        }
        T::read(value, reader).map(Self::On)
    }
}

/// One value, or an array of them.
#[derive(Clone, Debug)]
pub(crate) struct OneOrMore<T>(pub(crate) Vec<T>);

impl<T: Value> Value for OneOrMore<T> {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        if value.get_ref().is_array() {
            return Vec::read(value, reader).map(Self);
        }
        T::read(value, reader).map(|value| Self(vec![value]))
    }
}

/// Elements that are wrong are reported, each at its own place, and make the whole array wrong.
impl<T: Value> Value for Vec<T> {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let Some(array) = value.get_ref().as_array() else {
            return reader.unexpected(value, "an array");
        };
        let read: Vec<_> = array.iter().map(|item| T::read(item, reader)).collect();
        read.into_iter().collect()
    }
}

/// A value and its place.
impl<T: Value> Value for super::problem::Placed<T> {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        Some(Self {
            value: T::read(value, reader)?,
            place: reader.source.place(value.span()),
        })
    }
}

impl Value for String {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        match value.get_ref().as_str() {
            Some("") => {
                reader.error(value.span(), "this string is empty");
                None
            }
            Some(text) => Some(text.into()),
            None => reader.unexpected(value, "a string"),
        }
    }
}

impl Value for bool {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        match value.get_ref().as_bool() {
            Some(value) => Some(value),
            None => reader.unexpected(value, "true or false"),
        }
    }
}

macro_rules! integer {
    ($($type:ty: $words:literal),*) => {$(
        impl Value for $type {
            fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
                let Some(integer) = value.get_ref().as_integer() else {
                    return reader.unexpected(value, $words);
                };
                match Self::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(integer) => Some(integer),
                    Err(error) => {
                        reader.error(value.span(), no_integer($words, &error));
                        None
                    }
                }
            }
        }
    )*};
}

integer!(
    u8: "a whole number from 0 to 255",
    u16: "a whole number from 0 to 65535",
    u32: "a whole number from 0 to 4294967295",
    usize: "a whole number of at least 0"
);

fn no_integer(words: &str, error: &ParseIntError) -> String {
    match error.kind() {
        // Otherwise the words have the largest one.
        IntErrorKind::PosOverflow if words.contains("at least") => {
            format!("this number is too large; expected {words}")
        }
        _ => format!("expected {words}"),
    }
}

/// A whole number of at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Positive(pub(crate) usize);

impl Value for Positive {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        const WORDS: &str = "a whole number of at least 1";
        let Some(integer) = value.get_ref().as_integer() else {
            return reader.unexpected(value, WORDS);
        };
        match usize::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(0) => {
                reader.error(value.span(), format!("expected {WORDS}"));
                None
            }
            Ok(number) => Some(Self(number)),
            Err(error) => {
                reader.error(value.span(), no_integer(WORDS, &error));
                None
            }
        }
    }
}

/// `"250ms"`, `"10s"`, `"5m"`, `"12h"`, `"1d"`.
impl Value for Duration {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let Some(text) = value.get_ref().as_str() else {
            return reader.unexpected(value, "a duration such as \"10s\"");
        };
        let duration = parse_duration(text);
        if duration.is_none() {
            reader.error(value.span(), no_duration(text));
        }
        duration
    }
}

pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_number(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

fn no_duration(text: &str) -> String {
    let unit = |word: &str| {
        let (number, word) = split_number(text).filter(|(_, unit)| unit.starts_with(word))?;
        let short = if word.starts_with("min") {
            "m"
        } else {
            &word[..1]
        };
        Some(format!("write \"{number}{short}\""))
    };
    let hint = ["sec", "min", "hour", "day"]
        .into_iter()
        .find_map(unit)
        .unwrap_or_else(|| "write \"10s\" for ten seconds".into());
    let text = text.escape_debug();
    format!("\"{text}\" is not a duration; {hint} (units: ms, s, m, h, d)")
}

/// A number of bytes: `"64 KiB"`, `"5 MiB"`, `"100 B"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl Value for Size {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let Some(text) = value.get_ref().as_str() else {
            return reader.unexpected(value, "a size such as \"64 KiB\"");
        };
        let size = parse_size(text);
        if size.is_none() {
            let text = text.escape_debug();
            let units = "units: B, KiB, MiB, GiB";
            let message = format!("\"{text}\" is not a size; write \"64 KiB\" ({units})");
            reader.error(value.span(), message);
        }
        size.map(Self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let whole = |(unit, _): &&(u64, &str)| self.0 > 0 && self.0.is_multiple_of(*unit);
        match units.iter().find(whole) {
            Some((unit, word)) => write!(f, "{} {word}", self.0 / unit),
            None => write!(f, "{} B", self.0),
        }
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let bytes = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes)
}

/// A number of bytes per second: `"5 MiB/s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteRate(pub(crate) u64);

impl Value for ByteRate {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let Some(text) = value.get_ref().as_str() else {
            return reader.unexpected(value, "a rate such as \"5 MiB/s\"");
        };
        let rate = text
            .strip_suffix("/s")
            .and_then(parse_size)
            .filter(|&rate| rate > 0);
        if rate.is_none() {
            let text = text.escape_debug();
            let units = "units: B/s, KiB/s, MiB/s, GiB/s";
            let message =
                format!("\"{text}\" is not a rate of bytes above 0; write \"5 MiB/s\" ({units})");
            reader.error(value.span(), message);
        }
        rate.map(Self)
    }
}

/// A number of events per time: `"20/s"`, `"100/m"`, `"500/h"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventRate {
    pub(crate) events: NonZeroU32,
    pub(crate) per: Duration,
}

impl Value for EventRate {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let Some(text) = value.get_ref().as_str() else {
            return reader.unexpected(value, "a rate such as \"20/s\"");
        };
        let rate = parse_event_rate(text);
        if rate.is_none() {
            let text = text.escape_debug();
            let units = "units: /s, /m, /h";
            let message = format!("\"{text}\" is not a rate above 0; write \"20/s\" ({units})");
            reader.error(value.span(), message);
        }
        rate
    }
}

fn parse_event_rate(text: &str) -> Option<EventRate> {
    let (events, per) = text.split_once('/')?;
    let per = match per {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return None,
    };
    Some(EventRate {
        events: events.parse().ok()?,
        per: Duration::from_secs(per),
    })
}

/// `"10%"`, from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Percent(pub(crate) u8);

impl Value for Percent {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let Some(text) = value.get_ref().as_str() else {
            return reader.unexpected(value, "a share such as \"10%\"");
        };
        let percent = text
            .strip_suffix('%')
            .and_then(|number| number.parse().ok())
            .filter(|&percent| percent <= 100);
        if percent.is_none() {
            let text = text.escape_debug();
            let message = format!("\"{text}\" is not a share; write \"0%\" to \"100%\"");
            reader.error(value.span(), message);
        }
        percent.map(Self)
    }
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ListenAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// Sockets of this name that systemd has opened.
    Activated(String),
}

impl Value for ListenAddress {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let text = String::read(value, reader)?;
        if let Some(path) = text.strip_prefix("unix:") {
            if !cfg!(unix) {
                reader.error(value.span(), "this system has no Unix sockets here");
                return None;
            }
            return socket_path(path, value, reader).map(Self::Unix);
        }
        if let Some(name) = text.strip_prefix("fd:") {
            if !cfg!(unix) {
                reader.error(value.span(), "sockets can be inherited on Unix alone");
                return None;
            }
            return Some(Self::Activated(name.into()));
        }
        let address = text.parse().ok();
        match (address, no_scope(&text)) {
            (Some(_), Some(advice)) => {
                reader.error(value.span(), advice);
                return None;
            }
            (Some(_), None) => {}
            (None, _) => reader.error(value.span(), no_listen_address(&text)),
        }
        address.map(Self::Tcp)
    }
}

/// Why `text` is no address to listen on, and what to write instead.
pub(crate) fn no_listen_address(text: &str) -> String {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let any = text.strip_prefix(':').or_else(|| text.strip_prefix("*:"));
    let any = any
        .filter(|port| is_number(port))
        .or(is_number(text).then_some(text));
    let scope = no_scope(text);
    // `::1:443` is an address in itself.
    let unbracketed = text
        .rsplit_once(':')
        .filter(|(host, port)| host.parse::<Ipv6Addr>().is_ok() && port.parse::<u16>().is_ok());
    let special = scope.or(unbracketed.map(|(host, port)| format!("write \"[{host}]:{port}\"")));
    let hint = match (any, bare.parse::<IpAddr>(), text.rsplit_once(':')) {
        _ if special.is_some() => special.unwrap_or_default(),
        (Some(port), ..) if port.parse::<u16>().is_ok() => {
            format!("write \"0.0.0.0:{port}\" for all IPv4 addresses, or \"[::]:{port}\"")
        }
        (None, Ok(ip), _) => format!("write it with a port: \"{}\"", SocketAddr::new(ip, 443)),
        (None, _, Some((host, port))) if port.parse::<u16>().is_ok() && !host.contains(':') => {
            format!("write an IP address instead of the name, such as \"127.0.0.1:{port}\"")
        }
        (_, _, Some((_, port))) if is_number(port) => "a port is at most 65535".into(),
        _ => "write \"0.0.0.0:443\", \"[::]:443\" or \"unix:/path\"".into(),
    };
    let text = text.escape_debug();
    format!("\"{text}\" is not an address to listen on; {hint}")
}

impl ListenAddress {
    /// Whether the system chooses a free port for each such socket.
    pub(crate) fn is_any_port(&self) -> bool {
        matches!(self, Self::Tcp(address) if address.port() == 0)
    }

    /// Whether both are on one port, and one of them is the wildcard address that the other one is a part of.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (Self::Tcp(one), Self::Tcp(other)) = (self, other) else {
            return false;
        };
        one.port() == other.port()
            && one.port() != 0
            && one.is_ipv4() == other.is_ipv4()
            && one.ip().is_unspecified() != other.ip().is_unspecified()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Activated(name) => write!(f, "fd:{name}"),
        }
    }
}

/// The permission bits of a Unix socket, in octal digits, such as `"0660"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketMode(pub(crate) u32);

impl Value for SocketMode {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        const WORDS: &str = "a mode in octal digits, such as \"0660\"";
        let Some(text) = value.get_ref().as_str() else {
            return reader.unexpected(value, WORDS);
        };
        let is_octal = text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        let is_mode = is_octal && (3..=4).contains(&text.len());
        let mode = u32::from_str_radix(text, 8).ok();
        let mode = mode.filter(|mode| is_mode && *mode <= 0o777);
        if mode.is_none() {
            let text = text.escape_debug();
            reader.error(value.span(), format!("\"{text}\" is not {WORDS}"));
        }
        mode.map(Self)
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// The path of an HTTP request, such as `"/healthz"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestPath(pub(crate) String);

/// The `Host` of an HTTP request, such as `"shop.example"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host(pub(crate) String);

impl Value for Host {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let text = String::read(value, reader)?;
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains('/') {
            let message =
                "a host is a name or an address, with a port if it is not that of the scheme";
            reader.error(value.span(), message);
            return None;
        }
        Some(Self(text))
    }
}

impl Value for RequestPath {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let text = String::read(value, reader)?;
        if !text.starts_with('/') {
            reader.error(value.span(), "the path of a check begins with \"/\"");
            return None;
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = "the path of a check has only ASCII letters, digits and signs; write %20 for a space";
            reader.error(value.span(), message);
            return None;
        }
        Some(Self(text))
    }
}

/// The name of an application protocol (ALPN), such as `"h2"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alpn(pub(crate) String);

impl Alpn {
    pub(crate) fn names(listed: Option<OneOrMore<Self>>) -> Vec<String> {
        let listed = listed.map_or_else(Vec::new, |listed| listed.0);
        listed.into_iter().map(|name| name.0).collect()
    }
}

impl Value for Alpn {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let text = String::read(value, reader)?;
        if text.len() > 255 {
            reader.error(value.span(), "the name of a protocol has at most 255 bytes");
            return None;
        }
        Some(Self(text))
    }
}

/// Reads a word out of a closed set.
pub(crate) fn one_of<T: Copy>(
    value: &Spanned<DeValue<'_>>,
    reader: &Reader<'_>,
    words: &[(&str, T)],
) -> Option<T> {
    let known = || {
        let quoted: Vec<_> = words
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        quoted.join(", ")
    };
    let Some(text) = value.get_ref().as_str() else {
        return reader.unexpected(value, &format!("one of {}", known()));
    };
    let found = words.iter().find(|(word, _)| *word == text);
    if found.is_none() {
        let text = text.escape_debug();
        let message = format!("\"{text}\" is unknown here; write one of {}", known());
        reader.error(value.span(), message);
    }
    found.map(|(_, value)| *value)
}

/// Splits `"64 KiB"` or `"10s"` into the number and the unit.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let unit = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_exactly_one_unit() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("1d"), Some(Duration::from_secs(86_400)));
        for wrong in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "5 minutes",
            "1h30m",
            "999999999999999999d",
        ] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
        assert!(no_duration("5 min").contains("write \"5m\""));
        assert!(no_duration("2 hours").contains("write \"2h\""));
    }

    #[test]
    fn an_address_that_cannot_be_listened_on_says_what_is_wrong() {
        let all =
            |port| format!("write \"0.0.0.0:{port}\" for all IPv4 addresses, or \"[::]:{port}\"");
        let known = "write \"0.0.0.0:443\", \"[::]:443\" or \"unix:/path\"".to_owned();
        let too_large = "a port is at most 65535".to_owned();
        for (text, hint) in [
            (":443", all("443")),
            ("*:443", all("443")),
            ("17001", all("17001")),
            ("99999", known.clone()),
            (":99999", too_large.clone()),
            ("127.0.0.1:99999", too_large.clone()),
            ("[::1]:99999", too_large.clone()),
            ("localhost:99999", too_large),
            (
                "localhost:1",
                "write an IP address instead of the name, such as \"127.0.0.1:1\"".into(),
            ),
            (
                "127.0.0.1",
                "write it with a port: \"127.0.0.1:443\"".into(),
            ),
            ("::1", "write it with a port: \"[::1]:443\"".into()),
            ("[::1]", "write it with a port: \"[::1]:443\"".into()),
            ("::1:443", "write \"[::1]:443\"".into()),
            (
                "2001:db8::1",
                "write it with a port: \"[2001:db8::1]:443\"".into(),
            ),
            ("localhost", known.clone()),
            ("127.0.0.1:http", known),
        ] {
            let expected = format!("\"{text}\" is not an address to listen on; {hint}");
            assert_eq!(no_listen_address(text), expected);
        }
    }

    #[test]
    fn sizes_and_rates_have_a_unit_and_fit() {
        assert_eq!(parse_size("64 KiB"), Some(65_536));
        assert_eq!(parse_size("100 B"), Some(100));
        for wrong in ["64", "64 KB", "KiB", "18446744073709551615 KiB"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
        let rate = parse_event_rate("20/s").expect("a rate");
        assert_eq!((rate.events.get(), rate.per), (20, Duration::from_secs(1)));
        for wrong in ["0/s", "20", "20/d", "-1/s", "4294967296/s"] {
            assert_eq!(parse_event_rate(wrong), None, "{wrong}");
        }
    }
}
