//! The command line of `portcullis ctl`.

use super::{client::Interface, explain::Question};
use crate::config::parse_duration;
use clap::{Args, Subcommand, ValueEnum};
use std::{path::PathBuf, time::Duration};

#[derive(Args, Debug)]
pub(crate) struct Ctl {
    /// The admin interface, such as http://127.0.0.1:9900 or unix:/run/portcullis/admin.sock.
    #[arg(long, value_name = "ADDRESS", global = true, help_heading = INTERFACE)]
    pub(super) admin: Option<String>,
    /// The configuration file that names the admin interface, without --admin.
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "portcullis.toml",
        global = true,
        help_heading = INTERFACE
    )]
    pub(super) config: PathBuf,
    /// The file of the token; by default the token is in the variable PORTCULLIS_TOKEN, or where the configuration says.
    #[arg(long, value_name = "FILE", global = true, help_heading = INTERFACE)]
    pub(super) token_file: Option<PathBuf>,
    /// The file of the authorities, in PEM, for an interface with TLS; by default those of the system.
    #[arg(long, value_name = "FILE", global = true, help_heading = INTERFACE)]
    pub(super) roots: Option<PathBuf>,
    /// How long to wait for the interface, such as 5s; a reload may take up to 30 s.
    #[arg(
        long,
        value_name = "TIME",
        value_parser = time,
        default_value = "35s",
        global = true,
        help_heading = INTERFACE
    )]
    pub(super) timeout: Duration,
    /// Prints what the interface answers, in JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The heading of the options that say which program is meant.
const INTERFACE: &str = "Interface";

impl Ctl {
    pub(super) fn interface(&self) -> Interface<'_> {
        Interface {
            admin: self.admin.as_deref(),
            config: &self.config,
            token_file: self.token_file.as_deref(),
            roots: self.roots.as_deref(),
            timeout: self.timeout,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows the program as a whole.
    Status,
    /// Ends with 0 if the program should get connections, else says why not and ends with 1.
    Ready,
    /// Lists the listeners, or changes one.
    Listeners {
        #[command(subcommand)]
        change: Option<ListenerChange>,
    },
    /// Lists the connections that are open.
    Connections {
        #[command(flatten)]
        filter: LiveFilter,
        /// How many are shown, up to 500.
        #[arg(long, default_value_t = 50, value_name = "NUMBER")]
        limit: usize,
    },
    /// Closes one connection, or all that a filter names.
    Close {
        /// The number of a connection.
        #[arg(conflicts_with_all = ["all", "dry_run"])]
        id: Option<u64>,
        #[command(flatten)]
        filter: LiveFilter,
        /// Closes all connections.
        #[arg(long)]
        all: bool,
        /// Counts them, and closes none.
        #[arg(long)]
        dry_run: bool,
        /// Resets them, without a graceful close.
        #[arg(long)]
        reset: bool,
    },
    /// Lists the connections that have ended last, and why.
    Endings {
        #[command(flatten)]
        filter: Filter,
        /// Those with this outcome, such as timed_out or refused.
        #[arg(long, value_name = "OUTCOME")]
        outcome: Option<String>,
        /// Those that have ended within this time, such as 30s, 10m or 1h.
        #[arg(long, value_name = "TIME", value_parser = time)]
        since: Option<Duration>,
        /// How many are shown, up to 1,000.
        #[arg(long, default_value_t = 50, value_name = "NUMBER")]
        limit: usize,
    },
    /// Lists the backends and their servers, or changes a server.
    Backends {
        #[command(subcommand)]
        change: Option<ServerChange>,
    },
    /// Lists the certificates that listeners show.
    Certificates,
    /// Prints what would become of a client now, guard by guard, and which rule decides.
    Explain(Question),
    /// Reads the configuration file again.
    Reload,
    /// Changes the level of the log, until the configuration changes it or the program ends; an upgrade keeps it.
    LogLevel {
        /// Lines of this level, and of more serious ones, are written.
        level: Level,
    },
    /// Shuts the program down gracefully.
    Drain {
        /// Prints what is waited for until the program has ended; ends with 3 if connections were force-closed.
        #[arg(long)]
        wait: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ListenerChange {
    /// Leaves new connections in the kernel's queue.
    Pause {
        /// The name of the listener.
        listener: String,
    },
    /// Accepts again.
    Resume {
        /// The name of the listener.
        listener: String,
    },
    /// Sets how many connections may be open, until the next reload; an upgrade keeps it.
    Limit {
        /// The name of the listener.
        listener: String,
        /// Their number, of at least 1, or off.
        #[arg(value_parser = limit)]
        connections: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ServerChange {
    /// Gives a server no new connections; it keeps those that it has.
    Drain(Server),
    /// Uses a drained server again.
    Undrain(Server),
    /// Takes a server out of use like one whose checks fail.
    Down(Server),
    /// Uses a server as its checks allow.
    Auto(Server),
}

#[derive(Args, Debug)]
pub(super) struct Server {
    /// The name of the backend.
    pub(super) backend: String,
    /// The server, as `ctl backends` shows it; a host name with its port means all of its addresses.
    pub(super) server: String,
}

fn limit(text: &str) -> Result<String, &'static str> {
    let is_number = text.parse::<usize>().is_ok();
    let is_limit = is_number || text == "off";
    is_limit
        .then(|| text.to_owned())
        .ok_or("write a number, or off")
}

/// `5m`, or a number of seconds.
fn age(text: &str) -> Result<f64, &'static str> {
    let time = parse_duration(text).map(|time| time.as_secs_f64());
    let seconds = time.or_else(|| text.parse().ok());
    seconds.ok_or("write a number of seconds, or one with a unit of ms, s, m, h or d, such as 5m")
}

fn time(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("write a number with one unit of ms, s, m, h or d, such as 10m")
}

/// Which connections, open or ended.
#[derive(Args, Debug)]
pub(super) struct Filter {
    /// Those of this listener.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Those of clients in this network, or with this address.
    #[arg(long, value_name = "NETWORK")]
    peer: Option<String>,
    /// Those whose requested host name contains this text.
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Those that this route took, such as "route shop.example".
    #[arg(long, value_name = "ROUTE")]
    route: Option<String>,
    /// Those to this backend.
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Those to this server.
    #[arg(long, value_name = "ADDRESS")]
    server: Option<String>,
    /// Those in which any column contains this text.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct LiveFilter {
    #[command(flatten)]
    facts: Filter,
    /// Those in this phase, such as handshake or serving.
    #[arg(long, value_name = "PHASE")]
    phase: Option<String>,
    /// Those that are open for at least this time, such as 30s, 10m or 1h; a number alone is in seconds.
    #[arg(long, value_name = "TIME", value_parser = age)]
    older: Option<f64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Filter {
    /// The parameters of a request.
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("listener", &self.listener),
            ("peer", &self.peer),
            ("name", &self.name),
            ("route", &self.route),
            ("backend", &self.backend),
            ("server", &self.server),
            ("search", &self.search),
        ];
        let given = all
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.clone()?)));
        given.collect()
    }
}

impl LiveFilter {
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = self.facts.parameters();
        parameters.extend(self.phase.clone().map(|phase| ("phase", phase)));
        parameters.extend(self.older.map(|older| ("older", older.to_string())));
        parameters
    }
}
