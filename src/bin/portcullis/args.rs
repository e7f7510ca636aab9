//! The command line.

use clap::{Args as Arguments, Parser, Subcommand};
use std::{net::IpAddr, path::PathBuf};

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
    Check(Config),
    /// Prints what a reload of a configuration file would do, key by key.
    Plan(Plan),
    /// Prints what would become of a client, guard by guard, and which rule decides.
    Explain(Explain),
    /// Forwards one listener to one or more servers, without a file.
    Forward(Forward),
    /// Shows and changes a running program, through its admin interface.
    Ctl(Ctl),
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
}

#[derive(Arguments, Debug)]
pub(crate) struct Plan {
    /// The new configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "portcullis.toml")]
    pub(crate) config: PathBuf,
    /// The file to compare with.
    #[arg(long, value_name = "FILE")]
    pub(crate) old: Option<PathBuf>,
}

#[derive(Arguments, Debug)]
pub(crate) struct Explain {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "portcullis.toml")]
    pub(crate) config: PathBuf,
    /// The listener that the client connects to.
    #[arg(long, value_name = "NAME")]
    pub(crate) listener: String,
    /// The client's address.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: IpAddr,
    /// The host name that it requests over TLS.
    #[arg(long, value_name = "HOST")]
    pub(crate) name: Option<String>,
    /// A protocol that it offers over TLS (ALPN), such as h2; may be repeated.
    #[arg(long, value_name = "PROTOCOL")]
    pub(crate) alpn: Vec<String>,
    /// What it speaks, as in `listener.route.protocol`.
    #[arg(long, value_name = "PROTOCOL")]
    pub(crate) protocol: Option<String>,
    /// The certificate that it shows, in PEM, with those that have signed it.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// The proxy through which it connects, which sends a PROXY header.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) proxy: Option<IpAddr>,
    /// It connects without a proxy to a listener that reads PROXY headers.
    #[arg(long, conflicts_with = "proxy")]
    pub(crate) direct: bool,
}

#[derive(Arguments, Debug)]
pub(crate) struct Ctl {
    /// The admin interface, such as http://127.0.0.1:9900 or unix:/run/portcullis/admin.sock.
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub(crate) admin: Option<String>,
    /// The configuration file that names the admin interface, without --admin.
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "portcullis.toml",
        global = true
    )]
    pub(crate) config: PathBuf,
    /// The file of the token; by default the token is in the variable PORTCULLIS_TOKEN.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// Prints what the interface answers, in JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: CtlCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CtlCommand {
    /// Shows the program as a whole.
    Status,
    /// Ends with 0 if the program takes connections, else prints why not and ends with 1.
    Ready,
    /// Reads the configuration file again.
    Reload,
    /// Shuts down gracefully.
    Drain,
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
    /// Networks that may connect; everybody by default.
    #[arg(long, value_name = "NETWORK")]
    pub(crate) allow: Vec<String>,
    /// Sends the client's address in a PROXY header of this version.
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(crate) proxy_protocol: Option<u8>,
}
