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

/// Reads all of `file`, which may be a FIFO, but has to end within [`MAX`] bytes.
pub(crate) fn read_up_to_limit(file: impl Read) -> io::Result<Vec<u8>> {
    read_up_to(MAX, file)
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
}
