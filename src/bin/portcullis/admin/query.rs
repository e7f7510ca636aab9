//! The parts of a URL.

use super::reply::Refusal;
use std::{fmt, str::FromStr};

/// The parameters of a request. Each must be one that the endpoint knows.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// # Errors
    ///
    /// A parameter that is not in `known`, so that a misspelt filter never widens what is closed.
    pub(crate) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Refusal> {
        let mut parameters = Vec::new();
        let pairs = query.unwrap_or_default().split('&');
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode_form(name)?, decode_form(value)?);
            if !known.contains(&&*name) {
                let known = match known {
                    [] => "there is none here".to_owned(),
                    known => format!("write one of {}", known.join(", ")),
                };
                let name = name.escape_debug();
                let error = format!("the parameter \"{name}\" is unknown; {known}");
                return Err(Refusal::bad_request(error));
            }
            if parameters.iter().any(|(other, _)| *other == name) {
                return Err(Refusal::bad_request(format!(
                    "the parameter \"{name}\" is there twice"
                )));
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// An absent and an empty parameter are the same.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| &**value)
            .filter(|value| !value.is_empty())
    }

    /// A parameter that is there, such as `dry-run`, unless its value is `false`.
    ///
    /// # Errors
    ///
    /// Another value, such as `0`, whose meaning is not certain.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        let found = self.0.iter().find(|(known, _)| known == name);
        match found.map(|(_, value)| &**value) {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(value) => Err(neither(name, value)),
        }
    }

    /// Like [`flag`](Self::flag), for what is true only if its value is `true`.
    pub(crate) fn explicit_flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(value) => Err(neither(name, value)),
        }
    }

    pub(crate) fn get<T: FromStr<Err: fmt::Display>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|error| {
            let text = text.escape_debug();
            Refusal::bad_request(format!("{name}: \"{text}\" is wrong: {error}"))
        })
    }
}

fn neither(name: &str, value: &str) -> Refusal {
    let value = value.escape_debug();
    Refusal::bad_request(format!("{name}: \"{value}\" is neither true nor false"))
}

/// The segments of a path, decoded.
pub(super) fn segments(path: &str) -> Result<Vec<String>, Refusal> {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split('/').map(decode).collect()
}

fn decode_form(text: &str) -> Result<String, Refusal> {
    decode(&text.replace('+', " "))
}

fn decode(text: &str) -> Result<String, Refusal> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (Some(high), Some(low)) = (digit(rest.first()), digit(rest.get(1))) else {
            return Err(Refusal::bad_request("a % in the URL needs two hex digits"));
        };
        bytes.push((high * 16 + low) as u8);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| Refusal::bad_request("the URL is not UTF-8"))
}

/// The opposite of [`segments`], for one of them or for a value of the query.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded() {
        let query = Query::parse(
            Some("name=%3Cb%3E+x&reset&limit=7"),
            &["name", "reset", "limit"],
        );
        let query = query.expect("all are known");
        assert_eq!(query.text("name"), Some("<b> x"));
        assert_eq!(query.get::<usize>("limit").expect("a number"), Some(7));
        assert!(query.get::<usize>("name").is_err());
    }

    #[test]
    fn a_flag_is_true_or_false() {
        for (text, flag, explicit) in [
            ("", Some(false), Some(false)),
            ("all", Some(true), Some(false)),
            ("all=", Some(true), Some(false)),
            ("all=true", Some(true), Some(true)),
            ("all=false", Some(false), Some(false)),
            ("all=0", None, None),
            ("all=no", None, None),
            ("all=TRUE", None, None),
        ] {
            let query = Query::parse(Some(text), &["all"]).expect("it is known");
            assert_eq!(query.flag("all").ok(), flag, "{text}");
            assert_eq!(query.explicit_flag("all").ok(), explicit, "{text}");
        }
    }

    #[test]
    fn an_unknown_a_repeated_or_a_damaged_parameter_is_an_error() {
        for wrong in [
            "pear=x",
            "peer=a&peer=b",
            "peer=%",
            "peer=%2",
            "peer=%zz",
            "peer=%ff",
        ] {
            assert!(Query::parse(Some(wrong), &["peer"]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn any_text_survives_the_way_through_a_path() {
        let text = "unix:/run/a b?#[::1]:80%ü";
        let path = format!("/api/{}", encode(text));
        assert_eq!(segments(&path).expect("it is valid"), ["api", text]);
    }
}
