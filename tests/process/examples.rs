//! Each example starts, tells its address, takes a connection, and ends when it is asked to.
//!
//! It is generic: an example that is added is tested, without a line here. `cargo test` builds them;
//! with `--test process` alone, `cargo build --examples` must have.

use crate::support::{
    child::{Child, address_in},
    echoed, scenario,
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{io::AsyncWriteExt, net::TcpStream, process::Command};

#[test]
fn each_example_tells_its_address_takes_a_connection_and_ends_on_sigterm() {
    scenario(async {
        let examples = examples();
        assert!(!examples.is_empty(), "no example at all");
        for name in examples {
            let program = program(&name);
            if program.exists() {
                run(&name, &program).await;
            } else if cfg!(feature = "tls") {
                panic!("{name} is not built: cargo build --examples --all-features");
            } else {
                eprintln!("{name}: not built, it may need a feature");
            }
        }
    });
}

async fn run(name: &str, program: &Path) {
    eprintln!("{name}");
    let mut command = Command::new(program);
    command.arg("127.0.0.1:0");
    if ["forward", "gate"].contains(&name) {
        command.arg("127.0.0.1:9"); // a server, which need not be there
    }
    let mut example = Child::start(command).unwrap();
    let line = example.line().await;
    let address = address_in(&line);
    let address = address.unwrap_or_else(|| panic!("{name}: no address in {line:?}"));

    let mut client = TcpStream::connect(address).await.unwrap();
    if name == "echo" {
        assert!(echoed(&mut client, b"what you type").await.unwrap());
    }
    client.shutdown().await.unwrap();
    drop(client);
    // It is still there after one that said nothing.
    drop(TcpStream::connect(address).await.unwrap());

    // The kernel takes clients before the server runs.
    example.handles_sigterm().await;
    example.signal("TERM").await;
    let status = example.ended_within(Duration::from_secs(2)).await;
    assert!(status.success(), "{name}: {status}: {:#?}", example.log());
}

/// The names of the examples: files, and directories with a `main.rs`.
fn examples() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "rs") || path.join("main.rs").exists())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// Where cargo puts the example called `name`: beside the directory of the test binaries.
fn program(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    profile.join("examples").join(name)
}
