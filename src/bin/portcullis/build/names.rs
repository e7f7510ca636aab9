//! Names of routes for which there is no certificate.

use super::tls::Terminated;
use crate::config::{Placed, Problems};

/// Notes the names of a route whose clients get no certificate for them.
pub(super) fn check(
    words: &str,
    names: &[Placed<String>],
    tls: &Terminated,
    problems: &mut Problems,
) {
    let certificates = tls.store.certificates();
    let has = |name: &str| {
        let mut known = certificates.iter().flat_map(|it| it.facts.dns_names());
        known.any(|known| are_related(known, name))
    };
    let default = match tls.store.certificate_for(None) {
        Some(_) => "the default certificate",
        None => "the alert unrecognized_name",
    };
    for name in names.iter().filter(|name| !has(&name.value)) {
        let message = format!(
            "{words}: no certificate is for \"{}\", so its clients get {default}",
            name.value
        );
        problems.note(name.place.clone(), message);
    }
}

/// Whether a name is for some host that the other one is for.
fn are_related(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || is_within(one, other) || is_within(other, one)
}

/// Whether `wildcard` is one, and is for `name`.
fn is_within(wildcard: &str, name: &str) -> bool {
    let parent = name.split_once('.').map(|(_, parent)| parent);
    let of = wildcard.strip_prefix("*.");
    of.zip(parent)
        .is_some_and(|(of, parent)| of.eq_ignore_ascii_case(parent))
}

#[cfg(test)]
mod tests {
    use super::are_related;

    #[test]
    fn names_are_related_in_full_or_by_a_wildcard_of_one_label() {
        for (one, other, expected) in [
            ("a.test", "A.Test", true),
            ("a.test", "b.test", false),
            ("*.test", "a.test", true),
            ("*.a.test", "a.test", false),
            ("*.a.test", "x.y.a.test", false),
            ("*.a.test", "*.a.test", true),
            ("*.a.test", "*.x.a.test", false),
            ("localhost", "localhost", true),
        ] {
            assert_eq!(are_related(one, other), expected, "{one} {other}");
            assert_eq!(are_related(other, one), expected, "{other} {one}");
        }
    }
}
