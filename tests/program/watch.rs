//! Configuration files that are watched, threads, and settings that a reload changes.

use crate::gate::{Folder, Gate, backend, line};
use std::{os::unix::fs::symlink, time::Duration};
use tokio::net::TcpStream;

fn configuration(process: &str, server: &str) -> String {
    format!(
        "version = 1\n[process]\n{process}\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\n\
         backend = \"b\"\n[[backend]]\nname = \"b\"\nservers = \"{server}\"\n"
    )
}

async fn assert_greets(gate: &Gate, name: &str) {
    let mut client = gate.connect().await;
    assert_eq!(line(&mut client).await.expect("the greeting"), name);
}

#[tokio::test]
async fn a_changed_file_is_reloaded_without_a_signal() {
    let folder = Folder::new();
    let (one, two) = (backend("one").await, backend("two").await);
    let text = |server: &dyn ToString| configuration("watch = true", &server.to_string());
    let file = folder.write("gate.toml", text(&one));
    let mut gate = Gate::run(&file, 1).await;
    assert_greets(&gate, "one").await;

    folder.write("gate.toml", text(&two));
    gate.child.says("was reloaded").await;
    assert_greets(&gate, "two").await;

    folder.write("gate.toml", text(&one).replace("backend =", "bakend ="));
    gate.child.says("the old one stays in use").await;
    // As editors do it.
    let new = folder.write("gate.toml.new", text(&one));
    std::fs::rename(new, &file).expect("the folder is writable");
    gate.child.says("was reloaded").await;
    assert_greets(&gate, "one").await;
}

#[tokio::test]
async fn other_files_that_change_all_the_time_delay_no_reload_for_long() {
    let folder = Folder::new();
    let (one, two) = (backend("one").await, backend("two").await);
    let text = |server: &dyn ToString| configuration("watch = true", &server.to_string());
    let file = folder.write("gate.toml", text(&one));
    let mut gate = Gate::run(&file, 1).await;
    let (log, moved) = (folder.path("access.log"), folder.path("moved.log"));
    let noise = tokio::spawn(async move {
        while std::fs::write(&log, "a line\n").is_ok() {
            std::fs::rename(&log, &moved).expect("it was written");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    folder.write("gate.toml", text(&two));
    gate.child.says("was reloaded").await;
    assert_greets(&gate, "two").await;
    noise.abort();
}

#[tokio::test]
async fn the_link_of_a_config_map_that_is_swapped_is_a_change() {
    let folder = Folder::new();
    let (one, two) = (backend("one").await, backend("two").await);
    for (version, server) in [("..1", one), ("..2", two)] {
        let path = folder.path(version);
        std::fs::create_dir(&path).expect("the folder is writable");
        let text = configuration("watch = true", &server.to_string());
        std::fs::write(path.join("gate.toml"), text).expect("the folder is writable");
    }
    symlink("..1", folder.path("..data")).expect("a link");
    symlink("..data/gate.toml", folder.path("gate.toml")).expect("a link");
    let mut gate = Gate::run(&folder.path("gate.toml"), 1).await;
    assert_greets(&gate, "one").await;

    symlink("..2", folder.path("..data_tmp")).expect("a link");
    std::fs::rename(folder.path("..data_tmp"), folder.path("..data")).expect("it is replaced");
    gate.child.says("was reloaded").await;
    assert_greets(&gate, "two").await;
}

#[tokio::test]
async fn an_included_file_is_watched_too() {
    let folder = Folder::new();
    let (one, two) = (backend("one").await, backend("two").await);
    std::fs::create_dir(folder.path("conf.d")).expect("the folder is writable");
    let main = "version = 1\ninclude = \"conf.d/*.toml\"\n[process]\nwatch = true\n";
    let file = folder.write("gate.toml", main);
    let part = |server: &dyn ToString| {
        let text = configuration("", &server.to_string());
        text.replace("version = 1\n[process]\n", "")
    };
    folder.write("conf.d/a.toml", part(&one));
    let mut gate = Gate::run(&file, 1).await;
    assert_greets(&gate, "one").await;
    folder.write("conf.d/a.toml", part(&two));
    gate.child.says("was reloaded").await;
    assert_greets(&gate, "two").await;
}

#[tokio::test]
async fn a_list_of_networks_is_watched_too() {
    let folder = Folder::new();
    let text = configuration("watch = true", &backend("one").await.to_string());
    let listed = "backend = \"b\"\naccess.deny-file = \"lists/deny.txt\"\n[[backend]]";
    let text = text.replace("backend = \"b\"\n[[backend]]", listed);
    std::fs::create_dir(folder.path("lists")).expect("the folder is writable");
    folder.write("lists/deny.txt", "192.0.2.0/24\n");
    let mut gate = Gate::run(&folder.write("gate.toml", text), 1).await;
    assert_greets(&gate, "one").await;

    folder.write("lists/deny.txt", "192.0.2.0/24\n127.0.0.1\n");
    gate.child.says("was reloaded").await;
    let mut denied = gate.connect().await;
    assert!(line(&mut denied).await.is_err());

    folder.write("lists/deny.txt", "not a network\n");
    let why = gate.child.says("deny.txt:1: this is not a network").await;
    assert!(why.contains("gate.toml:8:"), "{why}");
    folder.write("lists/deny.txt", "");
    gate.child.says("was reloaded").await;
    assert_greets(&gate, "one").await;
}

#[tokio::test]
async fn each_kind_of_workers_serves() {
    let folder = Folder::new();
    let server = backend("one").await.to_string();
    for workers in ["\"shared\"", "\"per-core\"", "3"] {
        let text = configuration(&format!("workers = {workers}"), &server);
        let mut gate = Gate::run(&folder.write("gate.toml", text), 1).await;
        for _ in 0..8 {
            assert_greets(&gate, "one").await;
        }
        gate.child.signal("TERM").await;
        let ended = gate.child.ended_within(PATIENCE).await;
        assert_eq!(ended.code(), Some(0), "{workers}");
    }
}

#[tokio::test]
async fn the_sockets_of_all_cores_go_to_the_new_process() {
    let folder = Folder::new();
    let process = "workers = \"per-core\"\nupgrade-socket = \"upgrade\"";
    let text = configuration(process, &backend("one").await.to_string());
    let file = folder.write("gate.toml", &text);
    let mut old = Gate::run(&file, 1).await;
    old.child.says("ready for an upgrade").await;
    let mut new = Gate::run(&file, 1).await;
    assert_eq!(new.addresses, old.addresses);
    new.child.says("ready for an upgrade").await;
    assert_eq!(old.child.ended_within(PATIENCE).await.code(), Some(0));
    for _ in 0..8 {
        assert_greets(&new, "one").await;
    }
    // A shared process takes the sockets of all cores.
    folder.write("gate.toml", text.replace("per-core", "shared"));
    let shared = Gate::run(&file, 1).await;
    assert_eq!(new.child.ended_within(PATIENCE).await.code(), Some(0));
    for _ in 0..8 {
        assert_greets(&shared, "one").await;
    }
}

#[tokio::test]
async fn a_reload_changes_the_deadline_of_the_shutdown() {
    let folder = Folder::new();
    let server = backend("one").await.to_string();
    let text = |deadline: &str| {
        let drain = format!("[drain]\ndeadline = \"{deadline}\"\n[[listener]]");
        configuration("", &server).replacen("[[listener]]", &drain, 1)
    };
    let file = folder.write("gate.toml", text("1h"));
    let mut gate = Gate::run(&file, 1).await;
    let client: TcpStream = gate.connect().await;
    folder.write("gate.toml", text("100ms"));
    gate.child.signal("HUP").await;
    gate.child.says("was reloaded").await;
    gate.child.signal("TERM").await;
    assert_eq!(gate.child.ended_within(PATIENCE).await.code(), Some(3));
    drop(client);
}

const PATIENCE: Duration = Duration::from_secs(30);
