//! The limit of file descriptors.

#![cfg(target_os = "linux")]

use crate::{
    gate::{Folder, Gate, backend, line, program},
    support::child::Child,
};
use std::fs;
use tokio::process::Command;

/// The soft and the hard limit of a process.
fn limits(child: &Child) -> [u64; 2] {
    let text = fs::read_to_string(format!("/proc/{}/limits", child.id())).expect("it runs");
    let row = text.lines().find(|line| line.starts_with("Max open files"));
    let mut numbers = row.expect("a row").split_whitespace().skip(3);
    [(); 2].map(|()| {
        let number = numbers.next().expect("a number");
        number.parse().expect("a number")
    })
}

#[tokio::test]
async fn the_soft_limit_is_raised_to_the_hard_one() {
    let folder = Folder::new();
    let text = format!(
        "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
         limits.connections = 100\n[[backend]]\nname = \"b\"\nservers = \"{}\"\n",
        backend("one").await
    );
    let file = folder.write("gate.toml", text);
    let run = program(["run", "--config", file.to_str().expect("it is UTF-8")]);
    let run = run.as_std();
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -Sn 64; ulimit -Hn 600; exec \"$0\" \"$@\""]);
    shell.arg(run.get_program()).args(run.get_args());
    let gate = Gate::start(shell, 1).await;
    assert_eq!(limits(&gate.child), [600, 600]);
    // More than 64 descriptors.
    let mut held = Vec::new();
    for _ in 0..60 {
        let mut client = gate.connect().await;
        assert_eq!(line(&mut client).await.expect("a greeting"), "one");
        held.push(client);
    }
}
