//! Escapes untrusted text for single-line logs.

use std::{
    error::Error,
    fmt::{self, Display, Write},
};

/// Prints up to 1024 characters on one line, with control characters escaped.
#[derive(Debug)]
pub struct Escaped<T>(pub T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut escape = Escape { f, left: MAX_LEN };
        match write!(escape, "{}", self.0) {
            Err(_) if escape.left == 0 => f.write_char('…'),
            result => result,
        }
    }
}

/// An error with its causes: `what: because: because`.
#[derive(Debug)]
pub struct Causes<'a>(pub &'a (dyn Error + 'static));

impl Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

struct Escape<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    left: usize,
}

impl Write for Escape<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.write_char(c))
    }

    fn write_char(&mut self, c: char) -> fmt::Result {
        // The error stops the formatting of the rest.
        self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
        match c {
            // Harmless in a line, and frequent.
            '\'' | '"' => self.f.write_char(c),
            _ => write!(self.f, "{}", c.escape_debug()),
        }
    }
}

/// Enough for a message.
const MAX_LEN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::HandshakeError;
    use std::io;

    #[test]
    fn a_text_stays_on_its_line() {
        let hostile = "it's \"fine\"\r\nINFO forged \u{1b}[2J\u{202e}\\";
        assert_eq!(
            Escaped(hostile).to_string(),
            r#"it's "fine"\r\nINFO forged \u{1b}[2J\u{202e}\\"#
        );
    }

    #[test]
    fn a_text_is_cut_where_it_gets_too_long() {
        let fits = "x".repeat(MAX_LEN);
        assert_eq!(Escaped(&fits).to_string(), fits);
        assert_eq!(Escaped(format!("{fits}x")).to_string(), format!("{fits}…"));
    }

    #[test]
    fn an_error_tells_its_causes() {
        let cause = io::Error::other("no common\nversion");
        let error = HandshakeError::new(cause);
        assert_eq!(
            Escaped(Causes(&error)).to_string(),
            "TLS handshake failed: no common\\nversion"
        );
    }
}
