//! The page, which is part of the program.

use super::reply::{self, Reply};

/// A file of the page.
#[derive(Debug)]
pub(super) struct Asset {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

macro_rules! asset {
    ($path:literal, $file:literal, $content_type:literal) => {
        Asset {
            path: $path,
            content_type: $content_type,
            text: include_str!(concat!("page/", $file)),
        }
    };
}

static ASSETS: &[Asset] = &[
    asset!("", "index.html", "text/html; charset=utf-8"),
    asset!("page.css", "page.css", "text/css; charset=utf-8"),
    asset!("page.js", "page.js", "text/javascript; charset=utf-8"),
    asset!("uplot.css", "uplot.css", "text/css; charset=utf-8"),
    asset!("uplot.js", "uplot.js", "text/javascript; charset=utf-8"),
    asset!("favicon.svg", "favicon.svg", "image/svg+xml"),
];

pub(super) fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

pub(super) fn serve(asset: &Asset) -> Reply {
    reply::text(asset.content_type, asset.text)
}
