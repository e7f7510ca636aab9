//! Errors of lists of networks. Each says what to write instead.

use std::{
    error, fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// An invalid network in a list.
#[derive(Clone, Debug)]
pub struct InvalidNetwork {
    text: String,
    problem: NetworkProblem,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum NetworkProblem {
    NotANetwork,
    HostBits {
        network: IpAddr,
        prefix: u32,
        address: IpAddr,
    },
}

impl InvalidNetwork {
    pub(super) fn new(text: &str, problem: NetworkProblem) -> Self {
        let text = text.to_owned();
        Self { text, problem }
    }

    /// The invalid text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for InvalidNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a network: ", self.text)?;
        match self.problem {
            NetworkProblem::NotANetwork => {
                f.write_str("expected an address, optionally with a prefix such as /24")
            }
            NetworkProblem::HostBits {
                network,
                prefix,
                address,
            } => write!(
                f,
                "bits are set behind the prefix; {network}/{prefix} is the whole network, {address} the \
                 address alone",
            ),
        }
    }
}

impl error::Error for InvalidNetwork {}

/// A line with an invalid network.
#[derive(Clone, Debug)]
pub struct InvalidLine {
    line: usize,
    network: InvalidNetwork,
}

impl InvalidLine {
    pub(super) const fn new(line: usize, network: InvalidNetwork) -> Self {
        Self { line, network }
    }

    /// The number of the line, from 1.
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The network that is invalid.
    pub const fn network(&self) -> &InvalidNetwork {
        &self.network
    }
}

impl fmt::Display for InvalidLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.network)
    }
}

impl error::Error for InvalidLine {}

/// A file of networks could not be read.
#[derive(Debug)]
pub struct ReadError {
    path: PathBuf,
    problem: ReadProblem,
}

#[derive(Debug)]
enum ReadProblem {
    Io(io::Error),
    Line(InvalidLine),
}

impl ReadError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        let problem = ReadProblem::Io(source);
        Self { path, problem }
    }

    pub(super) fn line(path: &Path, source: InvalidLine) -> Self {
        let path = path.to_owned();
        let problem = ReadProblem::Line(source);
        Self { path, problem }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The invalid line; `None` if the file could not be opened or read.
    pub const fn invalid_line(&self) -> Option<&InvalidLine> {
        match &self.problem {
            ReadProblem::Line(line) => Some(line),
            ReadProblem::Io(_) => None,
        }
    }
}

/// Like a compiler's messages, `path:line: problem`.
impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.problem {
            ReadProblem::Io(_) => write!(f, "cannot read the networks in {path}"),
            ReadProblem::Line(line) => write!(f, "{path}:{}: {}", line.line, line.network),
        }
    }
}

impl error::Error for ReadError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.problem {
            ReadProblem::Io(source) => Some(source),
            ReadProblem::Line(_) => None,
        }
    }
}
