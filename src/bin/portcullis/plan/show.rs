//! Values as the configuration file writes them.

use crate::config::{ByteRate, EventRate, Placed, Size};
use portcullis::middleware::ip_set::IpSet;
use std::{fmt::Debug, path::PathBuf, time::Duration};

/// A value of a key, as it can be written in the file.
pub(super) trait Show {
    fn show(&self) -> String;
}

macro_rules! as_it_prints {
    ($($type:ty),*) => {$(
        impl Show for $type {
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

as_it_prints!(bool, u8, u16, u32, usize, str, String, Size);

impl<T: Show> Show for Option<T> {
    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "off".into(), Show::show)
    }
}

impl<T: Show> Show for Placed<T> {
    fn show(&self) -> String {
        self.value.show()
    }
}

impl<T: Show> Show for [T] {
    fn show(&self) -> String {
        if self.is_empty() {
            return "none".into();
        }
        let shown: Vec<_> = self.iter().map(Show::show).collect();
        shown.join(", ")
    }
}

impl Show for PathBuf {
    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Show for Duration {
    fn show(&self) -> String {
        let millis = self.as_millis();
        let units = [
            (86_400_000, "d"),
            (3_600_000, "h"),
            (60_000, "m"),
            (1_000, "s"),
        ];
        let whole = |(unit, _): &&(u128, &str)| millis > 0 && millis.is_multiple_of(*unit);
        match units.iter().find(whole) {
            Some((unit, word)) => format!("{}{word}", millis / unit),
            None => format!("{millis}ms"),
        }
    }
}

impl Show for ByteRate {
    fn show(&self) -> String {
        format!("{}/s", Size(self.0).show())
    }
}

impl Show for EventRate {
    fn show(&self) -> String {
        let unit = match self.per.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        format!("{}/{unit}", self.events)
    }
}

impl Show for IpSet {
    fn show(&self) -> String {
        match self.to_string() {
            networks if networks.is_empty() => "none".into(),
            networks => networks,
        }
    }
}

/// The word for the variant of an enum: `RoundRobin` is `round-robin`.
pub(super) fn word(variant: impl Debug) -> String {
    let mut word = String::new();
    for letter in format!("{variant:?}").chars() {
        if letter.is_ascii_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_the_file_writes_them() {
        assert_eq!(Duration::from_secs(90).show(), "90s");
        assert_eq!(Duration::from_secs(7_200).show(), "2h");
        assert_eq!(Duration::from_millis(250).show(), "250ms");
        assert_eq!(Duration::ZERO.show(), "0ms");
        assert_eq!(ByteRate(5 << 20).show(), "5 MiB/s");
        assert_eq!(Size(1_000).show(), "1000 B");
        assert_eq!(None::<Duration>.show(), "off");
        assert_eq!(word(crate::config::Balance::RoundRobin), "round-robin");
    }
}
