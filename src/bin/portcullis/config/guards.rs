//! What a listener allows its clients: `limits`, `per-client`, `access`, `timeouts`, `throughput`, `bandwidth`.
//!
//! `[defaults]` has the same tables. A key that a listener leaves out has the value of `[defaults]`, else the
//! built-in one.

use super::{
    problem::Placed,
    section::{Reader, Section, Value},
    source::{Source, read_text},
    value::{ByteRate, EventRate, OneOrMore, OrOff, Percent, Positive, Size, one_of},
};
use portcullis::middleware::ip_set::IpSet;
use std::{path::Path, time::Duration};
use toml::{Spanned, de::DeValue};

#[derive(Clone, Debug, Default)]
pub(crate) struct Guards {
    pub(crate) limits: Limits,
    pub(crate) per_client: PerClient,
    pub(crate) access: Access,
    pub(crate) timeouts: Timeouts,
    pub(crate) throughput: Option<Throughput>,
    pub(crate) bandwidth: BandwidthLimits,
}

impl Guards {
    pub(crate) fn read(section: &Section<'_>, base: &Self) -> Self {
        let limits = section.section("limits");
        let per_client = section.section("per-client");
        let access = section.section("access");
        let timeouts = section.section("timeouts");
        // "off" in place of the table removes that of the defaults.
        let is_off = section.has("throughput") && !section.has_table("throughput");
        let throughput = if is_off {
            section.get::<Off>("throughput");
            None
        } else {
            match section.section("throughput") {
                Some(section) => section.read(Throughput::read),
                None => base.throughput.clone(),
            }
        };
        let bandwidth = section.section("bandwidth");
        Self {
            limits: read_or(limits, &base.limits, Limits::read),
            per_client: read_or(per_client, &base.per_client, PerClient::read),
            access: read_or(access, &base.access, Access::read),
            timeouts: read_or(timeouts, &base.timeouts, Timeouts::read),
            throughput,
            bandwidth: read_or(bandwidth, &base.bandwidth, BandwidthLimits::read),
        }
    }
}

fn read_or<T: Clone>(
    section: Option<Section<'_>>,
    base: &T,
    read: impl FnOnce(&Section<'_>, &T) -> T,
) -> T {
    match section {
        Some(section) => section.read(|section| read(section, base)),
        None => base.clone(),
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Concurrent connections; `None` is `"off"`.
    pub(crate) connections: Option<usize>,
    pub(crate) when_full: WhenFull,
    /// Connections with an unfinished TLS handshake, if that is written.
    handshakes: Option<OrOff<Positive>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: Some(10_000),
            when_full: WhenFull::Wait,
            handshakes: None,
        }
    }
}

impl Limits {
    fn read(section: &Section<'_>, base: &Self) -> Self {
        let connections = section.get::<OrOff<Positive>>("connections");
        let off_or = |limit: OrOff<Positive>| limit.into_option().map(|limit| limit.0);
        Self {
            connections: connections.map_or(base.connections, off_or),
            when_full: section.get("when-full").unwrap_or(base.when_full),
            handshakes: section.get("handshakes").or(base.handshakes),
        }
    }

    /// How many connections may have an unfinished TLS handshake; `None` without a limit.
    ///
    /// By default half of all, so that silent clients leave places for others, and at most as many as the library
    /// allows by default, because each takes memory.
    pub(crate) fn handshakes(&self) -> Option<usize> {
        match self.handshakes {
            Some(OrOff::Off) => None,
            Some(OrOff::On(limit)) => Some(limit.0),
            None => Some((self.connections.unwrap_or(usize::MAX) / 2).clamp(1, 5_000)),
        }
    }
}

/// What happens to a client beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// It waits in the accept queue.
    Wait,
    Refuse,
    /// It is accepted and waits so long; beyond the number it is refused.
    WaitUpTo(Duration, usize),
}

impl Value for WhenFull {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let DeValue::Table(table) = value.get_ref() else {
            return one_of(
                value,
                reader,
                &[("wait", Self::Wait), ("refuse", Self::Refuse)],
            );
        };
        let section = Section::inline(*reader, table, value.span(), "when-full");
        section.read(|section| {
            let wait = section.require::<Duration>("wait")?.value;
            let at_most = section.require::<Positive>("at-most")?.value;
            Some(Self::WaitUpTo(wait, at_most.0))
        })
    }
}

/// Limits of each client, by its address.
#[derive(Clone, Debug)]
pub(crate) struct PerClient {
    pub(crate) connections: Option<usize>,
    pub(crate) rate: Option<EventRate>,
    pub(crate) burst: Option<usize>,
    /// IPv6 clients share what their network of this prefix may have.
    pub(crate) ipv6_prefix: u8,
    pub(crate) refuse: Refuse,
    pub(crate) observe: bool,
}

impl Default for PerClient {
    fn default() -> Self {
        Self {
            connections: None,
            rate: None,
            burst: None,
            ipv6_prefix: 64,
            refuse: Refuse::Close,
            observe: false,
        }
    }
}

impl PerClient {
    fn read(section: &Section<'_>, base: &Self) -> Self {
        let off_or = |limit: OrOff<Positive>| limit.into_option().map(|limit| limit.0);
        let read = Self {
            connections: section
                .get::<OrOff<Positive>>("connections")
                .map_or(base.connections, off_or),
            rate: section
                .get::<OrOff<EventRate>>("rate")
                .map_or(base.rate, OrOff::into_option),
            burst: section
                .get::<Positive>("burst")
                .map_or(base.burst, |burst| Some(burst.0)),
            ipv6_prefix: section.get("ipv6-prefix").unwrap_or(base.ipv6_prefix),
            refuse: section.get("refuse").unwrap_or(base.refuse),
            // Not inherited, so that a limit of a listener is never observed by surprise.
            observe: section.get("observe").unwrap_or(false),
        };
        if !(1..=128).contains(&read.ipv6_prefix) {
            section.error_at(
                "ipv6-prefix",
                "a prefix of IPv6 has 1 to 128 bits; 64 is one site",
            );
        }
        if section.has("burst") && read.rate.is_none() {
            section.error_at("burst", "`burst` needs a `rate`");
        }
        read
    }
}

/// How a client is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refuse {
    Close,
    Reset,
}

impl Value for Refuse {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        one_of(
            value,
            reader,
            &[("close", Self::Close), ("reset", Self::Reset)],
        )
    }
}

/// Which addresses are admitted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    pub(crate) allow: Networks,
    pub(crate) deny: Networks,
    pub(crate) refuse: Option<Refuse>,
    pub(crate) observe: bool,
}

impl Access {
    fn read(section: &Section<'_>, base: &Self) -> Self {
        Self {
            allow: Networks::read(section, "allow", "allow-file").or(&base.allow),
            deny: Networks::read(section, "deny", "deny-file").or(&base.deny),
            refuse: section.get("refuse").or(base.refuse),
            // Not inherited, so that a limit of a listener is never observed by surprise.
            observe: section.get("observe").unwrap_or(false),
        }
    }
}

/// The networks of a list, and of a file with one network per line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Networks {
    listed: Option<IpSet>,
    from_file: Option<IpSet>,
}

impl Networks {
    pub(crate) fn read(section: &Section<'_>, key: &'static str, file_key: &'static str) -> Self {
        let listed = section.get::<OneOrMore<Network>>(key);
        let listed = listed.map(|networks| {
            let texts = networks.0.iter().map(|network| &network.0);
            IpSet::new(texts).expect("each network was parsed before")
        });
        let from_file = section.file(file_key).and_then(|file| {
            let list = from_file(&file.value, section.reader());
            if file_key == "allow-file"
                && list.as_ref().is_ok_and(IpSet::is_empty)
                && listed.is_none()
            {
                let path = file.value.display();
                section.note_at(
                    file_key,
                    format!("{path} has no network, so no client is admitted"),
                );
            }
            let report = |reasons: Vec<String>| {
                for reason in reasons {
                    section.error_at(file_key, reason);
                }
            };
            list.map_err(report).ok()
        });
        Self { listed, from_file }
    }

    /// With the value of `base` for each of both keys that is absent.
    fn or(self, base: &Self) -> Self {
        Self {
            listed: self.listed.or_else(|| base.listed.clone()),
            from_file: self.from_file.or_else(|| base.from_file.clone()),
        }
    }

    /// Those of the list and of the file together; `None` if both are absent.
    pub(crate) fn all(&self) -> Option<IpSet> {
        match (&self.listed, &self.from_file) {
            (Some(listed), Some(from_file)) => Some(listed.union(from_file)),
            (listed, from_file) => listed.as_ref().or(from_file.as_ref()).cloned(),
        }
    }
}

/// Reads the networks of a file, which `process.watch` then watches, too.
fn from_file(path: &Path, reader: &Reader<'_>) -> Result<IpSet, Vec<String>> {
    let text = read_text(path);
    let list = Source::new(path, text.as_deref().unwrap_or_default());
    reader.lists.borrow_mut().push(list);
    let text = text.map_err(|error| {
        vec![format!(
            "cannot read the networks in {}: {error}",
            path.display()
        )]
    })?;
    let error = match IpSet::from_lines(&text) {
        Ok(networks) => return Ok(networks),
        Err(error) => error,
    };
    let mut lines: Vec<_> = text.lines().collect();
    let (mut wrong, mut next) = (Vec::new(), Some(error.line()));
    while let Some(line) = next.filter(|_| wrong.len() < REPORTED_LINES) {
        // Without the text of the line, because an admin interface may show it to those who cannot read the file.
        wrong.push(format!(
            "{}:{line}: this is not a network; write an address, optionally with a prefix such as /24",
            path.display()
        ));
        // The next one, without those before.
        lines[..line].fill("");
        let rest = IpSet::from_lines(&lines.join("\n"));
        next = rest.err().map(|error| error.line());
    }
    Err(wrong)
}

/// Of one file.
const REPORTED_LINES: usize = 20;

/// A network that parses.
#[derive(Clone, Debug)]
struct Network(String);

impl Value for Network {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let text = String::read(value, reader)?;
        match IpSet::new([&text]) {
            Ok(_) => Some(Self(text)),
            Err(error) => {
                reader.error(value.span(), error.to_string());
                None
            }
        }
    }
}

/// How long a client may take; `None` is `"off"`.
#[derive(Clone, Debug)]
pub(crate) struct Timeouts {
    pub(crate) proxy_header: Option<Duration>,
    pub(crate) client_hello: Option<Duration>,
    pub(crate) prelude: Option<Duration>,
    pub(crate) handshake: Option<Duration>,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) idle: Option<Duration>,
    pub(crate) write: Option<Duration>,
    pub(crate) half_closed: Option<Duration>,
    /// Silence that ends a connection while its listener or the program shuts down.
    pub(crate) drain_idle: Option<Duration>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) lifetime_jitter: u8,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        Self {
            proxy_header: seconds(5),
            client_hello: seconds(5),
            prelude: seconds(10),
            handshake: seconds(10),
            first_byte: None,
            idle: seconds(3_600),
            write: seconds(30),
            half_closed: seconds(60),
            drain_idle: None,
            lifetime: None,
            lifetime_jitter: 0,
        }
    }
}

impl Timeouts {
    fn read(section: &Section<'_>, base: &Self) -> Self {
        let bound = |key, base: Option<Duration>| {
            let read = section.get::<OrOff<Duration>>(key);
            if read == Some(OrOff::On(Duration::ZERO)) {
                section.error_at(
                    key,
                    "a timeout of zero ends every connection; write \"off\" for none",
                );
            }
            read.map_or(base, OrOff::into_option)
        };
        let jitter = section.get::<Percent>("lifetime-jitter");
        Self {
            proxy_header: bound("proxy-header", base.proxy_header),
            client_hello: bound("client-hello", base.client_hello),
            prelude: bound("prelude", base.prelude),
            handshake: bound("handshake", base.handshake),
            first_byte: bound("first-byte", base.first_byte),
            idle: bound("idle", base.idle),
            write: bound("write", base.write),
            half_closed: bound("half-closed", base.half_closed),
            drain_idle: bound("drain-idle", base.drain_idle),
            lifetime: bound("lifetime", base.lifetime),
            lifetime_jitter: jitter.map_or(base.lifetime_jitter, |percent| percent.0),
        }
    }
}

/// The bytes that a connection must move.
#[derive(Clone, Debug)]
pub(crate) struct Throughput {
    pub(crate) bytes_per_second: u64,
    pub(crate) over: Duration,
    pub(crate) direction: Direction,
    pub(crate) observe: bool,
}

/// Of the bytes that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    In,
    Out,
    Both,
}

impl Value for Direction {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let words = [("in", Self::In), ("out", Self::Out), ("both", Self::Both)];
        one_of(value, reader, &words)
    }
}

/// The word `"off"`.
struct Off;

impl Value for Off {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        one_of(value, reader, &[("off", ())]).map(|()| Self)
    }
}

impl Throughput {
    fn read(section: &Section<'_>) -> Option<Self> {
        let min = section.require::<ByteRate>("min");
        let over = section.get::<Duration>("over");
        let over = over.unwrap_or(Duration::from_secs(30));
        let direction = section.get("direction").unwrap_or(Direction::Both);
        let observe = section.get("observe").unwrap_or(false);
        if over < Duration::from_secs(1) {
            section.error_at("over", "the time must be at least \"1s\"");
            return None;
        }
        Some(Self {
            bytes_per_second: min?.value.0,
            over,
            direction,
            observe,
        })
    }
}

/// The most bytes per second, in each direction.
#[derive(Clone, Debug, Default)]
pub(crate) struct BandwidthLimits {
    pub(crate) per_connection: Option<ByteRate>,
    pub(crate) total: Option<ByteRate>,
    pub(crate) burst: Option<Size>,
}

impl BandwidthLimits {
    fn read(section: &Section<'_>, base: &Self) -> Self {
        let limit = |key, base| {
            let read = section.get::<OrOff<ByteRate>>(key);
            read.map_or(base, OrOff::into_option)
        };
        Self {
            per_connection: limit("per-connection", base.per_connection),
            total: limit("total", base.total),
            burst: section.get("burst").or(base.burst),
        }
    }
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}

/// A name that other parts of the file refer to.
pub(crate) fn read_name(section: &Section<'_>) -> Option<Placed<String>> {
    let name = section.require::<String>("name")?;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    // So that it is a segment of a URL as it is, which `.` and `..` are not.
    let begins_well = name
        .value
        .starts_with(|first: char| first.is_ascii_alphanumeric());
    if !begins_well || !name.value.chars().all(plain) || name.value.len() > 64 {
        section.error_at(
            "name",
            "a name has up to 64 letters, digits, and the signs - _ . and begins with a letter or a digit",
        );
        return None;
    }
    Some(name)
}
