//! HTTP at the end of a stack of portcullis.

use super::{Entry, Job, Kind, Start};

// PENDING: `portcullis::service::http::HttpService`.
pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        name: "portcullis-http",
        kind: Kind::Ours,
        job: Job::Http,
        start: Start::Missing("HttpService is being written"),
    },
    Entry {
        name: "portcullis-https",
        kind: Kind::Ours,
        job: Job::Https,
        start: Start::Missing("HttpService is being written"),
    },
    Entry {
        name: "portcullis-http-drain",
        kind: Kind::Ours,
        job: Job::Http,
        start: Start::Missing("HttpService is being written"),
    },
];
