//! `portcullis run` and `forward`.

#[cfg(unix)]
use crate::system::upgrade::Succession;
use crate::{
    admin::{self, Instruments},
    args,
    build::{self, Before, Parts},
    config::{Backend, Config, Problems, Source, Workers, chain},
    exit, log, output, recheck,
    running::{Request, Running},
    system::{CannotListen, ConfigWatch, Events, Sockets, raise_descriptors},
};
use portcullis::{middleware::tls::provider, server::Report};
use std::{fmt::Write as _, path::Path, process::ExitCode, time::Duration};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};

/// Prints why a configuration cannot be used.
pub(crate) fn print_problems(path: &Path, problems: Problems) -> ExitCode {
    let errors = count(problems.errors(), "error");
    let lines = problems.sorted().into_iter();
    let mut text: String = lines.map(|problem| format!("{problem}\n")).collect();
    let _ = writeln!(text, "{}: {errors}", path.display());
    output::end_with(&text, exit::USAGE)
}

/// A number of things, such as "1 listener" or "2 listeners".
pub(crate) fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// A time in whole hours, such as "2 days and 3 hours".
pub(crate) fn days_and_hours(time: Duration) -> String {
    let hours = time.as_secs() / 3_600;
    format!("{} days and {} hours", hours / 24, hours % 24)
}

/// Reads a configuration with all that it refers to.
pub(crate) fn load(path: &Path) -> (Config, Parts, Problems) {
    load_by(|| Config::load(path))
}

/// The same by another way to read it.
pub(crate) fn load_by(read: impl FnOnce() -> (Config, Problems)) -> (Config, Parts, Problems) {
    let runtime = runtime();
    let _guard = runtime.enter();
    let (config, mut problems) = read();
    let parts = build::build(&config, &Before::default(), &mut problems);
    (config, parts, problems)
}

pub(crate) fn run(path: &Path) -> ExitCode {
    // First, while this process has one thread.
    let sockets = Sockets::from_env();
    let (config, problems) = Config::load(path);
    let runtime = runtime_with(config.process.workers);
    serve_on(&runtime, config, problems, Some(path), sockets, || Ok(()))
}

/// Serves a configuration that the command line describes.
pub(crate) fn forward(args: &args::Forward) -> ExitCode {
    let text = match describe(args) {
        Ok(text) => text,
        Err(error) => {
            output::say(error);
            return ExitCode::from(exit::USAGE);
        }
    };
    let mut problems = Problems::default();
    let source = Source::unnamed(text);
    let config = Config::parse(&source, &mut problems);
    let sockets = Sockets::default();
    serve_on(&runtime(), config, problems, None, sockets, || Ok(()))
}

/// The configuration file that does the same.
fn describe(args: &args::Forward) -> Result<String, String> {
    let mut text =
        String::from("version = 1\n[[listener]]\nname = \"forward\"\nbackend = \"servers\"\n");
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key} = {value}");
    };
    line("listen", quoted(&args.listen));
    if !args.allow.is_empty() {
        line("access.allow", list(&args.allow));
    }
    if args.chain.is_some() {
        line("tls.certificates", quoted("forward"));
    }
    line("[[backend]]\nname", quoted("servers"));
    line("servers", list(&args.servers));
    if let Some(version) = args.proxy_protocol {
        line("proxy-protocol.version", version.to_string());
    }
    if let (Some(chain), Some(key)) = (&args.chain, &args.key) {
        line("[[certificate]]\nname", quoted("forward"));
        line("chain", quoted(utf8(chain)?));
        line("key", quoted(utf8(key)?));
    }
    Ok(text)
}

fn list(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for sign in text.chars() {
        match sign {
            '"' | '\\' => quoted.extend(['\\', sign]),
            _ if sign.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(sign));
            }
            _ => quoted.push(sign),
        }
    }
    quoted + "\""
}

fn utf8(path: &Path) -> Result<&str, String> {
    let reason = "its path is not UTF-8; rename it, or use a link";
    path.to_str()
        .ok_or_else(|| format!("{} cannot be used: {reason}", path.display()))
}

/// Serves until a signal. `on_start` is called once it serves and catches signals.
pub(crate) fn serve_on(
    runtime: &Runtime,
    config: Config,
    mut problems: Problems,
    file: Option<&Path>,
    sockets: Sockets,
    on_start: impl FnOnce() -> Result<(), String>,
) -> ExitCode {
    let _guard = runtime.enter();
    // First, because what is built logs, too. Access lines come when it is certain that they can be written.
    let log = match problems.errors() {
        0 => log::init(&config.log).map(Some),
        _ => Ok(None),
    };
    let _flush = match log {
        Ok(flush) => flush,
        Err(error) => return failed_to_start(&error),
    };
    let events = match Events::new() {
        Ok(events) => events,
        Err(error) => return failed_to_start(&format!("portcullis: {}", chain(&error))),
    };
    if file.is_some() {
        // A reload may add an admin interface, which shows what pools count from the start.
        Instruments::install_metrics();
    }
    let instruments = config.admin.as_ref().map(Instruments::new);
    let before = Before {
        instruments: instruments.clone(),
        ..Before::default()
    };
    let parts = build::build(&config, &before, &mut problems);
    if problems.errors() > 0 {
        for problem in problems.sorted() {
            output::say(problem);
        }
        return ExitCode::from(exit::USAGE);
    }
    match log::open(&config.log) {
        Ok(opened) => opened.commit(),
        Err(error) => return failed_to_start(&error),
    }
    for problem in problems.sorted() {
        tracing::warn!("{problem}");
    }
    raise_descriptors();
    let serving = serve_with(config, parts, instruments, events, file, sockets, on_start);
    match runtime.block_on(serving) {
        Ok(report) => exit_code(&report),
        Err(error) => failed_to_start(&error),
    }
}

fn failed_to_start(error: &str) -> ExitCode {
    output::say(error);
    ExitCode::from(exit::FAILED)
}

/// Opens all sockets, or takes them over, then serves.
async fn serve_with(
    config: Config,
    mut parts: Parts,
    instruments: Option<Instruments>,
    mut events: Events,
    file: Option<&Path>,
    mut sockets: Sockets,
    on_start: impl FnOnce() -> Result<(), String>,
) -> Result<Report, String> {
    let uses_tls = |backend: &Backend| backend.tls.is_some() || backend.health.tls.is_some();
    if !config.certificates.is_empty() || config.backends.iter().any(uses_tls) {
        seed_random();
    }
    // Names are resolved and servers are checked while the sockets are opened.
    parts.start_pools();
    #[cfg(unix)]
    let succession = Succession::begin(&config, &mut sockets).await?;
    let started = start(config, parts, instruments, file, sockets);
    let (mut running, requests) = match started {
        Ok(started) => started,
        Err(error) => {
            let error = error.to_string();
            #[cfg(unix)]
            succession.fail(&error).await;
            return Err(error);
        }
    };
    let watched = file.filter(|_| running.config().process.watch);
    events.set_watch(watched.map(|file| ConfigWatch::new(file, running.config())));
    #[cfg(unix)]
    let refused = running.succeed(succession, &mut events).await?;
    #[cfg(not(unix))]
    let refused = None;
    on_start()?;
    let recheck = tokio::spawn(recheck::run(running.view()));
    let report = running.serve(events, requests).await;
    recheck.abort();
    refused.map_or(Ok(report), Err)
}

/// Opens the sockets that are not there yet, and begins to serve.
fn start(
    config: Config,
    mut parts: Parts,
    instruments: Option<Instruments>,
    file: Option<&Path>,
    mut sockets: Sockets,
) -> Result<(Running, mpsc::Receiver<Request>), CannotListen> {
    let tls = parts.admin.as_mut().and_then(|admin| admin.tls.take());
    let admin = config.admin.clone();
    let admin = admin.map(|settings| Ok((admin::bind(&settings, &mut sockets)?, settings)));
    let admin = admin.transpose()?;
    let (sender, requests) = mpsc::channel(QUEUE);
    let mut running = Running::start(config, parts, instruments, file, sockets, sender)?;
    if let Some((bound, settings)) = admin {
        running.start_admin(&settings, bound, tls);
    }
    Ok((running, requests))
}

/// Draws the first random byte of the process, before which aws-lc gathers entropy for some 400 million instructions.
///
/// Otherwise the first handshake would wait for it, and an upgrade would make a gap of about 100 ms.
fn seed_random() {
    // A provider without entropy fails each handshake, with its reason.
    let _ = provider().secure_random.fill(&mut [0]);
}

/// Requests that wait for a reload to end.
const QUEUE: usize = 16;

pub(crate) fn exit_code(report: &Report) -> ExitCode {
    let cut = report.force_closed().len() + report.still_running();
    let took = report.took().as_secs_f64();
    tracing::info!(ended = report.ended(), cut, took, "stopped");
    ExitCode::from(if cut == 0 { exit::OK } else { exit::CUT })
}

pub(crate) fn runtime() -> Runtime {
    runtime_with(Workers::Shared)
}

fn runtime_with(workers: Workers) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    if let Workers::Threads(threads) = workers {
        builder.worker_threads(threads);
    }
    builder
        .enable_all()
        .build()
        .expect("the system has threads and a poller")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(chain: &Path) -> args::Forward {
        args::Forward {
            listen: "127.0.0.1:0".into(),
            servers: vec!["127.0.0.1:1".into(), "127.0.0.1:2".into()],
            chain: Some(chain.into()),
            key: Some("key.pem".into()),
            allow: vec!["192.0.2.0/24".into()],
            proxy_protocol: Some(2),
        }
    }

    #[test]
    fn a_command_line_may_name_any_path_that_is_utf_8() {
        // With a combining accent, which `{:?}` escapes in a way that TOML does not know.
        let path = "/re\u{301}gie/\"a\"\\b\t\u{7f}\u{85}.pem";
        let text = describe(&forward(Path::new(path))).expect("it is UTF-8");
        let mut problems = Problems::default();
        let config = Config::parse(&Source::new("command line", text), &mut problems);
        assert_eq!(problems.errors(), 0, "{:?}", problems.sorted());
        assert_eq!(*config.certificates[0].chain.value, *Path::new(path));
        assert_eq!(config.backends[0].servers.len(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_is_not_utf_8_is_rejected() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        let path = Path::new(OsStr::from_bytes(b"/chain\xff.pem"));
        let error = describe(&forward(path)).expect_err("it is not UTF-8");
        assert!(error.contains("not UTF-8"), "{error}");
    }
}
