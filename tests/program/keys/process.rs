//! `version`, `[process]` and `[drain]`.

use super::{PATIENCE, Running, configuration};
use crate::gate::{Folder, backend, program};
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn a_file_of_another_version_is_rejected() {
    let folder = Folder::new();
    let text = configuration("", &[""], "servers = \"127.0.0.1:1\"");
    for (version, code) in [("version = 1", 0), ("version = 2", 2), ("", 2)] {
        let file = folder.write("gate.toml", text.replace("version = 1", version));
        let file = file.to_str().expect("it is UTF-8");
        let output = program(["check", "--config", file]).output().await;
        let output = output.expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{version}: {text}");
        assert_eq!(text.contains("version"), code == 2, "{text}");
    }
}

#[tokio::test]
async fn connections_are_accepted_while_the_shutdown_is_announced() {
    let keys = format!("servers = \"{}\"", backend("one").await);
    let whole = "[drain]\nannounce = \"1s\"";
    let mut running = Running::in_folder(Folder::new(), whole, &[""], &keys).await;
    running.child.handles_sigterm().await;
    let begun = Instant::now();
    running.child.signal("TERM").await;
    running.says("a second signal force-closes").await;
    drop(running.greeted().await);
    let ended = running.child.ended_within(PATIENCE).await;
    assert_eq!(ended.code(), Some(0));
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_number_of_workers_is_that_of_the_threads() {
    let server = backend("one").await;
    let mut threads = Vec::new();
    for workers in [3, 7] {
        let whole = format!("[process]\nworkers = {workers}");
        let backend = format!("servers = \"{server}\"");
        let running = Running::in_folder(Folder::new(), &whole, &[""], &backend).await;
        let tasks = std::fs::read_dir(format!("/proc/{}/task", running.child.id()));
        threads.push(tasks.expect("it runs").count());
    }
    // Beside them are as many others in each process.
    assert_eq!(threads[1] - threads[0], 4, "{threads:?}");
}
