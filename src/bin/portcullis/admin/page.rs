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
    ($file:literal, $content_type:expr) => {
        asset!($file, $file, $content_type)
    };
    ($path:literal, $file:literal, $content_type:expr) => {
        Asset {
            path: $path,
            content_type: $content_type,
            text: include_str!(concat!("page/", $file)),
        }
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

static ASSETS: &[Asset] = &[
    asset!("", "index.html", HTML),
    asset!("favicon.svg", "image/svg+xml"),
    asset!("page.css", CSS),
    asset!("page.js", SCRIPT),
    asset!("api.js", SCRIPT),
    asset!("connections.js", SCRIPT),
    asset!("dialogs.js", SCRIPT),
    asset!("dom.js", SCRIPT),
    asset!("format.js", SCRIPT),
    asset!("heat_map.js", SCRIPT),
    asset!("panels.js", SCRIPT),
    asset!("plots.js", SCRIPT),
    asset!("samples.js", SCRIPT),
    asset!("uplot.css", CSS),
    asset!("uplot.js", SCRIPT),
];

pub(super) fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

pub(super) fn serve(asset: &Asset) -> Reply {
    reply::text(asset.content_type, asset.text)
}
