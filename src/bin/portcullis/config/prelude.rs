//! The plain text in which TLS begins on request, of listeners and of backends.

use super::{
    section::{Reader, Value},
    value::one_of,
};
use toml::{Spanned, de::DeValue};

/// A protocol whose TLS begins on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prelude {
    Postgres,
    Smtp,
    Imap,
    Pop3,
    Xmpp,
}

impl Value for Prelude {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let words = [
            ("postgres", Self::Postgres),
            ("smtp", Self::Smtp),
            ("imap", Self::Imap),
            ("pop3", Self::Pop3),
            ("xmpp", Self::Xmpp),
        ];
        one_of(value, reader, &words)
    }
}
