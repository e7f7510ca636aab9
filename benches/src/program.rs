//! The program `portcullis`, compiled as for a release.

use super::{Variant, backend::Backend};
use harness::child::Role;
use portcullis::BoxError;
use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// Compiles it where it is not up to date.
pub(crate) fn compile() -> Result<(), BoxError> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package=portcullis-cli"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err("the program does not compile".into()),
    }
}

/// How it is started in front of `backend`.
pub(crate) fn role(variant: Variant, backend: &Backend) -> Result<Role, BoxError> {
    let folder = folder()?;
    let file = folder.join("portcullis-benches.toml");
    fs::write(&file, configuration(variant, backend.address()))?;
    Ok(Role {
        program: Some(folder.join("portcullis")),
        arguments: vec!["run".into(), "--config".into(), file.into()],
        environment: Vec::new(),
    })
}

/// Where cargo puts what it compiles for a release.
fn folder() -> Result<PathBuf, BoxError> {
    let this = env::current_exe()?;
    let target = this.parent().and_then(Path::parent);
    Ok(target.ok_or("no target folder")?.join("release"))
}

/// One listener and one server. Without access lines and health checks, whose number depends on the time.
fn configuration(variant: Variant, backend: SocketAddr) -> String {
    let admin = match variant {
        Variant::ProgramAdmin => "admin.listen = \"127.0.0.1:0\"\n",
        _ => "",
    };
    format!(
        "version = 1
{admin}process.workers = 1
log = {{ access = \"off\", format = \"text\" }}

[[listener]]
name = \"bench\"
listen = \"127.0.0.1:0\"
backend = \"bench\"

[[backend]]
name = \"bench\"
servers = \"{backend}\"
health = \"off\"
"
    )
}
