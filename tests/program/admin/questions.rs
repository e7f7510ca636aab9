//! What would become of a client, and what a reload would do, asked of the running process.

use super::{Administered, TOKEN, forward_to};
use crate::gate::{backend, line, program};
use serde_json::Value;

fn with_access(text: &str) -> String {
    text.replace(
        "backend = \"b\"\n",
        "backend = \"b\"\naccess.deny = \"203.0.113.0/24\"\n",
    )
}

#[tokio::test]
async fn it_explains_the_decision_about_a_client() {
    let server = backend("one").await;
    let running = Administered::run(&with_access(&forward_to(server)), 1).await;
    let denied = running
        .get("/api/explain?listener=a&from=203.0.113.7")
        .await
        .json();
    assert_eq!(denied["guards"][1]["guard"], "acl", "{denied}");
    assert_eq!(denied["guards"][1]["verdict"], "reject", "{denied}");
    assert_eq!(denied["backend"], Value::Null, "{denied}");
    let admitted = running
        .get("/api/explain?listener=a&from=198.51.100.7")
        .await
        .json();
    assert_eq!(admitted["backend"], "b", "{admitted}");
    assert_eq!(admitted["server"], server.to_string(), "{admitted}");

    let unknown = running
        .get("/api/explain?listener=z&from=198.51.100.7")
        .await;
    assert_eq!(unknown.status, 404, "{}", unknown.body);
    for wrong in [
        "listener=a",
        "listener=a&from=x",
        "listener=a&from=::1&protocol=gopher",
    ] {
        let answer = running.get(&format!("/api/explain?{wrong}")).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
    }
}

#[tokio::test]
async fn a_client_of_a_listener_with_proxy_headers_comes_through_a_proxy_or_without_one() {
    let text = forward_to(backend("one").await).replace(
        "backend = \"b\"\n",
        "backend = \"b\"\nproxy-protocol = { trust = \"10.0.0.0/8\" }\n",
    );
    let running = Administered::run(&text, 1).await;
    for (via, verdict, reason) in [
        ("", "admit", "assumed"),
        ("&proxy=10.0.0.7", "admit", "a trusted proxy names"),
        ("&proxy=192.0.2.7", "reject", "not a trusted proxy"),
        ("&direct=true", "reject", "not a trusted proxy"),
    ] {
        let question = format!("/api/explain?listener=a&from=203.0.113.7{via}");
        let answer = running.get(&question).await.json();
        let step = &answer["guards"][1];
        assert_eq!(step["guard"], "proxy_protocol", "{answer}");
        assert_eq!(step["verdict"], verdict, "{answer}");
        assert!(step["reason"].as_str().expect("text").contains(reason));
    }
    let both = "/api/explain?listener=a&from=203.0.113.7&proxy=10.0.0.7&direct=true";
    assert_eq!(running.get(both).await.status, 400);

    let admin = format!("http://{}", running.admin);
    let ctl = async |arguments: &[&str]| {
        let all = ["ctl", "--admin", &admin, "explain", "--listener", "a"];
        let all = all.iter().chain(arguments).copied();
        let output = program(all).output().await.expect("it starts");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.code(), text)
    };
    let (code, text) = ctl(&["--from", "203.0.113.7", "--proxy", "192.0.2.7"]).await;
    assert_eq!(code, Some(0), "{text}");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[1..],
        [
            "proxy_protocol    reject   its source is not a trusted proxy",
            "rejected by proxy_protocol: its source is not a trusted proxy"
        ],
        "{text}"
    );
    let (code, text) = ctl(&["--from", "203.0.113.7"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("\nforwarded to 127.0.0.1:"), "{text}");
    let (code, text) = ctl(&["--from", "203.0.113.7", "--protocol", "gopher"]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("is not a protocol; write one of"), "{text}");
}

#[tokio::test]
async fn a_proxy_of_a_listener_without_headers_is_its_client() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let question = "/api/explain?listener=a&from=203.0.113.7&proxy=10.0.0.7";
    let answer = running.get(question).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.body.contains("leave the proxy out"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn a_plan_counts_the_open_connections_and_changes_nothing() {
    let (one, two) = (backend("one").await, backend("two").await);
    let running = Administered::run(&forward_to(one), 1).await;
    let mut client = running.gate.connect().await;
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    let file = running.folder.path("gate.toml");
    let text = std::fs::read_to_string(&file).expect("it is there");

    let api = running.api().with_token(TOKEN);
    let same = api.post("/api/plan").await.json();
    assert_eq!(same["changes"].as_array().map(Vec::len), Some(0), "{same}");
    let new = with_access(&text.replace(&one.to_string(), &two.to_string()));
    let plan = api.send("POST", "/api/plan", &new).await.json();
    let changes = plan["changes"].as_array().expect("changes");
    let of = |key: &str| {
        let change = changes.iter().find(|change| change["key"] == key);
        change
            .unwrap_or_else(|| panic!("{key} is missing in {plan}"))
            .clone()
    };
    let access = of("listener \"a\": access.deny");
    assert_eq!(access["from"], "none");
    assert_eq!(access["to"], "203.0.113.0/24");
    assert_eq!(access["connections"], 1);
    assert_eq!(
        of(&format!("backend \"b\": server {one}"))["connections"],
        1
    );
    assert_eq!(
        of(&format!("backend \"b\": server {two}"))["connections"],
        0
    );

    let wrong = api
        .send("POST", "/api/plan", "version = 1\nlisten = 7")
        .await
        .json();
    let problems = wrong["problems"].as_array().expect("problems");
    assert!(
        problems[0]
            .as_str()
            .expect("a text")
            .contains("gate.toml:2:1: unknown key"),
        "{wrong}"
    );
    assert_eq!(running.api().post("/api/plan").await.status, 401);

    let mut new_client = running.gate.connect().await;
    assert_eq!(line(&mut new_client).await.expect("the greeting"), "one");
}

#[tokio::test]
async fn the_program_asks_for_a_plan_and_prints_it() {
    let (one, two) = (backend("one").await, backend("two").await);
    let running = Administered::run(&forward_to(one), 1).await;
    let mut client = running.gate.connect().await;
    assert_eq!(line(&mut client).await.expect("the greeting"), "one");
    let text = std::fs::read_to_string(running.folder.path("gate.toml")).expect("it is there");
    let new = text.replace(&one.to_string(), &two.to_string());
    let new = running.folder.write("new.toml", new);
    let (new, admin) = (
        new.display().to_string(),
        format!("http://{}", running.admin),
    );
    let plan = ["plan", "--config", &new, "--admin", &admin];
    let output = program(plan)
        .env("PORTCULLIS_TOKEN", TOKEN)
        .output()
        .await
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(10), "{text}");
    let removed = text
        .lines()
        .find(|line| line.contains(&one.to_string()))
        .expect("a line");
    let cells: Vec<_> = removed
        .split("  ")
        .filter(|cell| !cell.is_empty())
        .map(str::trim)
        .collect();
    assert_eq!(cells[3..5], ["immediately", "1"], "{text}");
    assert!(!text.contains(TOKEN), "{text}");

    let output = program(plan)
        .env("PORTCULLIS_TOKEN", "wrong-token-of-some-length")
        .output();
    assert_eq!(output.await.expect("it runs").status.code(), Some(2));
}

#[tokio::test]
async fn a_file_that_includes_others_is_only_planned_in_place_of_the_running_one() {
    let running = Administered::run(&forward_to(backend("one").await), 1).await;
    let text = std::fs::read_to_string(running.folder.path("gate.toml")).expect("it is there");
    let (head, rest) = text.split_once("[[listener]]").expect("a listener");
    let head = head.replace("version = 1", "version = 1\ninclude = \"part.toml\"");
    let part = format!("[[listener]]{rest}").replace("name = \"a\"", "name = \"z\"");
    running.folder.write("part.toml", part);
    let elsewhere = running.folder.write("new.toml", &head);
    let in_place = running.folder.path("gate.toml");
    running.folder.write("gate.toml", &head);
    let admin = format!("http://{}", running.admin);
    for (file, code, words) in [
        (
            elsewhere,
            2,
            [
                "new.toml includes other files, and is not the file that the running process reads",
                "gate.toml; put it there",
            ],
        ),
        (
            in_place,
            10,
            [
                "listener \"z\"",
                "gate.toml is compared with what runs, which was read from ",
            ],
        ),
    ] {
        let file = file.display().to_string();
        let output = program(["plan", "--config", &file, "--admin", &admin])
            .env("PORTCULLIS_TOKEN", TOKEN)
            .output()
            .await
            .expect("it runs");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert_eq!(output.status.code(), Some(code), "{text}");
        for words in words {
            assert!(text.contains(words), "{text}");
        }
    }
}

#[tokio::test]
async fn check_run_plan_and_a_reload_find_the_same_problems() {
    let rest = forward_to(backend("one").await);
    let running = Administered::run(&rest, 1).await;
    let certificate = "[[certificate]]\nname = \"c\"\nchain = \"gone.pem\"\nkey = \"gone.key\"\n";
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"\ntoken-file = \"token\"\n";
    let wrong = format!(
        "version = 1\n[log]\naccess = \"./missing/access.log\"\n{admin}{}{certificate}",
        rest.replace("[[backend]]", "tls.certificates = \"c\"\n[[backend]]")
    );
    let right = std::fs::read_to_string(running.folder.path("gate.toml")).expect("it is there");
    let [old, new] = [("old.toml", right), ("gate.toml", wrong.clone())].map(|(name, text)| {
        let path = running.folder.write(name, text);
        path.to_str().expect("it is UTF-8").to_owned()
    });
    let reload = running.post("/api/reload").await;
    assert_eq!(reload.status, 422, "{}", reload.body);
    let problems = |answer: &str| -> Vec<String> {
        let json: Value = serde_json::from_str(answer).expect("it is JSON");
        let problems = json["problems"].as_array().expect("problems").iter();
        problems
            .map(|it| it.as_str().expect("a text").to_owned())
            .collect()
    };
    let expected = problems(&reload.body);
    assert_eq!(expected.len(), 2, "{expected:?}");
    for (problem, what) in expected
        .iter()
        .zip(["log.access cannot be opened", "gone.pem"])
    {
        assert!(problem.contains(what), "{expected:?}");
    }
    let api = running.api().with_token(TOKEN);
    for body in ["", &wrong] {
        let plan = api.send("POST", "/api/plan", body).await;
        assert_eq!(problems(&plan.body), expected, "{}", plan.body);
    }
    for words in [
        &["check", "--config", &*new][..],
        &["run", "--config", &new],
        &["plan", "--config", &new, "--old", &old],
        &["plan", "--config", &old, "--old", &new],
    ] {
        let command = program(words.iter().copied()).output().await;
        let output = command.expect("it starts");
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let all = [output.stdout, output.stderr].concat();
        let all = String::from_utf8_lossy(&all).into_owned();
        for problem in &expected {
            assert!(all.lines().any(|line| line == problem), "{words:?}: {all}");
        }
    }
}
