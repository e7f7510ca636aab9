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
    asset!("changes.js", SCRIPT),
    asset!("connections.js", SCRIPT),
    asset!("dialogs.js", SCRIPT),
    asset!("dom.js", SCRIPT),
    asset!("filter.js", SCRIPT),
    asset!("format.js", SCRIPT),
    asset!("heat_map.js", SCRIPT),
    asset!("lists.js", SCRIPT),
    asset!("measured.js", SCRIPT),
    asset!("panels.js", SCRIPT),
    asset!("plots.js", SCRIPT),
    asset!("samples.js", SCRIPT),
    asset!("top.js", SCRIPT),
    asset!("uplot.css", CSS),
    asset!("uplot.js", SCRIPT),
];

pub(super) fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

pub(super) fn serve(asset: &Asset) -> Reply {
    reply::text(asset.content_type, asset.text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    #[test]
    fn each_file_of_the_page_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("admin/page");
        let names = fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name());
        let mut files: BTreeSet<_> = names.map(|name| name.into_string().unwrap()).collect();
        assert!(files.remove("README.md"));
        assert!(files.remove("index.html") && find("").is_some());
        let served: BTreeSet<_> = ASSETS.iter().map(|asset| asset.path.to_owned()).collect();
        assert_eq!(served, files.into_iter().chain([String::new()]).collect());
    }

    #[test]
    fn the_page_requests_nothing_from_other_hosts() {
        for asset in ASSETS
            .iter()
            .filter(|asset| !asset.path.starts_with("uplot"))
        {
            let text = asset.text.replace("http://www.w3.org/2000/svg", "");
            assert!(
                !text.contains("http://") && !text.contains("https://"),
                "{}",
                asset.path
            );
            assert!(!text.contains("innerHTML"), "{}", asset.path);
        }
    }
}
