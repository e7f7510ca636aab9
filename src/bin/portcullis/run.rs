//! `portcullis run`, `check` and `forward`.

#[cfg(unix)]
use crate::system::upgrade;
use crate::{
    args,
    build::{self, Before, Parts},
    config::{Config, Problems, Source, chain},
    exit, log,
    running::Running,
    system::{Events, Sockets, raise_descriptors},
};
use portcullis::server::Report;
use std::{fmt::Write as _, path::Path, process::ExitCode};
use tokio::runtime::{Builder, Runtime};

/// Prints all problems of a configuration. It reads certificates and other files, and opens no socket.
pub(crate) fn check(path: &Path) -> ExitCode {
    let runtime = runtime();
    let _guard = runtime.enter();
    let (config, mut problems) = Config::load(path);
    let before = Before {
        is_dry_run: true,
        ..Before::default()
    };
    build::build(&config, &before, &mut problems);
    let errors = problems.errors();
    for problem in problems.sorted() {
        println!("{problem}");
    }
    match errors {
        0 => {
            let (listeners, backends) = (config.listeners.len(), config.backends.len());
            println!(
                "{}: usable; {listeners} listeners, {backends} backends",
                path.display()
            );
            ExitCode::from(exit::OK)
        }
        1 => failed(path, "1 error"),
        errors => failed(path, &format!("{errors} errors")),
    }
}

fn failed(path: &Path, errors: &str) -> ExitCode {
    println!("{}: {errors}", path.display());
    ExitCode::from(exit::USAGE)
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
    let events = match Events::new() {
        Ok(events) => events,
        Err(error) => return failed_to_start(&format!("portcullis: {}", chain(&error))),
    };
    let parts = build::build(&config, &Before::default(), &mut problems);
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
    match runtime.block_on(start(config, parts, events, file)) {
        Ok(report) => exit_code(&report),
        Err(error) => failed_to_start(&error),
    }
}

fn failed_to_start(error: &str) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(exit::FAILED)
}

/// Takes the sockets of the process before over, if there is one, then serves.
#[cfg(unix)]
async fn start(
    config: Config,
    parts: Parts,
    mut events: Events,
    file: Option<&Path>,
) -> Result<Report, String> {
    let path = config.process.upgrade_socket.clone();
    let mut sockets = Sockets::default();
    let mut takeover = None;
    if let Some(path) = &path {
        let asked = upgrade::take_over(&path.value).await;
        let asked = asked.map_err(|error| format!("{}: the upgrade failed: {error}", path.place));
        if let Some((begun, handed_over)) = asked? {
            sockets.hand_over(handed_over);
            takeover = Some(begun);
        }
    }
    let running = Running::start(config, parts, sockets).map_err(|error| error.to_string())?;
    let has_taken_over = takeover.is_some();
    if let Some(takeover) = takeover {
        let process = takeover.process.unwrap_or_default();
        match takeover.finish(running.labels()).await {
            Ok(()) => tracing::info!(process, "the sockets of the old process were taken over"),
            // Both serve the same sockets, so no client is lost.
            Err(error) => tracing::error!(process, %error, "the old process may go on serving"),
        }
    }
    if let Some(path) = &path {
        match upgrade::Offer::bind(&path.value) {
            Ok(offer) => {
                tracing::info!("ready for an upgrade at {}", path.value.display());
                events.set_offer(Some(offer));
            }
            Err(error) => {
                let error = format!("{}: {}", path.place, chain(&error));
                if !has_taken_over {
                    return Err(error);
                }
                tracing::error!("{error}; there is no further upgrade");
            }
        }
    }
    Ok(running.serve(file.map(Into::into), events).await)
}

#[cfg(not(unix))]
async fn start(
    config: Config,
    parts: Parts,
    events: Events,
    file: Option<&Path>,
) -> Result<Report, String> {
    let running = Running::start(config, parts, Sockets::default());
    let running = running.map_err(|error| error.to_string())?;
    Ok(running.serve(file.map(Into::into), events).await)
}

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
