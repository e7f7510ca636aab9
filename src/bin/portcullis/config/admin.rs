//! `[admin]`: the interface for operators.

use super::{
    listener::{Tls, read_mode},
    problem::Placed,
    section::{Reader, Section, Value},
    source::read_text,
    value::{ListenAddress, OneOrMore, Positive, SocketMode, one_of},
};
use portcullis::middleware::tls;
use std::{
    env, fmt, io,
    path::{self, PathBuf},
};
use toml::{Spanned, de::DeValue};

#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) listen: Placed<ListenAddress>,
    /// Of a Unix socket; by default only the same user may connect.
    pub(crate) socket_mode: Option<SocketMode>,
    pub(crate) token: Option<Placed<TokenSource>>,
    pub(crate) protect: Protect,
    /// Names by which browsers and probes may call this interface, besides its addresses.
    pub(crate) hosts: Vec<String>,
    pub(crate) tls: Option<Tls>,
    /// How many ended connections are kept.
    pub(crate) endings: usize,
}

/// What needs the token, over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protect {
    /// Requests that change something.
    Changes,
    /// All but those of probes, and the page itself.
    All,
}

impl Admin {
    pub(crate) fn read(section: &Section<'_>) -> Option<Self> {
        let listen = section.require::<ListenAddress>("listen");
        let socket_mode = read_mode(section, listen.as_ref().map(std::slice::from_ref));
        let token = TokenSource::read(section);
        let protect = section.get("protect");
        let hosts = section.get::<OneOrMore<String>>("hosts");
        let tls = section
            .section("tls")
            .and_then(|section| section.read(Tls::read));
        let endings = section.get::<Positive>("endings");
        if endings.is_some_and(|endings| endings.0 > MAX_ENDINGS) {
            section.error_at("endings", "admin: up to 10,000 endings are kept");
        }
        let listen = listen?;
        let is_open = match &listen.value {
            ListenAddress::Tcp(address) => !address.ip().is_loopback(),
            ListenAddress::Unix(_) => false,
            ListenAddress::Activated(_) => {
                let message =
                    "admin: write an address or \"unix:/path\", which `portcullis ctl` can read";
                section.error_at("listen", message);
                return None;
            }
        };
        let has_token_key = section.has("token") || section.has("token-file");
        if is_open && !has_token_key {
            section.error_at(
                "listen",
                format!(
                    "admin: {} is open to other machines, and there is no `token-file`",
                    listen.value
                ),
            );
        }
        Some(Self {
            listen,
            socket_mode,
            token,
            protect: protect.unwrap_or(if is_open {
                Protect::All
            } else {
                Protect::Changes
            }),
            hosts: hosts.map_or_else(Vec::new, |hosts| hosts.0),
            tls,
            endings: endings.map_or(ENDINGS, |endings| endings.0),
        })
    }
}

/// About 1 MB with TLS, and 3 MB if each client chose the longest names.
const ENDINGS: usize = 1_000;
/// Ten times that. Clients with certificates may add the names in them.
const MAX_ENDINGS: usize = 10_000;

impl Value for Protect {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let words = [("changes", Self::Changes), ("all", Self::All)];
        one_of(value, reader, &words)
    }
}

/// Where the token is kept, which is never in the configuration itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenSource {
    File(PathBuf),
    Environment(String),
    /// That of `portcullis demo`.
    InMemory(Secret),
}

impl TokenSource {
    fn read(section: &Section<'_>) -> Option<Placed<Self>> {
        let file = section.file("token-file");
        let variable = section.placed::<EnvironmentVariable>("token");
        match (file, variable) {
            (Some(_), Some(_)) => {
                section.error_at("token", "write `token` or `token-file`, not both");
                None
            }
            (Some(file), None) => Some(Placed {
                value: Self::File(file.value),
                place: file.place,
            }),
            (None, variable) => variable.map(|variable| Placed {
                value: Self::Environment(variable.value.0),
                place: variable.place,
            }),
        }
    }

    /// Reads the token, without the white space around it.
    pub(crate) fn load(&self) -> Result<Secret, String> {
        let (text, from) = match self {
            Self::File(path) => {
                let text = read_text(path)
                    .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
                (text, path.display().to_string())
            }
            Self::Environment(name) => {
                let text = env::var(name)
                    .map_err(|_| format!("the environment variable {name} is not set"))?;
                (text, format!("the environment variable {name}"))
            }
            Self::InMemory(secret) => return Ok(secret.clone()),
        };
        Secret::new(text.trim()).map_err(|reason| format!("{from} {reason}"))
    }
}

/// Where to look for the token, such as "in the file /etc/portcullis/token".
impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => {
                let path = path::absolute(path).unwrap_or_else(|_| path.clone());
                write!(f, "in the file {}", path.display())
            }
            Self::Environment(name) => write!(f, "in the environment variable {name}"),
            Self::InMemory(_) => {
                f.write_str("on the terminal, where `portcullis demo` has printed it")
            }
        }
    }
}

/// `"env:NAME"`.
struct EnvironmentVariable(String);

impl Value for EnvironmentVariable {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        // The text is not repeated, because it may be the token itself.
        let text = String::read(value, reader)?;
        let name = text.strip_prefix("env:").filter(|name| !name.is_empty());
        if name.is_none() {
            reader.error(
                value.span(),
                "a token is never written here; write \"env:NAME\" for an environment variable, or `token-file`",
            );
        }
        name.map(|name| Self(name.to_owned()))
    }
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    fn new(text: &str) -> Result<Self, &'static str> {
        match text {
            "" => Err("has no token"),
            text if text.len() < SHORTEST => Err(
                "has a token of less than 16 characters; write a longer one that cannot be guessed",
            ),
            text if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err("has a token with characters that do not fit into an HTTP header")
            }
            text => Ok(Self(text.to_owned())),
        }
    }

    /// A random one, in hexadecimal.
    pub(crate) fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        let filled = tls::provider().secure_random.fill(&mut bytes);
        filled.map_err(|_| io::Error::other("the system has no random numbers"))?;
        Ok(Self(
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

const SHORTEST: usize = 16;

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_printed() {
        let secret = Secret::new("0123456789abcdef").expect("it is long enough");
        let source = TokenSource::InMemory(secret.clone());
        assert_eq!(format!("{secret:?} {source:?}"), "Secret InMemory(Secret)");
        assert_eq!(secret.expose(), "0123456789abcdef");
    }

    #[test]
    fn a_token_is_long_and_fits_into_a_header() {
        for wrong in [
            "",
            "0123456789abcde",
            "0123456789 abcdef",
            "0123456789äbcdef",
        ] {
            assert!(Secret::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn random_tokens_differ() {
        let random = || Secret::random().expect("the system has random numbers");
        assert!(random().expose().len() == 32 && random() != random());
    }
}
