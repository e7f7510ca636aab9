//! Service names, such as `http`, and their ports (services(5)).
//!
//! The file is parsed here, because std and tokio have no lookup by service alone, `getservbyname(3)` returns
//! static storage, and crates that wrap `getaddrinfo(3)` would replace twenty lines. Other databases of
//! `nsswitch.conf` (NIS, LDAP) are skipped.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Returns the port of a TCP service from the system's database, or `None`.
///
/// Blocks on the file system.
pub(super) fn look_up(service: &str) -> io::Result<Option<u16>> {
    look_up_in(&path(), service)
}

fn look_up_in(path: &Path, service: &str) -> io::Result<Option<u16>> {
    match fs::read(path) {
        Ok(database) => Ok(find(&String::from_utf8_lossy(&database), service)),
        // Small container images have no such file. An existing file takes precedence.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(find(BUILT_IN, service)),
        Err(error) => Err(error),
    }
}

/// The path of the system's database.
pub(super) fn path() -> PathBuf {
    #[cfg(windows)]
    {
        let root = std::env::var_os("SystemRoot").unwrap_or_else(|| r"C:\Windows".into());
        Path::new(&root).join(r"System32\drivers\etc\services")
    }
    #[cfg(not(windows))]
    PathBuf::from("/etc/services")
}

/// Finds the port of a TCP service by its case-sensitive name or alias.
///
/// The first matching entry wins; malformed lines are skipped.
fn find(database: &str, service: &str) -> Option<u16> {
    let mut entries = database.lines().filter_map(entry);
    let (port, _) = entries.find(|(_, names)| names.clone().any(|name| name == service))?;
    Some(port)
}

/// Parses a line: `name port/protocol [alias ...] [# comment]`.
fn entry(line: &str) -> Option<(u16, impl Iterator<Item = &str> + Clone)> {
    let line = line.split_once('#').map_or(line, |(line, _)| line);
    let mut fields = line.split_whitespace();
    let name = fields.next()?;
    let port = fields.next()?.strip_suffix("/tcp")?.parse().ok()?;
    Some((port, std::iter::once(name).chain(fields)))
}

/// Services that programs often connect to by name, with their IANA ports.
const BUILT_IN: &str = "\
ftp 21/tcp
ssh 22/tcp
telnet 23/tcp
smtp 25/tcp mail
domain 53/tcp
http 80/tcp www
pop3 110/tcp
imap2 143/tcp imap
ldap 389/tcp
https 443/tcp
submission 587/tcp
ldaps 636/tcp
domain-s 853/tcp
imaps 993/tcp
pop3s 995/tcp
mysql 3306/tcp
postgresql 5432/tcp postgres
amqp 5672/tcp
redis 6379/tcp
";

#[cfg(test)]
mod tests {
    use super::*;

    const DATABASE: &str = "\
# A made-up database
echo\t\t8/udp
echo\t\t7/tcp
hello           4242/tcp   greeting hi\t# on all hosts
hello           4243/tcp
only-udp        99/udp
broken
broken          /tcp
broken          x/tcp
broken          65536/tcp
broken          -1/tcp
broken          1
#commented      5/tcp
half            6#/tcp
last            65535/tcp";

    #[test]
    fn a_service_is_found_by_its_name_and_by_its_aliases() {
        assert_eq!(find(DATABASE, "hello"), Some(4242));
        assert_eq!(find(DATABASE, "greeting"), Some(4242));
        assert_eq!(find(DATABASE, "hi"), Some(4242));
        assert_eq!(find(DATABASE, "last"), Some(65535));
        let windows = DATABASE.replace('\n', "\r\n");
        assert_eq!(find(&windows, "hi"), Some(4242));
    }

    #[test]
    fn only_tcp_counts() {
        assert_eq!(find(DATABASE, "echo"), Some(7));
        assert_eq!(find(DATABASE, "only-udp"), None);
    }

    #[test]
    fn nothing_else_is_a_name() {
        for name in [
            "",
            "#",
            "on",
            "Hello",
            "4242/tcp",
            "broken",
            "commented",
            "half",
            "hell",
            "hello ",
        ] {
            assert_eq!(find(DATABASE, name), None, "{name:?}");
        }
    }

    #[test]
    fn the_built_in_names_count_only_where_there_is_no_database() {
        let directory = std::env::temp_dir();
        let file = directory.join(format!("portcullis-services-{}", std::process::id()));
        assert_eq!(look_up_in(&file, "https").unwrap(), Some(443));
        assert_eq!(look_up_in(&file, "hello").unwrap(), None);

        // Invalid UTF-8, as in an old comment.
        let mut database = b"# caf\xe9\n".to_vec();
        database.extend(DATABASE.as_bytes());
        fs::write(&file, database).unwrap();
        let found = (look_up_in(&file, "hello"), look_up_in(&file, "https"));
        fs::remove_file(&file).unwrap();
        assert_eq!((found.0.unwrap(), found.1.unwrap()), (Some(4242), None));
    }

    #[test]
    fn a_database_that_cannot_be_read_is_an_error() {
        let directory = std::env::temp_dir();
        assert!(look_up_in(&directory, "https").is_err());
    }

    #[test]
    fn every_built_in_line_is_an_entry() {
        assert_eq!(
            BUILT_IN.lines().filter_map(entry).count(),
            BUILT_IN.lines().count()
        );
    }

    #[test]
    fn the_system_knows_http() {
        assert_eq!(look_up("http").unwrap(), Some(80));
    }
}
