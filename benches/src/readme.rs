//! Puts the measured tables into README.md.

use portcullis::BoxError;
use std::{fs, path::Path};

/// A part of README.md between two markers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Measured,
    /// What the admin interface adds to the program, which may be measured alone.
    Program,
}

/// Replaces the text of a part by `report`.
pub(crate) fn write(part: Part, report: &str) -> Result<(), BoxError> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(&path)?;
    let text = replace(&text, part, report).ok_or("README.md: the markers are gone")?;
    Ok(fs::write(&path, text)?)
}

fn replace(text: &str, part: Part, report: &str) -> Option<String> {
    let begin = part.begin();
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}\n{report}{END}{after}"))
}

impl Part {
    const fn begin(self) -> &'static str {
        match self {
            Self::Measured => "<!-- measured: written by --write -->",
            Self::Program => "<!-- program: written by --write -->",
        }
    }
}

const END: &str = "<!-- end of measured -->";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_between_the_markers_of_a_part_changes() {
        let text = |program, measured| {
            let [first, second] = [Part::Program, Part::Measured].map(Part::begin);
            format!("before\n{first}\n{program}{END}\n{second}\n{measured}{END}\nafter\n")
        };
        let old = text("old\n", "old\n");
        for (part, new) in [
            (Part::Program, text("new\n", "old\n")),
            (Part::Measured, text("old\n", "new\n")),
        ] {
            assert_eq!(replace(&old, part, "new\n"), Some(new));
            assert_eq!(replace("no markers", part, "new"), None);
        }
    }
}
