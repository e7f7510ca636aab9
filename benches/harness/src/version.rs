//! Versions of what was measured, and of what it was measured with.

use std::{env, path::PathBuf, process::Command};

/// The version of a package in a lock file; the last one if there are several.
pub fn of_package<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let start = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = lock.rsplit_once(&start)?;
    rest.split('"').next()
}

/// The first line with a digit that a program prints for `flag`; `None` without the program.
pub fn of_program(program: &str, flag: &str) -> Option<String> {
    let output = Command::new(program).arg(flag).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text
        .lines()
        .find(|line| line.contains(|c: char| c.is_ascii_digit()))?;
    Some(line.trim().to_owned())
}

/// Whether a program is installed.
pub fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(system)
        .any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_package_is_found_by_its_whole_name() {
        let lock = "[[package]]\nname = \"tokio\"\nversion = \"1.54.1\"\n";
        assert_eq!(of_package(lock, "tokio"), Some("1.54.1"));
        assert_eq!(of_package(lock, "tok"), None);
    }
}
