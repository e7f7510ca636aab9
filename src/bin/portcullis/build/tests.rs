//! What building starts.

use super::{Before, backend, build};
use crate::config::{Config, Problems, Source};
use std::fs;
use tokio::runtime::Handle;

#[tokio::test]
async fn what_is_built_checks_no_server_resolves_no_name_and_watches_no_file_until_it_is_used() {
    let folder = std::env::temp_dir().join(format!("portcullis-build-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let names = vec!["shop.example".to_owned()];
    let signed = rcgen::generate_simple_self_signed(names).expect("a certificate");
    fs::write(folder.join("shop.pem"), signed.cert.pem()).expect("the folder is writable");
    let key = signed.signing_key.serialize_pem();
    fs::write(folder.join("shop.key"), key).expect("the folder is writable");
    let text = r#"version = 1
[[certificate]]
name = "shop"
chain = "shop.pem"
key = "shop.key"
[[listener]]
name = "a"
listen = "127.0.0.1:0"
backend = "b"
tls = { certificates = "shop", client.roots = "shop.pem" }
[[backend]]
name = "b"
servers = ["127.0.0.1:1", "localhost:1"]
tls = { name = "b", roots = "shop.pem", certificate = "shop" }
health.tls = { name = "b", roots = "shop.pem", certificate = "shop" }
"#;
    let mut problems = Problems::default();
    let config = Config::parse(&Source::new(folder.join("gate.toml"), text), &mut problems);
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let mut parts = build(&config, &Before::default(), &mut problems);
    assert_eq!(problems.errors(), 0, "{:?}", problems.sorted());
    let pool = parts.pools["b"].clone();
    assert_eq!((tasks(), pool.servers().len()), (0, 0));
    // For a file alone: one server has a name, which is not resolved.
    let mut listed = build(&config, &Before::default(), &mut problems);
    listed.list_servers(&config);
    assert_eq!((tasks(), listed.pools["b"].servers().len()), (0, 1));
    drop(listed);
    // A name is resolved, a server is checked, and the files of its certificate are watched.
    parts.start_pools();
    let to_servers = tasks();
    assert!(to_servers >= 3, "{to_servers}");
    assert_eq!(pool.servers().len(), 1);
    let _watches = parts.gates["a"].watch();
    assert!(tasks() > to_servers);
    fs::remove_dir_all(&folder).expect("it is there");
}

#[test]
fn a_server_that_hangs_leaves_time_for_another() {
    for (key, attempt, all) in [
        ("", "3s", "10s"),
        ("connect-timeout = \"12s\"", "12s", "24s"),
    ] {
        let text = format!(
            r#"version = 1
[[listener]]
name = "a"
listen = "127.0.0.1:0"
backend = "b"
[[backend]]
name = "b"
servers = "127.0.0.1:1"
{key}
"#
        );
        let mut problems = Problems::default();
        let config = Config::parse(&Source::new("gate.toml", text), &mut problems);
        let settings = backend::settings(&config.backends[0], &[], &mut problems);
        let pool = format!("{:?}", settings.expect("it is valid").watched());
        let timeouts = format!("attempt_timeout: {attempt}, timeout: {all},");
        assert!(pool.contains(&timeouts), "{pool}");
    }
}
