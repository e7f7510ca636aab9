//! Reads files that a configuration names.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

/// Reads a regular file of at most [`MAX`] bytes.
///
/// A FIFO would block until another process writes to it, and a device may have no end.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        let error = "this is not a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
    }
    // The size that the system reports may be wrong by now.
    read_up_to(MAX, File::open(path)?)
}

/// Like [`read`], for text.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    text(read(path)?)
}

/// Reads all text of `file`, which may be a FIFO, but has to end within [`MAX`] bytes.
pub(crate) fn read_text_of(file: impl Read) -> io::Result<String> {
    text(read_up_to(MAX, file)?)
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8");
    String::from_utf8(bytes).map_err(not_text)
}

fn read_up_to(max: u64, file: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let error = format!("the file is larger than {} MiB", max / (1024 * 1024));
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, error));
    }
    Ok(bytes)
}

/// The lists of large authorities and of blocked networks have some 10 MiB.
const MAX: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_be_as_large_as_the_limit_and_no_larger() {
        let mib = 1024 * 1024;
        let endless = || io::repeat(7);
        let fits = read_up_to(mib, endless().take(mib)).unwrap();
        assert_eq!(fits.len() as u64, mib);
        for large in [
            Box::new(endless().take(mib + 1)) as Box<dyn Read>,
            Box::new(endless()),
        ] {
            let error = read_up_to(mib, large).unwrap_err();
            assert_eq!(error.to_string(), "the file is larger than 1 MiB");
        }
    }

    #[test]
    fn a_folder_is_no_file() {
        let error = read(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err();
        assert_eq!(error.to_string(), "this is not a regular file");
    }

    #[test]
    fn text_is_utf_8() {
        let text = read_text_of("ü".as_bytes()).unwrap();
        assert_eq!(text, "ü");
        let error = read_text_of(&[0xff][..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    /// With what is said of it, or `None` after a while.
    #[cfg(unix)]
    fn read_fifo(
        fifo: &Path,
        read: impl FnOnce(&Path) -> String + Send + 'static,
    ) -> Option<String> {
        let (send, receive) = std::sync::mpsc::channel();
        let fifo = fifo.to_owned();
        std::thread::spawn(move || send.send(read(&fifo)));
        receive
            .recv_timeout(std::time::Duration::from_secs(10))
            .ok()
    }

    #[cfg(unix)]
    fn causes(error: impl std::error::Error) -> String {
        let cause = error.source().map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    }

    #[cfg(unix)]
    #[test]
    fn no_reader_of_files_waits_for_a_fifo() {
        let name = format!("portcullis-fifo-{}", std::process::id());
        let fifo = std::env::temp_dir().join(name);
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        let mut messages = vec![
            read_fifo(&fifo, |path| read(path).unwrap_err().to_string()),
            read_fifo(&fifo, |path| {
                causes(crate::ip_set::IpSet::from_file(path).unwrap_err())
            }),
        ];
        #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
        messages.push(read_fifo(&fifo, |path| {
            causes(crate::tls::TlsLayer::from_pem_files(path, path).unwrap_err())
        }));
        fs::remove_file(&fifo).unwrap();
        for message in messages {
            let message = message.expect("it does not wait");
            assert!(message.ends_with("this is not a regular file"), "{message}");
        }
    }
}
