//! The protocols of mail, whose servers speak first.

use super::{
    Prelude, PreludeStep,
    lines::{command, line},
    step::QUIT,
};
use std::borrow::Cow;

/// SMTP: TLS after `STARTTLS` (RFC 3207).
///
/// Until then `EHLO`, `HELO`, `NOOP`, `RSET` and `QUIT` are answered, and other commands get the response 530. The
/// client repeats `EHLO` under TLS, so the inner service continues without a greeting.
#[derive(Clone, Debug)]
pub struct Smtp {
    host: String,
}

impl Smtp {
    /// Greets as `host`, the server's name.
    ///
    /// # Panics
    ///
    /// Panics unless `host` consists of 1 to 253 ASCII letters, digits, `.`, `-`, `_`, `:`, `[` and `]`.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: checked_host("an SMTP server", host.into()),
        }
    }
}

/// A host that can be part of a reply.
pub(super) fn checked_host(server: &str, host: String) -> String {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    assert!(
        (1..=253).contains(&host.len()) && host.bytes().all(allowed),
        "the name of {server} is a host name or an address, not {host:?}"
    );
    host
}

impl Prelude for Smtp {
    fn greeting(&self) -> Cow<'static, [u8]> {
        format!("220 {} ESMTP\r\n", self.host).into_bytes().into()
    }

    fn advance(&mut self, bytes: &[u8]) -> PreludeStep {
        let (line, taken) = match line(bytes, SMTP_LINE) {
            Ok(line) => line,
            Err(step) => return step,
        };
        let host = &self.host;
        let (command, parameters) = command(line);
        match (&*command, parameters) {
            ("STARTTLS", "") => PreludeStep::start_tls(taken, b"220 Ready to start TLS\r\n"),
            ("STARTTLS", _) => PreludeStep::reply(taken, b"501 No parameters allowed\r\n"),
            ("EHLO", _) => {
                let reply = format!("250-{host}\r\n250 STARTTLS\r\n");
                PreludeStep::reply(taken, reply.into_bytes())
            }
            ("HELO", _) => PreludeStep::reply(taken, format!("250 {host}\r\n").into_bytes()),
            ("NOOP" | "RSET", _) => PreludeStep::reply(taken, b"250 OK\r\n"),
            ("QUIT", _) => PreludeStep::refuse(b"221 Bye\r\n", QUIT),
            _ => PreludeStep::reply(taken, b"530 Must issue a STARTTLS command first\r\n"),
        }
    }
}

/// IMAP: TLS after `STARTTLS` (RFC 9051, section 6.2.1).
///
/// Until then `CAPABILITY`, `NOOP` and `LOGOUT` are answered, and other commands fail. The inner service continues
/// without a greeting.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Imap;

impl Imap {
    /// Speaks for the server until TLS begins.
    pub const fn new() -> Self {
        Self
    }
}

impl Prelude for Imap {
    fn greeting(&self) -> Cow<'static, [u8]> {
        Cow::Borrowed(b"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready\r\n")
    }

    fn advance(&mut self, bytes: &[u8]) -> PreludeStep {
        let (line, taken) = match line(bytes, IMAP_LINE) {
            Ok(line) => line,
            Err(step) => return step,
        };
        let (tag, rest) = line.split_once(' ').unwrap_or((line, ""));
        if !is_tag(tag) {
            return PreludeStep::reply(taken, b"* BAD invalid tag\r\n");
        }
        let (command, parameters) = command(rest);
        let answer = |text: &str| format!("{tag} {text}\r\n").into_bytes();
        match (&*command, parameters) {
            ("STARTTLS", "") => PreludeStep::start_tls(taken, answer("OK begin TLS")),
            ("CAPABILITY", "") => {
                let capabilities = &b"* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\n"[..];
                PreludeStep::reply(taken, [capabilities, &answer("OK done")].concat())
            }
            ("NOOP", "") => PreludeStep::reply(taken, answer("OK done")),
            ("LOGOUT", "") => {
                let bye = [&b"* BYE\r\n"[..], &answer("OK done")].concat();
                PreludeStep::refuse(bye, QUIT)
            }
            ("LOGIN" | "AUTHENTICATE", _) => {
                let text = "NO [PRIVACYREQUIRED] start TLS first";
                PreludeStep::reply(taken, answer(text))
            }
            _ => PreludeStep::reply(taken, answer("BAD start TLS first")),
        }
    }
}

/// Whether `tag` may be repeated in a response (RFC 9051, section 9, without rare characters).
fn is_tag(tag: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=64).contains(&tag.len()) && tag.bytes().all(allowed)
}

/// POP3: TLS after `STLS` (RFC 2595, section 4).
///
/// Until then `CAPA` and `QUIT` are answered, and other commands fail. The inner service continues without a
/// greeting.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Pop3;

impl Pop3 {
    /// Speaks for the server until TLS begins.
    pub const fn new() -> Self {
        Self
    }
}

impl Prelude for Pop3 {
    fn greeting(&self) -> Cow<'static, [u8]> {
        Cow::Borrowed(b"+OK ready\r\n")
    }

    fn advance(&mut self, bytes: &[u8]) -> PreludeStep {
        let (line, taken) = match line(bytes, POP3_LINE) {
            Ok(line) => line,
            Err(step) => return step,
        };
        match &*line.to_ascii_uppercase() {
            "STLS" => PreludeStep::start_tls(taken, b"+OK begin TLS\r\n"),
            "CAPA" => PreludeStep::reply(taken, b"+OK\r\nSTLS\r\n.\r\n"),
            "QUIT" => PreludeStep::refuse(b"+OK\r\n", QUIT),
            _ => PreludeStep::reply(taken, b"-ERR start TLS first\r\n"),
        }
    }
}

/// RFC 5321, section 4.5.3.1.4.
const SMTP_LINE: usize = 512;
/// Commands before TLS are short.
const IMAP_LINE: usize = 1024;
/// RFC 2449, section 4.
const POP3_LINE: usize = 255;
