//! `portcullis check`: all problems at once, with exit codes.

use crate::gate::{Authority, Folder, program};
use std::process::Output;

async fn check(configuration: &std::path::Path) -> Output {
    let path = configuration.to_str().expect("it is UTF-8");
    let output = program(["check", "--config", path]).output().await;
    output.expect("the program runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_file_with_twelve_mistakes_reports_twelve() {
    let folder = Folder::new();
    let file = folder.write(
        "gate.toml",
        r#"version = 1
[drain]
deadline = "half a minute"
[log]
level = "loud"
[[listener]]
name = "shop"
listen = ":443"
bakend = "shop"
[[listener]]
name = "db"
listen = "0.0.0.0:5432"
prelude = "postgres"
backend = "shpo"
access = { allow = ["192.0.2.7/24"] }
proxy-protocol = { mode = "required" }
limits = { connections = 0 }
[[backend]]
name = "shop"
servers = ["nope"]
health = { interval = "1ms" }
balance = "random"
"#,
    );
    let output = check(&file).await;
    let text = text(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.ends_with(": 12 errors\n"), "{text}");
    let places = text.lines().filter(|line| line.contains("gate.toml:"));
    assert_eq!(places.count(), 12 + 1, "{text}");
}

#[tokio::test]
async fn a_certificate_that_does_not_match_its_key_is_reported_at_its_file_without_the_key() {
    let folder = Folder::new();
    let authority = Authority::new();
    let (chain, _) = authority.sign(&["shop.example"]);
    let (_, key) = authority.sign(&["shop.example"]);
    folder.write("shop.pem", chain);
    folder.write("shop.key", &key);
    let file = folder.write(
        "gate.toml",
        "version = 1\n[[certificate]]\nname = \"shop\"\nchain = \"shop.pem\"\nkey = \"shop.key\"\n\
         [[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\ntls.certificates = \"shop\"\n\
         [[backend]]\nname = \"b\"\nservers = \"127.0.0.1:1\"\n",
    );
    let output = check(&file).await;
    let text = text(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    let problem = text.lines().next().expect("a line");
    assert!(
        problem.contains("gate.toml:5:7: certificate \"shop\": "),
        "{text}"
    );
    assert!(problem.contains("shop.key"), "{text}");
    let secret = key.lines().nth(1).expect("the body of the key");
    assert!(!text.contains(secret), "{text}");
}

#[tokio::test]
async fn a_file_that_is_missing_is_a_problem_of_its_own() {
    let folder = Folder::new();
    let output = check(&folder.path("none.toml")).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("none.toml:1:1: cannot be read: "));
}

#[tokio::test]
async fn an_unknown_command_fails_like_a_wrong_configuration() {
    let output = program(["frobnicate"]).output().await.expect("it runs");
    assert_eq!(output.status.code(), Some(2));
}
