//! One line for each connection, at its end.

use super::lines::Lines;
use crate::{
    reason::{Failure, is_drained, reason},
    tls_facts, view,
};
use portcullis::{
    connection::{EndedBy, Milestone},
    middleware::{observe::trace::Closed, outcome::Outcome},
};
use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// The target of access lines, for filters.
pub(super) const TARGET: &str = "access";

/// Where access lines go.
pub(super) enum Destination {
    Off,
    /// Between the messages.
    Stdout,
    File(Lines),
}

/// Opens a file to append to. Pipes are rejected, because opening or writing to one may block.
pub(super) fn open(path: &Path) -> io::Result<File> {
    check_kind(path)?;
    File::options().append(true).create(true).open(path)
}

/// Fails where [`open`] would probably fail. It creates no file.
pub(super) fn check(path: &Path) -> io::Result<()> {
    check_kind(path)?;
    match File::options().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|it| *it != Path::new(""));
            check_folder(folder.unwrap_or(Path::new(".")))
        }
        opened => opened.map(drop),
    }
}

fn check_kind(path: &Path) -> io::Result<()> {
    let is_file = |metadata: fs::Metadata| metadata.is_file() || is_device(&metadata);
    if fs::metadata(path).is_ok_and(|metadata| !is_file(metadata)) {
        let message = "access lines need a file here";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}

/// Whether a file can be created there.
#[cfg(unix)]
fn check_folder(folder: &Path) -> io::Result<()> {
    use rustix::fs::{Access, access};
    access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(Into::into)
}

#[cfg(not(unix))]
fn check_folder(folder: &Path) -> io::Result<()> {
    fs::metadata(folder).map(drop)
}

/// Such as `/dev/null`.
#[cfg(unix)]
fn is_device(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_char_device(&metadata.file_type())
}

#[cfg(not(unix))]
fn is_device(_: &fs::Metadata) -> bool {
    false
}

/// Logs the end of a connection of `listener`.
pub(crate) fn log(listener: &str, closed: &Closed<'_>) {
    if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
        return;
    }
    let info = closed.info();
    let (upstream, hello, tls) = (info.upstream(), info.hello(), info.tls());
    let is_proxied = info.peer() != info.socket_peer();
    let name = tls
        .and_then(|tls| tls.server_name.as_deref())
        .or_else(|| hello.and_then(|hello| hello.server_name()));
    let observed: Vec<_> = info.notes().map(ToString::to_string).collect();
    let outcome = closed.outcome();
    let failure = closed.error().map(Failure::of);
    let seconds = |milestone| info.reached(milestone).map(|after| after.as_secs_f64());
    // Texts that a peer chose are fields of type string, which both formats escape.
    tracing::info!(
        target: TARGET,
        listener,
        connection.id = info.id().get(),
        peer = %info.peer(),
        proxy = is_proxied.then(|| tracing::field::display(info.socket_peer())),
        name,
        tls_version = tls.and_then(tls_facts::version),
        cipher = tls.and_then(tls_facts::cipher),
        ja4 = hello.and_then(|hello| hello.ja4()),
        certificate = tls_facts::client_certificate(info),
        route = info.route(),
        backend = info.pool(),
        server = upstream.map(|it| &*it.server),
        connect_time = upstream.map(|it| it.connect_time.as_secs_f64()),
        bytes_in = info.bytes_read(),
        bytes_out = info.bytes_written(),
        duration = closed.duration().as_secs_f64(),
        first_byte_in = seconds(Milestone::FirstByteOfClient),
        first_byte_out = seconds(Milestone::FirstByteOfBackend),
        ended_by = view::ended_by(info, outcome).map(EndedBy::as_str),
        outcome = outcome.as_str(),
        observed = (!observed.is_empty()).then(|| observed.join("; ")),
        reason = (outcome != Outcome::Completed || is_drained(info, outcome)).then(|| reason(info, outcome, failure.as_ref())),
    );
}
