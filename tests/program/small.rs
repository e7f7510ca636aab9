//! `portcullis echo` and `portcullis daytime`, and a port that is taken at the start.

use crate::{
    gate::{Folder, program},
    support::child::Child,
};
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Runs `command`, and returns a client of it.
async fn run(command: &str) -> (Child, TcpStream) {
    let mut child = Child::start(program([command, "127.0.0.1:0"])).expect("it starts");
    let address = child.address().await;
    let client = TcpStream::connect(address).await.expect("it listens");
    (child, client)
}

async fn ends_with_zero(mut child: Child) {
    child.signal("TERM").await;
    let ended = child.ended_within(Duration::from_secs(30)).await;
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn echo_sends_back_what_it_receives() {
    let (mut child, mut client) = run("echo").await;
    client.write_all(b"ping").await.expect("it is open");
    client.shutdown().await.expect("it is open");
    let mut received = String::new();
    client.read_to_string(&mut received).await.expect("an echo");
    assert_eq!(received, "ping");
    let access = child.says("completed").await;
    assert!(access.contains("echo"), "{access}");
    ends_with_zero(child).await;
}

#[tokio::test]
async fn daytime_sends_the_time_and_closes() {
    let (child, mut client) = run("daytime").await;
    let mut received = String::new();
    client.read_to_string(&mut received).await.expect("a date");
    // As in "Sun, 06 Nov 1994 08:49:37 GMT".
    let words: Vec<_> = received.split([' ', ':']).collect();
    assert_eq!(words.len(), 8, "{received}");
    assert!(received.ends_with(" GMT\r\n"), "{received}");
    assert!(words[3].parse::<u32>().is_ok_and(|year| year >= 2025));
    ends_with_zero(child).await;
}

#[tokio::test]
async fn a_hangup_does_not_end_it() {
    let (child, mut client) = run("echo").await;
    child.signal("HUP").await;
    client.write_all(b"ping").await.expect("it is open");
    client.shutdown().await.expect("it is open");
    let mut received = String::new();
    client.read_to_string(&mut received).await.expect("an echo");
    assert_eq!(received, "ping");
    ends_with_zero(child).await;
}

/// A program that catches signals too late ends by one instead of with a code.
#[tokio::test]
async fn signals_that_come_right_after_the_address_are_caught() {
    for arguments in [
        &["echo", "127.0.0.1:0"][..],
        &["daytime", "127.0.0.1:0"],
        &["demo"],
    ] {
        for number in 0..20 {
            let mut child = Child::start(program(arguments.iter().copied())).expect("it starts");
            // Of the demo, the log may have begun before.
            child
                .says(if arguments == ["demo"] {
                    "demo:"
                } else {
                    "try:"
                })
                .await;
            let process = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            let process = process.expect("a process");
            if number % 2 == 1 {
                kill_process(process, Signal::HUP).expect("it runs");
            }
            kill_process(process, Signal::TERM).expect("it runs");
            let ended = child.ended_within(Duration::from_secs(30)).await;
            assert_eq!(
                ended.code(),
                Some(0),
                "{arguments:?}: {ended}, number {number}"
            );
        }
    }
}

#[tokio::test]
async fn an_address_without_a_port_is_told_what_to_write() {
    for command in ["echo", "daytime"] {
        let output = program([command, "17008"]).output().await.expect("it runs");
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "portcullis: \"17008\" is not an address to listen on; write \"0.0.0.0:17008\" for all IPv4 addresses, or \
             \"[::]:17008\"\n"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_listed_twice_on_the_command_line_is_in_no_line() {
    let arguments = ["forward", "127.0.0.1:0", "127.0.0.1:1", "127.0.0.1:1"];
    let output = program(arguments).output().await.expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "backend \"servers\": server 127.0.0.1:1 is listed twice\n"
    );
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_start_with_one() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let taken = taken.local_addr().expect("it is bound").to_string();
    let folder = Folder::new();
    let file = folder.write(
        "gate.toml",
        format!(
            "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"{taken}\"\nbackend = \"b\"\n\
             [[backend]]\nname = \"b\"\nservers = \"127.0.0.1:1\"\n"
        ),
    );
    let file = file.to_str().expect("it is UTF-8");
    for (arguments, who) in [
        (
            &["run", "--config", file][..],
            format!("{file}:4:10: listener \"a\": "),
        ),
        (
            &["forward", &taken, "127.0.0.1:1"],
            "listener \"forward\": ".into(),
        ),
        (&["echo", &taken], "portcullis: ".into()),
        (&["daytime", &taken], "portcullis: ".into()),
    ] {
        let output = program(arguments.iter().copied()).output().await;
        let output = output.expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let expected = format!(
            "{who}cannot listen on {taken}: bind failed: {}; \
             another socket has this port (`ss -ltnp` or `netstat` shows whose); \
             end that program, or choose another port\n",
            std::net::TcpListener::bind(&taken).expect_err("it is taken")
        );
        assert_eq!(text, expected);
    }
}
