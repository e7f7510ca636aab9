//! The program `portcullis`: a gate in front of services, from one configuration file.

#![warn(clippy::print_stdout, clippy::print_stderr)] // See `output`.

mod admin;
mod args;
mod build;
mod check;
mod config;
mod ctl;
mod demo;
mod explain;
mod handshake;
mod log;
mod output;
mod plan;
mod reason;
mod recheck;
mod run;
mod running;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod share;
mod small;
mod system;
mod tls_facts;
mod view;

use args::{Args, Command};
use clap::Parser;
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// glibc's allocator takes 1,900 instructions more per connection, and more memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => error.exit(),
        // Help, or the version.
        Err(help) => {
            let printed = help.print().and_then(|()| io::stdout().flush());
            return output::check(printed).err().unwrap_or(ExitCode::SUCCESS);
        }
    };
    match args.command {
        Command::Demo(args) => demo::demo(&args),
        Command::Check(args) => check::check(&args),
        Command::Run(args) => run::run(args.path()),
        Command::Plan(args) => plan::plan(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Forward(args) => run::forward(&args),
        Command::Ctl(args) => ctl::ctl(&args),
        Command::Echo(args) => small::echo(&args.listen),
        Command::Daytime(args) => small::daytime(&args.listen),
    }
}

/// How the program ends; see `portcullis help`.
mod exit {
    /// It ended as asked.
    pub(crate) const OK: u8 = 0;
    /// It failed while it ran.
    pub(crate) const FAILED: u8 = 1;
    /// The configuration or the command line is wrong. clap uses the same number.
    pub(crate) const USAGE: u8 = 2;
    /// Connections were force-closed at the deadline of the drain.
    pub(crate) const CUT: u8 = 3;
    /// `plan` has found changes.
    pub(crate) const CHANGES: u8 = 10;
}
