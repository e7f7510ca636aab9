//! `portcullis check`.

use crate::{
    args,
    build::{Parts, outdated},
    config::{Config, Listener, Place, Placed, Problems},
    exit, output, run,
};
use portcullis::middleware::tls::CertStore;
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

/// Prints all problems of a configuration. It reads certificates and other files, and opens no socket.
pub(crate) fn check(args: &args::Check) -> ExitCode {
    let path = args.file.as_ref().unwrap_or(&args.config);
    let is_stdin = [Path::new("-"), Path::new("/dev/stdin")].contains(&&**path);
    let (config, parts, mut problems) = run::load_by(|| match is_stdin {
        true => Config::from_stdin(),
        false => Config::load(path),
    });
    report_endings(&config, &parts, args.at, &mut problems);
    report_lists(&config, &parts, args.at, &mut problems);
    if problems.errors() > 0 {
        return run::print_problems(path, problems);
    }
    let notes = problems.sorted().into_iter();
    let mut text: String = notes.map(|note| format!("{note}\n")).collect();
    let _ = writeln!(
        text,
        "{}: usable; {}, {}",
        path.display(),
        run::count(config.listeners.len(), "listener"),
        run::count(config.backends.len(), "backend")
    );
    output::end_with(&text, exit::OK)
}

/// Reports the certificates that end until then, each once, and notes others that end soon.
fn report_endings(
    config: &Config,
    parts: &Parts,
    ahead: Option<Duration>,
    problems: &mut Problems,
) {
    let now = SystemTime::now();
    let stores = parts.certificates();
    let stored: Vec<_> = stores.iter().flat_map(CertStore::certificates).collect();
    for certificate in &config.certificates {
        let chain = &certificate.chain;
        let its = stored
            .iter()
            .find(|it| it.source.as_ref() == Some(&chain.value));
        let Some(end) = its.map(|it| it.facts.not_after) else {
            continue;
        };
        let is_error = ahead.is_some_and(|ahead| end < now + ahead);
        if is_error || end < now + SOON {
            let name = &certificate.name.value;
            let left = run::days_and_hours(end.duration_since(now).unwrap_or_default());
            let message = format!("certificate \"{name}\": it ends in {left}");
            report(problems, is_error, &chain.place, message);
        }
    }
}

/// Reports the revocation lists that are out of date then, each once, and notes others that are now.
fn report_lists(config: &Config, parts: &Parts, ahead: Option<Duration>, problems: &mut Problems) {
    let now = SystemTime::now();
    let then = now + ahead.unwrap_or_default();
    let listeners = config.listeners.iter();
    let tls = listeners.flat_map(Listener::terminated).map(|(_, tls)| tls);
    let tls = tls.chain(config.admin.as_ref().and_then(|it| it.tls.as_ref()));
    let files: Vec<_> = tls
        .filter_map(|tls| tls.client.as_ref()?.crl.as_ref())
        .collect();
    let stores = parts.certificates();
    let lists = stores.iter().flat_map(CertStore::crls);
    for crl in lists.filter(|crl| crl.is_outdated(then)) {
        let is_file = |file: &&&Placed<PathBuf>| crl.source.as_ref() == Some(&file.value);
        let Some(file) = files.iter().find(is_file) else {
            continue;
        };
        let message = if crl.is_outdated(now) {
            outdated(&crl, now)
        } else {
            let left = crl.next_update.duration_since(now).unwrap_or_default();
            let (file, left) = (file.value.display(), run::days_and_hours(left));
            format!("revocation list {file}: it is out of date in {left}")
        };
        report(problems, ahead.is_some(), &file.place, message);
    }
}

fn report(problems: &mut Problems, is_error: bool, place: &Place, message: String) {
    match is_error {
        true => problems.error(place.clone(), message),
        false => problems.note(place.clone(), message),
    }
}

/// A certificate that ends within this time is noted.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);
