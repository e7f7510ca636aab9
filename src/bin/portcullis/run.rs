//! `portcullis run`, `check` and `forward`.

use crate::{
    admin::{self, Admin, Instruments},
    args,
    build::{self, Before, Parts},
    config::{Config, Problems, Source, chain},
    exit, log,
    running::{CannotListen, Hangups, Request, Running},
};
use portcullis::server::Report;
use std::{fmt::Write as _, path::Path, process::ExitCode};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};

/// Prints all problems of a configuration. It reads certificates and other files, and opens no socket.
pub(crate) fn check(path: &Path) -> ExitCode {
    let (config, _, problems) = load(path);
    if problems.errors() > 0 {
        return print_problems(path, problems);
    }
    for note in problems.sorted() {
        println!("{note}");
    }
    let (listeners, backends) = (config.listeners.len(), config.backends.len());
    println!(
        "{}: usable; {listeners} listeners, {backends} backends",
        path.display()
    );
    ExitCode::from(exit::OK)
}

/// Prints why a configuration cannot be used.
pub(crate) fn print_problems(path: &Path, problems: Problems) -> ExitCode {
    let errors = match problems.errors() {
        1 => "1 error".to_owned(),
        errors => format!("{errors} errors"),
    };
    for problem in problems.sorted() {
        println!("{problem}");
    }
    println!("{}: {errors}", path.display());
    ExitCode::from(exit::USAGE)
}

/// Reads a configuration with all that it refers to, and builds it without a connect.
pub(crate) fn load(path: &Path) -> (Config, Parts, Problems) {
    let runtime = runtime();
    let _guard = runtime.enter();
    let (config, mut problems) = Config::load(path);
    let before = Before {
        is_dry_run: true,
        ..Before::default()
    };
    let parts = build::build(&config, &before, &mut problems);
    (config, parts, problems)
}

pub(crate) fn run(path: &Path) -> ExitCode {
    let (config, problems) = Config::load(path);
    serve(config, problems, Some(path))
}

/// Serves a configuration that the command line describes.
pub(crate) fn forward(args: &args::Forward) -> ExitCode {
    let mut problems = Problems::default();
    let source = Source::new("command line", describe(args));
    let config = Config::parse(&source, &mut problems);
    serve(config, problems, None)
}

/// The configuration file that does the same.
fn describe(args: &args::Forward) -> String {
    let mut text =
        String::from("version = 1\n[[listener]]\nname = \"forward\"\nbackend = \"servers\"\n");
    let mut line = |key: &str, value: &dyn std::fmt::Debug| {
        // Rust's escapes of strings are those of TOML, for what a command line can hold.
        let _ = writeln!(text, "{key} = {value:?}");
    };
    line("listen", &args.listen);
    if !args.allow.is_empty() {
        line("access.allow", &args.allow);
    }
    if args.chain.is_some() {
        line("tls.certificates", &["forward"]);
    }
    line("[[backend]]\nname", &"servers");
    line("servers", &args.servers);
    if let Some(version) = args.proxy_protocol {
        line("proxy-protocol.version", &version);
    }
    if let (Some(chain), Some(key)) = (&args.chain, &args.key) {
        line("[[certificate]]\nname", &"forward");
        line("chain", chain);
        line("key", key);
    }
    text
}

fn serve(config: Config, problems: Problems, file: Option<&Path>) -> ExitCode {
    serve_on(&runtime(), config, problems, file)
}

/// Serves until a signal.
pub(crate) fn serve_on(
    runtime: &Runtime,
    config: Config,
    mut problems: Problems,
    file: Option<&Path>,
) -> ExitCode {
    let _guard = runtime.enter();
    // First, because health checks and signals do not wait for the rest of the start.
    let _flush = (problems.errors() == 0).then(|| log::init(config.log));
    let hangups = match Hangups::new() {
        Ok(hangups) => hangups,
        Err(error) => {
            eprintln!("portcullis: {}", chain(&*error));
            return ExitCode::from(exit::FAILED);
        }
    };
    let instruments = config.admin.as_ref().map(Instruments::install);
    let before = Before {
        instruments: instruments.clone(),
        ..Before::default()
    };
    let parts = build::build(&config, &before, &mut problems);
    if problems.errors() > 0 {
        for problem in problems.sorted() {
            eprintln!("{problem}");
        }
        return ExitCode::from(exit::USAGE);
    }
    for problem in problems.sorted() {
        tracing::warn!("{problem}");
    }
    raise_descriptors();
    let started = start(config, parts, instruments, file);
    let (running, admin, requests) = match started {
        Ok(started) => started,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    let served = runtime.block_on(async {
        let served = running.serve(hangups, requests).await;
        // Last, so that it shows the shutdown.
        if let Some(admin) = admin {
            admin.stop().await;
        }
        served
    });
    match served {
        Ok(report) => exit_code(&report),
        Err(error) => {
            eprintln!("portcullis: {}", chain(&*error));
            ExitCode::from(exit::FAILED)
        }
    }
}

/// Opens all sockets, then serves.
fn start(
    config: Config,
    mut parts: Parts,
    instruments: Option<Instruments>,
    file: Option<&Path>,
) -> Result<(Running, Option<Admin>, mpsc::Receiver<Request>), CannotListen> {
    let tls = parts.admin.as_mut().and_then(|admin| admin.tls.take());
    let bound = config.admin.as_ref();
    let bound = bound.map(|admin| admin::bind(admin, tls)).transpose()?;
    let running = Running::start(config, parts, instruments.clone(), file)?;
    let (sender, requests) = mpsc::channel(QUEUE);
    let admin = bound
        .zip(instruments)
        .map(|(bound, instruments)| bound.serve(running.view(), sender, instruments));
    Ok((running, admin, requests))
}

/// Requests that wait for a reload to end.
const QUEUE: usize = 16;

pub(crate) fn exit_code(report: &Report) -> ExitCode {
    let cut = report.force_closed().len() + report.still_running();
    tracing::info!(ended = report.ended(), cut, took = ?report.took(), "stopped");
    ExitCode::from(if cut == 0 { exit::OK } else { exit::CUT })
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("the system has threads and a poller")
}

/// Each forwarded connection takes two file descriptors, and the usual soft limit is 1024.
#[cfg(unix)]
fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of file descriptors cannot be raised");
        }
    }
}

#[cfg(not(unix))]
fn raise_descriptors() {}
