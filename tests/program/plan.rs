//! `portcullis plan`: what a reload would do, with exit codes.

use crate::gate::{Folder, program};
use std::{path::Path, process::Output};

const OLD: &str = "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:7007\"\nbackend = \"b\"\n\
                   [[backend]]\nname = \"b\"\nservers = \"127.0.0.1:1\"\n";

async fn plan(old: &Path, new: &Path) -> (Option<i32>, String) {
    let [old, new] = [old, new].map(|path| path.to_str().expect("it is UTF-8"));
    let mut command = program(["plan", "--config", new, "--old", old]);
    let output: Output = command.output().await.expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text)
}

#[tokio::test]
async fn two_files_are_compared_without_a_running_process() {
    let folder = Folder::new();
    let old = folder.write("old.toml", OLD);
    let (code, text) = plan(&old, &old).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("nothing to do"), "{text}");

    let new = OLD.replace("version = 1", "version = 1\n[log]\nformat = \"json\"");
    let new = folder.write("new.toml", new.replace("127.0.0.1:1\"", "127.0.0.1:2\""));
    let (code, text) = plan(&old, &new).await;
    assert_eq!(code, Some(10), "{text}");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 3, "{text}");
    assert!(lines[1].starts_with("log.format "), "{text}");
    assert!(lines[1].contains(" immediately "), "{text}");
    assert!(
        lines[2].starts_with("backend \"b\": server 127.0.0.1:1 "),
        "{text}"
    );
}

#[tokio::test]
async fn problems_of_either_file_come_instead_of_a_plan() {
    let folder = Folder::new();
    let old = folder.write("old.toml", OLD);
    let new = folder.write(
        "new.toml",
        OLD.replace("backend = \"b\"", "backend = \"c\""),
    );
    for (old, new) in [(&old, &new), (&new, &old)] {
        let (code, text) = plan(old, new).await;
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("there is no backend \"c\""), "{text}");
    }
}

#[tokio::test]
async fn without_an_admin_interface_it_says_how_to_compare_two_files() {
    let folder = Folder::new();
    let file = folder.write("new.toml", OLD);
    let file = file.to_str().expect("it is UTF-8");
    let output = { program(["plan", "--config", file]) }.output().await;
    let output = output.expect("the program runs");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!(
            "portcullis: {file}: there is no [admin] section; write --admin with its address; \
             or compare two files with --old\n"
        )
    );
}
