//! `portcullis check`: all problems at once, with exit codes.

use crate::{
    configurations::ocsp_response,
    gate::{Authority, Folder, program},
};
use std::{
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

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

const GATE: &str = "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
                    [[backend]]\nname = \"b\"\nservers = \"127.0.0.1:1\"\n";

#[tokio::test]
async fn the_standard_input_and_a_file_without_its_option_are_checked() {
    let folder = Folder::new();
    folder.write("networks", "192.0.2.0/24\n");
    let relative = GATE.replace(
        "backend = \"b\"\n",
        "backend = \"b\"\naccess.allow-file = \"networks\"\n",
    );
    let wrong = GATE.replace("backend = ", "bakend = ");
    for arguments in [
        &["check", "-"][..],
        &["check", "-c", "-"],
        &["check", "/dev/stdin"],
        &["check", "-c", "/dev/stdin"],
    ] {
        let run = async |text: &str| {
            let mut command = program(arguments.iter().copied());
            command.current_dir(folder.path(""));
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().expect("it starts");
            let mut stdin = child.stdin.take().expect("a pipe");
            // It may end before it has read all.
            let _ = stdin.write_all(text.as_bytes()).await;
            drop(stdin);
            let output = timeout(PATIENCE, child.wait_with_output()).await;
            output.expect("it ends").expect("it runs")
        };
        let right = run(&relative).await;
        let code = right.status.code();
        assert_eq!(code, Some(0), "{arguments:?}: {}", text(&right));
        let wrong = run(&wrong).await;
        assert_eq!(wrong.status.code(), Some(2), "{arguments:?}");
        let found = text(&wrong);
        assert!(found.starts_with("-:5:1: unknown key `bakend`"), "{found}");
        let large = run(&"#".repeat(64 * 1024 * 1024 + 1)).await;
        let found = text(&large);
        assert!(found.contains("is larger than 64 MiB"), "{found}");
    }
    let file = folder.write("gate.toml", GATE);
    let file = file.to_str().expect("it is UTF-8");
    let output = program(["check", file]).output().await.expect("it runs");
    let expected = format!("{file}: usable; 1 listener, 1 backend\n");
    // Behind a note, where few file descriptors are allowed.
    assert!(text(&output).ends_with(&expected), "{}", text(&output));
    let both = program(["check", file, "-c", file]).output().await;
    assert_eq!(both.expect("it runs").status.code(), Some(2));
}

#[tokio::test]
async fn a_log_file_that_cannot_be_opened_is_reported_and_not_created() {
    let folder = Folder::new();
    folder.write("file", "");
    let log = |path: &str| {
        GATE.replace(
            "[[listener]]",
            &format!("[log]\naccess = \"{path}\"\n[[listener]]"),
        )
    };
    for (path, error) in [
        (
            "./missing/access.log",
            "No such file or directory (os error 2)",
        ),
        ("./file/access.log", "Not a directory (os error 20)"),
        (".", "access lines need a file here"),
    ] {
        let file = folder.write("gate.toml", log(path));
        let path = folder.path(path).display().to_string();
        let message = format!(
            "{}:3:10: log.access cannot be opened: {path}: {error}",
            file.display()
        );
        let output = check(&file).await;
        assert_eq!(output.status.code(), Some(2), "{path}");
        assert_eq!(text(&output).lines().next(), Some(&*message));
        let run = program(["run", "--config", file.to_str().expect("it is UTF-8")]);
        let output = { run }.output().await.expect("it starts");
        assert_eq!(output.status.code(), Some(2), "{path}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(error.trim_end(), message);
    }
    for path in ["./access.log", "./file", "/dev/null"] {
        let output = check(&folder.write("gate.toml", log(path))).await;
        assert_eq!(output.status.code(), Some(0), "{path}: {}", text(&output));
    }
    assert!(!folder.path("access.log").exists(), "it was created");
}

#[tokio::test]
async fn what_is_defined_twice_names_the_other_file() {
    let folder = Folder::new();
    let more = GATE.replace("version = 1\n", "");
    let other = folder.write("more.toml", more);
    let main = GATE.replace("version = 1", "version = 1\ninclude = \"more.toml\"");
    let file = folder.write("gate.toml", main.replace("127.0.0.1:0", "127.0.0.1:7007"));
    let output = check(&file).await;
    let found = text(&output);
    let file = file.display();
    let other = other.display();
    for (place, kind, first) in [("2", "listener \"a\"", 4), ("6", "backend \"b\"", 8)] {
        let message = format!(
            "{other}:{place}:8: {kind} is defined twice; the other one is in {file}:{first}"
        );
        assert!(
            found.lines().any(|line| line == message),
            "{message} in {found}"
        );
    }
}

#[tokio::test]
async fn a_name_with_two_routes_is_reported_once() {
    let folder = Folder::new();
    let routes = "route = [{ names = [\"A.TEST\", \"a.test\"], pass = true, backend = \"b\" }]\n";
    let file = folder.write("gate.toml", GATE.replacen("backend = \"b\"\n", routes, 1));
    let output = check(&file).await;
    let found = text(&output);
    let file = file.display();
    let message = format!("{file}:5:31: listener \"a\": \"a.test\" has a route already (line 5)");
    assert_eq!(found, format!("{message}\n{file}: 1 error\n"));
}

#[tokio::test]
async fn a_list_of_networks_that_admits_no_client_is_noted() {
    let folder = Folder::new();
    folder.write("allow", "# none yet\n");
    for (access, is_noted) in [
        ("access.allow-file = \"allow\"", true),
        (
            "access = { allow-file = \"allow\", allow = \"10.0.0.0/8\" }",
            false,
        ),
        ("access.deny-file = \"allow\"", false),
    ] {
        let text = GATE.replacen(
            "backend = \"b\"\n",
            &format!("backend = \"b\"\n{access}\n"),
            1,
        );
        let output = check(&folder.write("gate.toml", text)).await;
        assert_eq!(output.status.code(), Some(0));
        let note = "allow has no network, so no client is admitted";
        assert_eq!(text_has(&output, note), is_noted, "{access}");
    }
}

#[tokio::test]
async fn connections_that_do_not_fit_into_the_file_descriptors_are_noted() {
    let folder = Folder::new();
    let file = folder.write(
        "gate.toml",
        "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
         limits.connections = 100\n[[backend]]\nname = \"b\"\nservers = \"10.0.0.1:1\"\n",
    );
    // Twice 100, and 256 for itself.
    for (limit, fits) in [(455, false), (456, true)] {
        let script = format!("ulimit -n {limit}; exec \"$0\" check --config \"$1\"");
        let mut limited = Command::new("sh");
        limited.args(["-c", &script, env!("CARGO_BIN_EXE_portcullis")]);
        let output = limited.arg(&file).output().await.expect("it runs");
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(!text_has(&output, "456 file descriptors"), fits, "{limit}");
    }
}

/// Linux would set a smaller size without an error.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn buffers_that_the_system_does_not_allow_are_noted() {
    let folder = Folder::new();
    for (size, fits) in [("4 KiB", true), ("512 MiB", false)] {
        let file = folder.write(
            "gate.toml",
            format!(
                "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
                 send-buffer = \"{size}\"\n[[backend]]\nname = \"b\"\nservers = \"10.0.0.1:1\"\n"
            ),
        );
        let output = check(&file).await;
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(!text_has(&output, "net.core.wmem_max"), fits, "{size}");
    }
}

fn text_has(output: &Output, part: &str) -> bool {
    text(output).contains(part)
}

#[tokio::test]
async fn an_unknown_command_fails_like_a_wrong_configuration() {
    let output = program(["frobnicate"]).output().await.expect("it runs");
    assert_eq!(output.status.code(), Some(2));
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_that_cannot_be_opened_is_reported() {
    let folder = Folder::new();
    folder.write("file", "");
    let long = "s".repeat(120);
    let text_of = |listen: &str| {
        format!(
            "version = 1\n[admin]\nlisten = \"unix:{listen}\"\n[[listener]]\nname = \"a\"\nlisten = \"unix:{listen}.a\"\n\
             backend = \"b\"\n[[backend]]\nname = \"b\"\nservers = \"127.0.0.1:1\"\n"
        )
    };
    for (listen, code, problems) in [
        (
            &*long,
            2,
            [
                "3:10: a Unix socket cannot have this path",
                "6:10: a Unix socket cannot",
            ],
        ),
        (
            "no/sock",
            2,
            [
                "3:10: admin: there is no folder",
                "listener \"a\": there is no folder",
            ],
        ),
        (
            "/run/nosuch/a",
            0,
            [
                "3:10: note: admin: there is no folder",
                "systemd creates it",
            ],
        ),
        ("sock", 0, ["usable", ""]),
    ] {
        let output = check(&folder.write("gate.toml", text_of(listen))).await;
        let text = text(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(problems.iter().all(|it| text.contains(it)), "{text}");
    }
    let text = text(&check(&folder.write("gate.toml", text_of("file"))).await);
    assert!(text.contains("a file that is not a socket"), "{text}");
}

#[cfg(unix)]
#[tokio::test]
async fn run_and_plan_report_the_unix_sockets_that_check_reports() {
    let folder = Folder::new();
    folder.write("file", "");
    let text = |listen: &str| {
        format!(
            "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"unix:{listen}\"\nbackend = \"b\"\n\
             [[backend]]\nname = \"b\"\nservers = \"127.0.0.1:1\"\n"
        )
    };
    for (listen, problem) in [("no/sock", "there is no folder"), ("file", "not a socket")] {
        let file = folder.write("gate.toml", text(listen));
        let file = file.to_str().expect("it is UTF-8");
        for command in ["check", "run", "plan"] {
            let output = program([command, file]).output().await.expect("it runs");
            let said = [&*output.stdout, &*output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            let expected = "gate.toml:4:10: listener \"a\": ";
            assert!(said.contains(expected) && said.contains(problem), "{said}");
            assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        }
    }
}

#[tokio::test]
async fn each_wrong_line_of_a_list_is_reported() {
    let folder = Folder::new();
    folder.write(
        "deny.txt",
        "10.0.0.0/8\nnope\n# fine\n192.0.2.1\n10.0.0.0/99 nope\n",
    );
    let file = folder.write(
        "gate.toml",
        "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
         access = { deny-file = \"deny.txt\" }\n[[backend]]\nname = \"b\"\nservers = \"[fe80::1%nosuch0]:1\"\n",
    );
    let text = text(&check(&file).await);
    for part in [
        "deny.txt:2: ",
        "deny.txt:5: ",
        "index of its interface",
        ": 3 errors",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[tokio::test]
async fn run_and_plan_take_the_file_that_check_takes() {
    let folder = Folder::new();
    let file = folder.write("gate.toml", "version = 2\n");
    let file = file.to_str().expect("it is UTF-8");
    for command in ["check", "run", "plan"] {
        let output = program([command, file]).output().await.expect("it runs");
        let said = [&*output.stdout, &*output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("gate.toml:1:11"), "{command}: {said}");
    }
}
