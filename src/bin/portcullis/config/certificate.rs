//! `[[certificate]]`: a chain and its key, under a name that listeners use.

use super::{guards::read_name, problem::Placed, section::Section};
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) name: Placed<String>,
    pub(crate) chain: Placed<PathBuf>,
    pub(crate) key: Placed<PathBuf>,
    pub(crate) ocsp: Option<Placed<PathBuf>>,
    /// The chain and the key in PEM instead of the files, for `portcullis demo`.
    pub(crate) in_memory: Option<(String, String)>,
}

impl Certificate {
    pub(crate) fn read(section: &Section<'_>) -> Option<Self> {
        let name = read_name(section);
        let chain = section
            .require::<String>("chain")
            .and(section.file("chain"));
        let key = section.require::<String>("key").and(section.file("key"));
        let ocsp = section.file("ocsp");
        Some(Self {
            name: name?,
            chain: chain?,
            key: key?,
            ocsp,
            in_memory: None,
        })
    }
}
