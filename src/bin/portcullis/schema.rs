//! The JSON schema of the configuration file in `share/`, with which editors complete and check it.
//!
//! Keys, descriptions and words come from `configuration.md`, which other tests hold to the program. What kind of value
//! a key has is written here.

use serde_json::{Value, json};

const PAGE: &str = include_str!("configuration.md");

/// The kinds of values, each with its keys. Other keys are tables.
const KINDS: &[(Kind, &str)] = &[
    (Kind::Version, "version"),
    (
        Kind::Boolean,
        "process.watch listener.recheck listener.per-client.observe listener.access.observe \
         listener.throughput.observe listener.route.pass listener.tls.required backend.server.backup",
    ),
    (
        Kind::Either(&Kind::Boolean, &Kind::Table),
        "backend.health.tls",
    ),
    (
        Kind::Count,
        "admin.endings backend.queue.length \
         when-full.at-most listener.per-client.burst listener.per-client.ipv6-prefix backend.server.weight \
         backend.proxy-protocol.version backend.health.port backend.health.fall backend.health.rise",
    ),
    (
        Kind::OrOff(&Kind::Count),
        "listener.limits.connections listener.limits.handshakes listener.per-client.connections \
         backend.server.max-connections",
    ),
    (
        DURATION,
        "drain.announce drain.deadline when-full.wait listener.throughput.over backend.connect-timeout \
         backend.queue.timeout \
         backend.health.interval backend.health.timeout",
    ),
    (
        Kind::OrOff(&DURATION),
        "listener.timeouts.proxy-header listener.timeouts.client-hello listener.timeouts.prelude \
         listener.timeouts.handshake listener.timeouts.first-byte listener.timeouts.idle \
         listener.timeouts.write listener.timeouts.half-closed listener.timeouts.lifetime listener.timeouts.drain-idle \
         backend.drain",
    ),
    (
        Kind::OrOff(&Kind::Pattern("^[1-9][0-9]*/[smh]$")),
        "listener.per-client.rate",
    ),
    (
        Kind::OrOff(&BYTE_RATE),
        "listener.bandwidth.per-connection listener.bandwidth.total",
    ),
    (BYTE_RATE, "listener.throughput.min"),
    (SIZE, "listener.bandwidth.burst"),
    (
        Kind::OrOff(&SIZE),
        "listener.receive-buffer listener.send-buffer backend.receive-buffer backend.send-buffer",
    ),
    (
        Kind::Pattern("^(100|[0-9]{1,2})%$"),
        "listener.timeouts.lifetime-jitter",
    ),
    (
        Kind::Pattern("^0?[0-7]{3}$"),
        "admin.socket-mode listener.socket-mode",
    ),
    (
        Kind::Words,
        "log.level log.format admin.protect listener.prelude listener.per-client.refuse \
         listener.access.refuse listener.throughput.direction listener.proxy-protocol.mode \
         listener.proxy-protocol.untrusted listener.tls.min-version listener.tls.client.auth \
         listener.tls.client.crl-outdated listener.route.protocol listener.route.refuse backend.balance backend.when-none-healthy \
         backend.tls.prelude backend.health.tls.prelude backend.health.on-down",
    ),
    (Kind::OneOrMore(&Kind::Words), "backend.proxy-protocol.send"),
    (Kind::WordsOr(&Kind::Count), "process.workers"),
    (
        Kind::WordsOr(&Kind::Table),
        "listener.limits.when-full backend.health",
    ),
    (
        Kind::Text,
        "process.upgrade-socket log.access admin.listen admin.token-file admin.token certificate.name \
         certificate.chain certificate.key certificate.ocsp listener.name listener.backend \
         listener.access.allow-file listener.access.deny-file listener.proxy-protocol.trust-file \
         listener.tls.default listener.tls.client.roots listener.tls.client.crl listener.tls.tickets.keys-file \
         listener.route.backend backend.name backend.server.address backend.tls.name backend.tls.roots backend.tls.certificate \
         backend.health.http backend.health.host backend.health.tls.name backend.health.tls.roots backend.health.tls.certificate \
         backend.health.send",
    ),
    (
        Kind::OneOrMore(&Kind::Text),
        "include admin.hosts listener.listen listener.access.allow listener.access.deny \
         listener.proxy-protocol.trust listener.tls.certificates listener.tls.alpn \
         listener.tls.client.allow listener.route.names backend.servers backend.tls.alpn backend.health.tls.alpn",
    ),
    (
        Kind::OneOrMore(&Kind::Either(&Kind::Text, &Kind::Count)),
        "backend.health.expect",
    ),
];
const DURATION: Kind = Kind::Pattern("^[0-9]+ *(ms|s|m|h|d)$");
const SIZE: Kind = Kind::Pattern("^[0-9]+ *([KMG]i)?B$");
const BYTE_RATE: Kind = Kind::Pattern("^[0-9]+ *([KMG]i)?B/s$");

/// These are written as `[[listener]]`.
const ARRAYS: [&str; 5] = [
    "listener",
    "listener.route",
    "backend",
    "backend.server",
    "certificate",
];
/// Required only where another key says so.
const CONDITIONAL: [&str; 3] = [
    "version",
    "listener.proxy-protocol.trust",
    "listener.tls.client.roots",
];

enum Kind {
    Version,
    Boolean,
    Count,
    Text,
    /// A string that a regular expression matches.
    Pattern(&'static str),
    /// The words in quotes on the page.
    Words,
    Table,
    OrOff(&'static Self),
    WordsOr(&'static Self),
    Either(&'static Self, &'static Self),
    OneOrMore(&'static Self),
}

impl Kind {
    fn schema(&self, words: &[&str]) -> Value {
        match self {
            Self::Version => json!({ "const": 1 }),
            Self::Boolean => json!({ "type": "boolean" }),
            Self::Count => json!({ "type": "integer", "minimum": 1 }),
            Self::Text => json!({ "type": "string", "minLength": 1 }),
            Self::Pattern(pattern) => json!({ "type": "string", "pattern": pattern }),
            Self::Words => {
                assert!(
                    !words.is_empty(),
                    "the page names the words of each such key"
                );
                json!({ "enum": words })
            }
            Self::Table => json!({ "type": "object" }),
            Self::OrOff(kind) => either(json!({ "const": "off" }), kind.schema(words)),
            Self::WordsOr(kind) => either(json!({ "enum": words }), kind.schema(words)),
            Self::Either(one, other) => either(one.schema(words), other.schema(words)),
            Self::OneOrMore(kind) => {
                let one = kind.schema(words);
                either(one.clone(), json!({ "type": "array", "items": one }))
            }
        }
    }
}

fn either(one: Value, other: Value) -> Value {
    json!({ "anyOf": [one, other] })
}

/// A row of the page.
struct Row {
    key: &'static str,
    value: &'static str,
    default: &'static str,
}

fn rows() -> impl Iterator<Item = Row> {
    PAGE.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        Some(Row {
            key: cells.next()?.strip_suffix('`')?,
            value: cells.next()?,
            default: cells.next()?,
        })
    })
}

pub(crate) fn schema() -> String {
    let mut root = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "The configuration of portcullis",
        "type": "object",
    });
    for row in rows() {
        let has_key = |keys: &str| keys.split_whitespace().any(|key| key == row.key);
        let kinds = KINDS.iter().find(|(_, keys)| has_key(keys));
        add(
            &mut root,
            &row,
            kinds.map_or(&Kind::Table, |(kind, _)| kind),
        );
    }
    close(&mut root);
    // The tables of `defaults` and the other places of `tls` are those of a listener.
    let listener = "/properties/listener/items/properties";
    let guards = [
        "limits",
        "per-client",
        "access",
        "timeouts",
        "throughput",
        "bandwidth",
    ];
    for (place, keys) in [
        ("/properties/defaults", &guards[..]),
        ("/properties/admin", &["tls"]),
        (&*format!("{listener}/route/items"), &["tls"]),
    ] {
        let table = root.pointer_mut(place).expect("a table of the page");
        for key in keys {
            table["properties"][key] = json!({ "$ref": format!("#{listener}/{key}") });
        }
        table["additionalProperties"] = false.into();
    }
    let throughput = root
        .pointer_mut(&format!("{listener}/throughput"))
        .expect("a table");
    *throughput = either(json!({ "const": "off" }), throughput.take());
    let text = serde_json::to_string_pretty(&root).expect("it is JSON");
    text + "\n"
}

/// Adds a key, and the tables around it.
fn add(root: &mut Value, row: &Row, kind: &Kind) {
    // The page writes these keys without the table around them.
    let path = row.key.replace("when-full.", "listener.limits.when-full.");
    let (tables, key) = path.rsplit_once('.').unwrap_or(("", &path));
    let mut table = root;
    let mut so_far = String::new();
    for name in tables.split('.').filter(|name| !name.is_empty()) {
        so_far += if so_far.is_empty() { "" } else { "." };
        so_far += name;
        table = &mut table["properties"][name];
        if ARRAYS.contains(&&*so_far) {
            table["type"] = "array".into();
            table = &mut table["items"];
        } else if table.get("anyOf").is_some() {
            table = &mut table["anyOf"][1]; // the first is a word
        }
        table["type"] = "object".into();
    }
    if row.default == "required" && !CONDITIONAL.contains(&row.key) {
        let required = table.as_object_mut().expect("a table").entry("required");
        let required = required.or_insert_with(|| json!([]));
        required.as_array_mut().expect("names").push(key.into());
    }
    let words: Vec<_> = row.value.split('`').filter_map(word).collect();
    let mut schema = match ARRAYS.contains(&row.key) {
        true => json!({ "type": "array", "items": { "type": "object" } }),
        false => kind.schema(&words),
    };
    let default = match row.default {
        "" | "none" | "required" => String::new(),
        default => format!(" Default: {default}."),
    };
    if !row.value.starts_with("table") {
        schema["description"] = format!("{}.{default}", row.value).into();
    }
    table["properties"][key] = schema;
}

/// `"close"` is a word, and `"10.0.0.0/8"` is an example.
fn word(code: &'static str) -> Option<&'static str> {
    let word = code.strip_prefix('"')?.strip_suffix('"')?;
    let is_letter =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    let is_word =
        word.starts_with(|first: char| first.is_ascii_lowercase()) && word.chars().all(is_letter);
    (is_word || word.starts_with("1.")).then_some(word)
}

/// Tables have no other keys.
fn close(schema: &mut Value) {
    if let Value::Object(object) = schema {
        let has_keys = object.contains_key("properties");
        object.values_mut().for_each(close);
        if has_keys && object.contains_key("type") {
            object.insert("additionalProperties".into(), false.into());
        }
    } else if let Value::Array(array) = schema {
        array.iter_mut().for_each(close);
    }
}

#[test]
fn each_key_has_one_kind_of_value_and_is_on_the_page() {
    let page: Vec<_> = rows().map(|row| row.key).collect();
    let mut seen = Vec::new();
    for key in KINDS.iter().flat_map(|(_, keys)| keys.split_whitespace()) {
        assert!(page.contains(&key), "{key} is not in configuration.md");
        assert!(!seen.contains(&key), "{key} is here twice");
        seen.push(key);
    }
    let tables = page.iter().filter(|key| !seen.contains(key));
    let tables: Vec<_> = tables.copied().collect();
    assert_eq!(
        tables,
        [
            "process",
            "drain",
            "log",
            "admin",
            "defaults",
            "listener",
            "backend",
            "certificate",
            "admin.tls"
        ]
    );
}
