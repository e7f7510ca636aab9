//! The command line.

use crate::config::parse_duration;
use clap::{Args as Arguments, Parser, Subcommand};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// A gate in front of services: TLS, limits, routing and forwarding of TCP connections.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version = VERSION, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (allocator: mimalloc)");

const EXIT_CODES: &str = "\
Exit codes:
  0  ended as asked
  1  failed while running
  2  the configuration or the command line is wrong
  3  connections were force-closed at the deadline of the graceful shutdown
 10  `plan` has found changes";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows a gate before services of its own, in memory: TLS, routing by name, limits, health.
    Demo(Demo),
    /// Runs the listeners of a configuration file until SIGTERM or Ctrl-C.
    Run(Config),
    /// Prints every problem of a configuration file, with line and column.
    Check(Check),
    /// Prints what a reload of a configuration file would do, key by key.
    Plan(crate::plan::PlanArgs),
    /// Prints what would become of a client, guard by guard, and which rule decides.
    Explain(crate::explain::ExplainArgs),
    /// Forwards one listener to one or more servers, without a file.
    Forward(Forward),
    /// Shows and changes a running program, through its admin interface.
    Ctl(crate::ctl::Ctl),
    /// Sends back what it receives.
    Echo(Listen),
    /// Sends the time and closes (RFC 867).
    Daytime(Listen),
}

#[derive(Arguments, Debug)]
pub(crate) struct Demo {
    /// Prints the configuration instead, as a start for a file.
    #[arg(long)]
    pub(crate) print: bool,
    /// Makes gentle traffic.
    #[arg(long)]
    pub(crate) load: bool,
}

#[derive(Arguments, Debug)]
pub(crate) struct Config {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "portcullis.toml")]
    pub(crate) config: PathBuf,
    /// The same without --config.
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub(crate) file: Option<PathBuf>,
}

impl Config {
    pub(crate) fn path(&self) -> &Path {
        self.file.as_ref().unwrap_or(&self.config)
    }
}

#[derive(Arguments, Debug)]
pub(crate) struct Check {
    /// The configuration file, or - for the standard input.
    #[arg(short, long, value_name = "FILE", default_value = "portcullis.toml")]
    pub(crate) config: PathBuf,
    /// The same without --config.
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub(crate) file: Option<PathBuf>,
    /// Also reports certificates that end until then, such as now+14d.
    #[arg(long, value_name = "TIME", value_parser = from_now)]
    pub(crate) at: Option<Duration>,
}

/// `now+1d`.
fn from_now(text: &str) -> Result<Duration, String> {
    let duration = text.strip_prefix("now+").and_then(parse_duration);
    duration.ok_or_else(|| "write now+ and a duration, such as now+14d".into())
}

#[derive(Arguments, Debug)]
pub(crate) struct Listen {
    /// The address to listen on.
    #[arg(default_value = "127.0.0.1:7007", value_name = "ADDRESS")]
    pub(crate) listen: String,
}

#[derive(Arguments, Debug)]
pub(crate) struct Forward {
    /// The address to listen on, such as 0.0.0.0:5432 or unix:/path.
    #[arg(value_name = "LISTEN")]
    pub(crate) listen: String,
    /// The servers, such as db.internal:5432. The one with the fewest connections is used.
    #[arg(value_name = "SERVER", required = true)]
    pub(crate) servers: Vec<String>,
    /// Terminates TLS with this chain, in PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) chain: Option<PathBuf>,
    /// The private key of the chain, in PEM.
    #[arg(long, value_name = "FILE", requires = "chain")]
    pub(crate) key: Option<PathBuf>,
    /// Networks that may connect; all by default.
    #[arg(long, value_name = "NETWORK")]
    pub(crate) allow: Vec<String>,
    /// Sends the client's address in a PROXY header of this version.
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(crate) proxy_protocol: Option<u8>,
}
