//! What commands print when the output takes nothing.

use crate::gate::{Folder, program};
use std::process::{Output, Stdio};
use tokio::process::Command;

const GATE: &str = "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
                    [[backend]]\nname = \"b\"\nservers = \"127.0.0.1:1\"\n";

async fn run(mut command: Command, stdout: impl Into<Stdio>) -> Output {
    let command = command.stdout(stdout).stderr(Stdio::piped());
    let child = command.spawn().expect("it starts");
    child.wait_with_output().await.expect("it ends")
}

/// The arguments of each command that prints something and ends, and its exit code.
fn commands(folder: &Folder) -> Vec<(Vec<String>, i32)> {
    let path = |name: &str, text: String| {
        let path = folder.write(name, text);
        path.to_str().expect("it is UTF-8").to_owned()
    };
    let good = path("good.toml", GATE.into());
    let wrong = path(
        "wrong.toml",
        GATE.replace("backend = \"b\"", "backend = \"c\""),
    );
    let other = path("other.toml", GATE.replace("127.0.0.1:1", "127.0.0.1:2"));
    let commands = [
        (format!("check --config {good}"), 0),
        (format!("check --config {wrong}"), 2),
        ("demo --print".into(), 0),
        (format!("plan --config {other} --old {good}"), 10),
        (format!("plan --config {good} --old {good}"), 0),
        (
            format!("explain --config {good} --listener a --from 192.0.2.1"),
            0,
        ),
        ("--help".into(), 0),
        ("--version".into(), 0),
    ];
    let split = |(line, code): (String, i32)| {
        let words = line.split(' ').map(str::to_owned).collect();
        (words, code)
    };
    commands.into_iter().map(split).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_one_line_and_the_exit_code_one() {
    use crate::gate::{Gate, backend};
    use std::fs::File;

    let folder = Folder::new();
    let mut commands = commands(&folder);
    // Those of a running program.
    let server = backend("one").await.to_string();
    let text = GATE.replace("127.0.0.1:1\"", &format!("{server}\""));
    let text = format!("{text}[admin]\nlisten = \"unix:admin.sock\"\n");
    let mut gate = Gate::run(&folder.write("gate.toml", text), 1).await;
    gate.child.says("admin interface on unix:").await;
    let admin = folder.path("admin.sock").display().to_string();
    for words in [&["status"][..], &["status", "--json"], &["connections"]] {
        let all = [&["ctl", "--admin", &admin], words].concat();
        commands.push((all.into_iter().map(str::to_owned).collect(), 0));
    }
    commands.push((vec!["echo".into(), "127.0.0.1:0".into()], 0));
    commands.push((vec!["demo".into()], 0));
    for (arguments, _) in commands {
        let full = File::options().write(true).open("/dev/full");
        let command = program(arguments.iter().map(String::as_str));
        let output = run(command, full.expect("it is there")).await;
        let error = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        assert_eq!(code, Some(1), "{arguments:?}: {error}");
        let lines = error.lines().filter(|it| !it.contains("is compared with"));
        let lines: Vec<_> = lines.collect();
        let expected = "portcullis: the standard output cannot be written: No space left on device (os error 28)";
        assert_eq!(lines, [expected], "{arguments:?}");
    }
}

#[tokio::test]
async fn a_reader_that_is_gone_is_no_error() {
    let folder = Folder::new();
    for (arguments, code) in commands(&folder) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = run(program(arguments.iter().map(String::as_str)), writer).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(!error.contains("output"), "{arguments:?}: {error}");
    }
}
