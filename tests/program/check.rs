//! `portcullis check`: all problems at once, with exit codes.

use crate::{
    configurations::ocsp_response,
    gate::{Authority, Folder, program},
};
use std::{process::Output, time::Duration};
use tokio::{process::Command, time::timeout};

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
async fn a_path_that_is_no_regular_file_is_reported_and_never_waited_for() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let (chain, key) = authority.sign(&["shop.example"]);
    folder.write("shop.pem", chain);
    folder.write("shop.key", key);
    for roots in ["ca.pem", "backend-ca.pem", "health-ca.pem"] {
        folder.write(roots, authority.pem());
    }
    folder.write("ca.crl", authority.revoke_none());
    folder.write("shop.ocsp", ocsp_response());
    folder.write("tickets", [7; 48]);
    folder.write("token", "a-token-of-some-length");
    for empty in ["allow.txt", "deny.txt", "trust.txt", "more.toml"] {
        folder.write(empty, "");
    }
    let text = r#"version = 1
include = "more.toml"
admin = { listen = "127.0.0.1:0", token-file = "token" }
[[certificate]]
name = "shop"
chain = "shop.pem"
key = "shop.key"
ocsp = "shop.ocsp"
[[listener]]
name = "a"
listen = "127.0.0.1:0"
backend = "b"
access = { allow-file = "allow.txt", deny-file = "deny.txt" }
proxy-protocol.trust-file = "trust.txt"
[listener.tls]
certificates = "shop"
client = { roots = "ca.pem", crl = "ca.crl" }
tickets.keys-file = "tickets"
[[backend]]
name = "b"
servers = "127.0.0.1:1"
tls = { name = "b", roots = "backend-ca.pem" }
health.tls = { name = "b", roots = "health-ca.pem" }
"#;
    let fifo = folder.path("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().await;
    assert!(made.expect("it runs").success());
    let right = check(&folder.write("gate.toml", text)).await;
    assert_eq!(right.status.code(), Some(0), "{}", self::text(&right));
    let (fifo, here) = (
        fifo.display().to_string(),
        folder.path("").display().to_string(),
    );
    let names = [
        "more.toml",
        "token",
        "shop.pem",
        "shop.key",
        "shop.ocsp",
        "allow.txt",
        "deny.txt",
        "trust.txt",
        "ca.pem",
        "ca.crl",
        "tickets",
        "backend-ca.pem",
        "health-ca.pem",
    ];
    for path in [&*fifo, &here, "/dev/zero"] {
        for name in names {
            let named = format!("\"{name}\"");
            assert!(text.contains(&named));
            let text = text.replace(&named, &format!("\"{path}\""));
            let file = folder.write("gate.toml", text);
            let output = timeout(PATIENCE, check(&file)).await.expect("it ends");
            assert_eq!(output.status.code(), Some(2), "{name} is {path}");
            let text = self::text(&output);
            let is_it =
                |line: &str| line.contains(path) && line.contains("this is not a regular file");
            assert!(text.lines().any(is_it), "{name} is {path}: {text}");
        }
        let output = timeout(PATIENCE, check(path.as_ref()))
            .await
            .expect("it ends");
        assert_eq!(output.status.code(), Some(2), "{path}");
        assert!(self::text(&output).contains("this is not a regular file"));
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

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
    let message = format!(
        "{}:5:7: certificate \"shop\": private key in {:?} does not belong to the certificate: the first certificate \
         of the chain must be the server's own, and the key must be the one that it was issued for",
        file.display(),
        folder.path("shop.key")
    );
    assert_eq!(text.lines().next(), Some(&*message));
    let secret = key.lines().nth(1).expect("the body of the key");
    assert!(!text.contains(secret), "{text}");
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_reported_ahead() {
    let folder = Folder::new();
    let authority = Authority::new();
    let mut params = rcgen::CertificateParams::new(["shop.example".to_owned()]).expect("a name");
    let end = std::time::SystemTime::now() + Duration::from_secs(3 * 86_400 + 1_800);
    params.not_after = end.into();
    let (chain, key) = authority.sign_params(params);
    folder.write("shop.pem", chain);
    folder.write("shop.key", key);
    let certificate =
        "[[certificate]]\nname = \"shop\"\nchain = \"shop.pem\"\nkey = \"shop.key\"\n";
    let listener = "[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n";
    let backend = "[[backend]]\nname = \"b\"\nservers = \"127.0.0.1:1\"\n";
    let tls = "tls.certificates = \"shop\"\n";
    let admin = format!("[admin]\nlisten = \"127.0.0.1:0\"\n{tls}");
    // Whichever shows it.
    let texts = [
        format!("{certificate}{listener}{tls}{backend}"),
        format!("{certificate}{admin}{listener}{backend}"),
        // To servers, whose name is not resolved.
        format!(
            "{certificate}{listener}{}",
            backend.replace("127.0.0.1", "localhost")
        ) + "tls = { roots = \"ca.pem\", certificate = \"shop\" }\n",
    ];
    folder.write("ca.pem", authority.pem());
    for (text, (at, code)) in texts
        .iter()
        .flat_map(|text| [(text, ("now+2d", 0)), (text, ("now+4d", 2))])
    {
        let file = folder.write("gate.toml", format!("version = 1\n{text}"));
        let path = file.to_str().expect("it is UTF-8");
        let output = program(["check", "--config", path, "--at", at])
            .output()
            .await;
        let output = output.expect("the program runs");
        let text = self::text(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        let message = "gate.toml:4:9: certificate \"shop\": it ends in 3 days and 0 hours";
        assert_eq!(text.contains(message), code == 2, "{text}");
    }
    let path = folder.path("gate.toml");
    let path = path.to_str().expect("it is UTF-8");
    let output = program(["check", "--config", path, "--at", "tomorrow"])
        .output()
        .await;
    assert_eq!(output.expect("it runs").status.code(), Some(2));
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_reported_at_its_chain() {
    let folder = Folder::new();
    let mut params = rcgen::CertificateParams::new(["shop.example".to_owned()]).expect("a name");
    let end = std::time::SystemTime::now() - Duration::from_secs(3 * 86_400 + 1_800);
    params.not_after = end.into();
    let (chain, key) = Authority::new().sign_params(params);
    folder.write("shop.pem", chain);
    folder.write("shop.key", key);
    let file = folder.write(
        "gate.toml",
        "version = 1\n[[certificate]]\nname = \"shop\"\nchain = \"shop.pem\"\nkey = \"shop.key\"\n\
         [[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\ntls.certificates = \"shop\"\n\
         [[backend]]\nname = \"b\"\nservers = \"127.0.0.1:1\"\n",
    );
    let output = check(&file).await;
    let text = text(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    let message = format!(
        "{}:4:9: certificate \"shop\": certificate in {:?} expired 3 days ago: renew it",
        file.display(),
        folder.path("shop.pem")
    );
    assert_eq!(text.lines().next(), Some(&*message));
}

#[tokio::test]
async fn routes_on_a_port_where_clients_wait_for_the_server_are_noted() {
    let folder = Folder::new();
    let file = folder.write(
        "gate.toml",
        "version = 1\n[[listener]]\nname = \"a\"\nlisten = [\"127.0.0.1:3306\", \"127.0.0.1:3307\"]\n\
         limits.connections = 10\n[[listener.route]]\nnames = \"shop.example\"\npass = true\nbackend = \"b\"\n\
         [[backend]]\nname = \"b\"\nservers = \"127.0.0.1:1\"\n",
    );
    let output = check(&file).await;
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let message = format!(
        "{}:4:11: note: listener \"a\": clients on port 3306 (MySQL) wait for the server's greeting, so with routes \
         they reach `timeouts.client-hello`",
        file.display()
    );
    let notes: Vec<_> = text.lines().filter(|line| line.contains("note")).collect();
    assert_eq!(notes, [message]);
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
