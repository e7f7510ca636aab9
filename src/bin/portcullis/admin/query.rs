//! The parts of a URL.

use super::reply::Refusal;
use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

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

    /// A whole number in this range.
    pub(crate) fn number(
        &self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            let text = text.escape_debug();
            let words = match (range.start(), range.end()) {
                (0, &u64::MAX) => String::new(),
                (least, &u64::MAX) => format!(" of at least {least}"),
                (least, most) => format!(" from {least} to {most}"),
            };
            Refusal::bad_request(format!("{name}: \"{text}\" is not a whole number{words}"))
        })
    }

    /// A number of seconds, which may have a fraction.
    pub(crate) fn seconds(&self, name: &str) -> Result<Option<Duration>, Refusal> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let seconds = text.parse().ok();
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        time.map(Some).ok_or_else(|| {
            let text = text.escape_debug();
            let error = format!("{name}: \"{text}\" is not a number of seconds, such as 2.5");
            Refusal::bad_request(error)
        })
    }

    /// One of these words.
    pub(crate) fn word<'a>(
        &self,
        name: &str,
        known: impl IntoIterator<Item = &'a str, IntoIter: Clone>,
    ) -> Result<Option<&'a str>, Refusal> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let known = known.into_iter();
        let found = known.clone().find(|known| *known == text);
        found.map(Some).ok_or_else(|| {
            let (text, known) = (text.escape_debug(), known.collect::<Vec<_>>().join(", "));
            Refusal::bad_request(format!(
                "{name}: \"{text}\" is unknown; write one of {known}"
            ))
        })
    }

    /// For a parameter that has to be there.
    pub(crate) fn missing(name: &str) -> Refusal {
        Refusal::bad_request(format!(
            "the parameter `{name}` is missing; write it in the query"
        ))
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
        assert_eq!(query.number("limit", 7..=7).expect("a number"), Some(7));
        assert!(query.number("name", 0..=u64::MAX).is_err());
    }

    #[test]
    fn a_number_is_in_its_range_and_else_the_range_is_said() {
        for (text, number, error) in [
            ("1", Some(1), ""),
            ("500", Some(500), ""),
            ("0", None, "\"0\" is not a whole number from 1 to 500"),
            ("501", None, "\"501\" is not a whole number from 1 to 500"),
            ("-1", None, "\"-1\" is not a whole number from 1 to 500"),
            ("1.5", None, "\"1.5\" is not a whole number from 1 to 500"),
        ] {
            let query = Query::parse(Some(&format!("limit={text}")), &["limit"]);
            let found = query.expect("it is known").number("limit", 1..=500);
            match number {
                Some(number) => assert_eq!(found.expect(text), Some(number)),
                None => assert_eq!(found.expect_err(text).error(), format!("limit: {error}")),
            }
        }
        for (text, is_time) in [("0.5", true), ("-1", false), ("nan", false), ("x", false)] {
            let query = Query::parse(Some(&format!("older={text}")), &["older"]);
            let found = query.expect("it is known").seconds("older");
            assert_eq!(found.is_ok(), is_time, "{text}");
        }
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
