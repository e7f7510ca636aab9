//! XMPP, whose conversation is one XML document.

use super::{
    Prelude, PreludeStep,
    lines::{INVALID_LINE, LINE_TOO_LONG},
    mail::checked_host,
    reply::UnexpectedReply,
    step::QUIT,
};

/// XMPP: TLS after `<starttls/>` (RFC 6120, section 5), for clients and for other servers.
///
/// The client opens its stream, and gets TLS offered as required. Anything but the request for TLS ends the
/// conversation with the stream error `policy-violation`. The client opens a new stream under TLS, as the protocol
/// requires, so the inner service continues without a greeting. The id of the first stream is the same for all
/// clients, because nothing refers to it.
#[derive(Clone, Debug)]
pub struct Xmpp {
    host: String,
    is_open: bool,
}

impl Xmpp {
    /// The reason of a [`Refused`](crate::error::Refused) whose client does not request TLS.
    pub const NO_TLS: &'static str = "an XMPP client does not request TLS";

    /// Answers as `host`, the server's domain.
    ///
    /// # Panics
    ///
    /// Panics unless `host` consists of 1 to 253 ASCII letters, digits, `.`, `-`, `_`, `:`, `[` and `]`.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: checked_host("an XMPP server", host.into()),
            is_open: false,
        }
    }

    /// Opens the stream. The root element may follow an XML declaration.
    fn open(&mut self, bytes: &[u8]) -> Result<PreludeStep, PreludeStep> {
        let (mut tag, mut taken) = next_tag(bytes)?;
        if tag.starts_with("?xml") {
            let (root, length) = next_tag(&bytes[taken..])?;
            tag = root;
            taken += length;
        }
        if !matches!(name(tag), "stream" | "stream:stream") {
            return Err(PreludeStep::refuse(b"", INVALID_LINE));
        }
        self.is_open = true;
        let kind = match tag.contains("jabber:server") {
            true => "server",
            false => "client",
        };
        let reply = format!(
            "<?xml version='1.0'?><stream:stream from='{}' id='tls' version='1.0' xmlns='jabber:{kind}' \
             xmlns:stream='http://etherx.jabber.org/streams'><stream:features><starttls \
             xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>",
            self.host
        );
        Ok(PreludeStep::reply(taken, reply.into_bytes()))
    }
}

impl Prelude for Xmpp {
    fn advance(&mut self, bytes: &[u8]) -> PreludeStep {
        let step = match self.is_open {
            true => request(bytes),
            false => self.open(bytes),
        };
        step.unwrap_or_else(|step| step)
    }
}

fn request(bytes: &[u8]) -> Result<PreludeStep, PreludeStep> {
    let (tag, mut taken) = next_tag(bytes)?;
    match name(tag) {
        "starttls" if tag.contains(NAMESPACE) => {}
        "/stream:stream" | "/stream" => return Err(PreludeStep::refuse(END, QUIT)),
        _ => return Err(PreludeStep::refuse(VIOLATION, Xmpp::NO_TLS)),
    }
    // `<starttls/>` or `<starttls></starttls>`.
    if !tag.ends_with('/') {
        let (end, length) = next_tag(&bytes[taken..])?;
        if name(end) != "/starttls" {
            return Err(PreludeStep::refuse(VIOLATION, Xmpp::NO_TLS));
        }
        taken += length;
    }
    Ok(PreludeStep::start_tls(taken, PROCEED))
}

/// The beginning of a client's stream to `domain`.
pub(super) fn open_stream(domain: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>"
    )
}

/// The length of a server's stream header and features, with the offer of TLS; `None` if their end is missing.
pub(super) fn offer(bytes: &[u8]) -> Result<Option<usize>, UnexpectedReply> {
    let error = end_of(bytes, ERROR_END);
    let features = [FEATURES_END, NO_FEATURES].map(|end| end_of(bytes, end));
    let features = features.into_iter().flatten().min();
    let length = match (features, error) {
        (None, None) => return Ok(None),
        (Some(features), error) if error.is_none_or(|error| features < error) => features,
        (_, error) => {
            let shown = &bytes[..error.unwrap_or(bytes.len())];
            let begin = end_of(shown, ERROR).map_or(0, |end| end - ERROR.len());
            return Err(UnexpectedReply::refusal("the stream", &shown[begin..]));
        }
    };
    let text = str::from_utf8(&bytes[..length]).unwrap_or_default();
    let is_stream = text.contains("<stream:stream") && text.contains("<stream:features>");
    match is_stream && text.contains("<starttls") && text.contains(NAMESPACE) {
        true => Ok(Some(length)),
        false => Err(UnexpectedReply::new("the server does not offer STARTTLS")),
    }
}

/// The length of the element in which a server agrees to TLS; `None` if its end is missing.
pub(super) fn consent(bytes: &[u8]) -> Result<Option<usize>, UnexpectedReply> {
    let refused = || UnexpectedReply::refusal("TLS", bytes);
    let next = |from: usize| match next_tag(&bytes[from..]) {
        Ok((tag, length)) => Ok(Some((tag, from + length))),
        Err(PreludeStep::Need) => Ok(None),
        Err(_) => Err(refused()),
    };
    let Some((tag, length)) = next(0)? else {
        return Ok(None);
    };
    if name(tag) != "proceed" || !tag.contains(NAMESPACE) {
        return Err(refused());
    }
    // `<proceed/>` or `<proceed></proceed>`.
    match tag.ends_with('/') {
        true => Ok(Some(length)),
        false => match next(length)? {
            Some(("/proceed", length)) => Ok(Some(length)),
            Some(_) => Err(refused()),
            None => Ok(None),
        },
    }
}

fn end_of(bytes: &[u8], end: &[u8]) -> Option<usize> {
    let found = bytes.windows(end.len()).position(|window| window == end);
    found.map(|begin| begin + end.len())
}

/// The next tag without its brackets, and its length with them and with spaces before it.
fn next_tag(bytes: &[u8]) -> Result<(&str, usize), PreludeStep> {
    let tag = bytes.trim_ascii_start();
    let spaces = bytes.len() - tag.len();
    if !tag.is_empty() && !tag.starts_with(b"<") {
        return Err(PreludeStep::refuse(b"", INVALID_LINE));
    }
    let mut quote = None;
    let end = tag.iter().take(MAX_TAG).position(|&byte| {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => return quote.is_none() && byte == b'>',
        }
        false
    });
    let Some(end) = end else {
        return Err(match tag.len() < MAX_TAG {
            true => PreludeStep::Need,
            false => PreludeStep::refuse(b"", LINE_TOO_LONG),
        });
    };
    let text = str::from_utf8(&tag[1..end]).ok();
    let is_text =
        |text: &&str| !text.contains(|c: char| c.is_control() && !c.is_ascii_whitespace());
    match text.filter(is_text) {
        Some(text) => Ok((text, spaces + end + 1)),
        None => Err(PreludeStep::refuse(b"", INVALID_LINE)),
    }
}

/// The name of an element, with its prefix.
fn name(tag: &str) -> &str {
    let tag = tag.strip_suffix('/').unwrap_or(tag);
    tag.split_ascii_whitespace().next().unwrap_or_default()
}

const NAMESPACE: &str = "urn:ietf:params:xml:ns:xmpp-tls";
pub(super) const REQUEST: &[u8] = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const FEATURES_END: &[u8] = b"</stream:features>";
const NO_FEATURES: &[u8] = b"<stream:features/>";
const ERROR: &[u8] = b"<stream:error";
const ERROR_END: &[u8] = b"</stream:error>";
const PROCEED: &[u8] = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const END: &[u8] = b"</stream:stream>";
const VIOLATION: &[u8] =
    b"<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
    </stream:error></stream:stream>";
/// Headers of streams are short.
const MAX_TAG: usize = 1024;
