//! Puts the measured tables into README.md.

use portcullis::BoxError;
use std::{fs, path::Path};

/// Replaces the text between the markers by `report`.
pub(crate) fn write(report: &str) -> Result<(), BoxError> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(&path)?;
    let text = replace(&text, report).ok_or("README.md: the markers are gone")?;
    Ok(fs::write(&path, text)?)
}

fn replace(text: &str, report: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{report}{END}{after}"))
}

const BEGIN: &str = "<!-- measured: written by --write -->";
const END: &str = "<!-- end of measured -->";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_changes() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = format!("before\n{BEGIN}\nnew\n{END}\nafter\n");
        assert_eq!(replace(&text, "new\n"), Some(new));
        assert_eq!(replace("no markers", "new"), None);
    }
}
