//! `portcullis ctl`, as a process.

use super::{Administered, TOKEN, forward_to};
use crate::gate::{backend, program};
use std::process::Output;

impl Administered {
    async fn ctl(&self, arguments: &[&str]) -> Output {
        let admin = format!("http://{}", self.admin);
        let mut command = program(["ctl", "--admin", &admin]);
        command.args(arguments).env("PORTCULLIS_TOKEN", TOKEN);
        command.output().await.expect("it starts")
    }
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

#[tokio::test]
async fn ctl_asks_and_changes_with_the_token_of_the_environment_or_a_file() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let ready = running.ctl(&["ready"]).await;
    assert_eq!(
        (ready.status.code(), text(&ready.stdout)),
        (Some(0), "ready\n".into())
    );
    let reload = running.ctl(&["reload"]).await;
    assert_eq!(
        (reload.status.code(), text(&reload.stdout)),
        (Some(0), "reloaded\n".into())
    );

    let wrong = running.folder.write("wrong", "x".repeat(20));
    let wrong = running
        .ctl(&["reload", "--token-file", wrong.to_str().expect("UTF-8")])
        .await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        text(&wrong.stderr).contains("the token is wrong"),
        "{}",
        text(&wrong.stderr)
    );
}

#[tokio::test]
async fn ctl_says_what_is_missing() {
    let none = program(["ctl", "status", "--config", "/nowhere.toml"]);
    let none = { none }.output().await.expect("it starts");
    assert_eq!(none.status.code(), Some(2));
    assert!(
        text(&none.stderr).contains("write --admin"),
        "{}",
        text(&none.stderr)
    );
    let nobody = program(["ctl", "status", "--admin", "127.0.0.1:1"]);
    let nobody = { nobody }.output().await.expect("it starts");
    assert_eq!(nobody.status.code(), Some(1));
    assert!(
        text(&nobody.stderr).contains("http://127.0.0.1:1: "),
        "{}",
        text(&nobody.stderr)
    );
}
