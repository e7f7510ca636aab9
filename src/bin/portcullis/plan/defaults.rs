//! The column *default* of `configuration.md`: a default that is written out changes nothing.

use super::changes;
use crate::config::{Config, Problems, Source};
use std::collections::BTreeMap;

/// The page of all keys.
const PAGE: &str = include_str!("../configuration.md");

/// Defaults that are no value to write, with their keys.
const WORDS: &[(&str, &[&str])] = &[
    (
        "required",
        &[
            "version",
            "admin.listen",
            "certificate.name",
            "certificate.chain",
            "certificate.key",
            "listener.name",
            "listener.listen",
            "when-full.wait",
            "when-full.at-most",
            "listener.throughput.min",
            "listener.proxy-protocol.trust",
            "listener.tls.certificates",
            "listener.tls.client.roots",
            "backend.name",
            "backend.server.address",
        ],
    ),
    (
        "none",
        &[
            "include",
            "process.upgrade-socket",
            "admin.token",
            "admin.hosts",
            "admin.tls",
            "certificate.ocsp",
            "listener.prelude",
            "listener.access.allow-file",
            "listener.access.deny",
            "listener.access.deny-file",
            "listener.proxy-protocol.trust-file",
            "listener.tls.alpn",
            "listener.tls.client.crl",
            "backend.proxy-protocol.send",
            "backend.tls.alpn",
            "backend.tls.certificate",
            "backend.tls.prelude",
            "backend.health.tls.alpn",
            "backend.health.tls.certificate",
            "backend.health.tls.prelude",
        ],
    ),
    (
        "none: changes are possible over the Unix socket alone",
        &["admin.token-file"],
    ),
    (
        "all",
        &["listener.access.allow", "listener.tls.client.allow"],
    ),
    (
        "the certificate, if it is the only one; else none: these clients get the alert `unrecognized_name`",
        &["listener.tls.default"],
    ),
    ("1,024", &["backend.queue.length"]),
    ("the host and port of the server", &["backend.health.host"]),
    (
        "half of `connections`, at most `5_000`",
        &["listener.limits.handshakes"],
    ),
    ("the number in `rate`", &["listener.per-client.burst"]),
    ("one second of the rate", &["listener.bandwidth.burst"]),
    ("this or `route`", &["listener.backend"]),
    ("this or `refuse`", &["listener.route.backend"]),
    ("this or `server`", &["backend.servers"]),
    (
        "the host of the address",
        &["backend.tls.name", "backend.health.tls.name"],
    ),
    (
        "the system's",
        &["backend.tls.roots", "backend.health.tls.roots"],
    ),
    (
        "keys of this process for each listener and route, replaced every 6 h; a reload keeps them unless it changes \
         `client.auth`, `client.roots` or `client.crl`",
        &["listener.tls.tickets.keys-file"],
    ),
];

/// The keys with their defaults, without those of which the column is empty.
fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAGE.lines().filter_map(|line| {
        let (key, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let (rest, _reload) = rest.strip_suffix('|')?.rsplit_once(" |")?;
        let (_meaning, default) = rest.rsplit_once(" | ")?;
        Some((key, default.trim()))
    })
}

/// The value to write, such as `"10s"`.
fn value(default: &str) -> Option<&str> {
    let (value, _where_else) = default.strip_prefix('`')?.split_once('`')?;
    Some(value)
}

#[test]
fn a_default_that_is_written_out_changes_nothing() {
    let mut tried = 0;
    for (key, default) in rows() {
        let Some(value) = value(default) else {
            continue;
        };
        let (base, written) = (file(key, ""), file(key, value));
        assert_ne!(base, written, "{key} has no place in the file");
        assert_eq!(
            changes(&config(&base), &config(&written)),
            [],
            "{key} = {value}"
        );
        tried += 1;
    }
    assert!(tried > 50, "{tried} defaults");
}

#[test]
fn the_other_defaults_are_words() {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (key, default) in rows() {
        if value(default).is_none() && !default.is_empty() {
            found.entry(default).or_default().push(key);
        }
    }
    let expected: BTreeMap<_, _> = WORDS
        .iter()
        .map(|(words, keys)| (*words, keys.to_vec()))
        .collect();
    assert_eq!(found, expected);
}

fn config(text: &str) -> Config {
    let mut problems = Problems::default();
    let config = Config::parse(&Source::new("gate.toml", text), &mut problems);
    assert_eq!(problems.errors(), 0, "{:?}\n{text}", problems.sorted());
    config
}

/// A file in which `key` has this value, or is left out if that is empty, with the other keys that it needs.
fn file(key: &str, value: &str) -> String {
    // The innermost table in brackets, and the key in it.
    let tables = [
        "listener.route",
        "backend.server",
        "listener",
        "backend",
        "admin",
        "process",
        "drain",
        "log",
    ];
    let in_table = |table| Some((table, key.strip_prefix(table)?.strip_prefix('.')?));
    let (place, key) = tables
        .into_iter()
        .find_map(in_table)
        .expect("a known table");
    let line = match value {
        "" => String::new(),
        value => format!("{key} = {value}\n"),
    };
    let at = |table: &str| match table == place {
        true => format!("{}{line}", needs(key)),
        false => String::new(),
    };
    let admin = match key {
        "socket-mode" => "unix:admin.sock",
        _ => "127.0.0.1:1",
    };
    let route = match place {
        "listener.route" => "[[listener.route]]\nnames = \"a.test\"\ntls.certificates = \"c\"\n",
        _ => "",
    };
    format!(
        "version = 1\n[process]\n{}[drain]\n{}[log]\n{}[admin]\nlisten = \"{admin}\"\n{}\
         [[certificate]]\nname = \"c\"\nchain = \"c.pem\"\nkey = \"c.key\"\n\
         [[listener]]\nname = \"a\"\nlisten = [\"127.0.0.1:2\", \"unix:a.sock\"]\n{}{route}backend = \"b\"\n{}\
         [[backend]]\nname = \"b\"\n{}[[backend.server]]\naddress = \"127.0.0.1:3\"\n{}",
        at("process"),
        at("drain"),
        at("log"),
        at("admin"),
        at("listener"),
        at("listener.route"),
        at("backend"),
        at("backend.server"),
    )
}

/// What a key of a listener or backend needs.
fn needs(key: &str) -> &'static str {
    match key {
        "tls.required" => "tls.certificates = \"c\"\nprelude = \"postgres\"\n",
        "tls.client.crl-outdated" => {
            "tls.certificates = \"c\"\ntls.client.roots = \"ca.pem\"\ntls.client.crl = \"ca.crl\"\n"
        }
        _ if key.starts_with("tls.client.") => {
            "tls.certificates = \"c\"\ntls.client.roots = \"ca.pem\"\n"
        }
        _ if key.starts_with("tls.") => "tls.certificates = \"c\"\n",
        _ if key.starts_with("throughput.") => "throughput.min = \"5 B/s\"\n",
        "proxy-protocol.version" => "proxy-protocol.send = \"crc32c\"\n",
        _ if key.starts_with("proxy-protocol.") => "proxy-protocol.trust = \"10.0.0.0/8\"\n",
        "health.expect" => "health.http = \"/\"\n",
        _ => "",
    }
}
