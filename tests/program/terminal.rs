//! The log on a terminal.

use crate::gate::{Folder, program};
use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use std::{
    fs::File,
    io::{BufRead, BufReader},
    process::Stdio,
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};

#[tokio::test]
async fn messages_are_text_on_a_terminal() {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&ours).expect("it is ours");
    unlockpt(&ours).expect("it is ours");
    let path = ptsname(&ours, Vec::new()).expect("it has a path");
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let theirs = open(path, flags, Mode::empty()).expect("it is unlocked");

    let folder = Folder::new();
    let text = "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
                [[backend]]\nname = \"b\"\nservers = \"127.0.0.1:1\"\nhealth = \"off\"\n";
    for (format, is_text) in [("", true), ("[log]\nformat = \"json\"\n", false)] {
        let file = folder.write(
            "gate.toml",
            text.replace("[[listener", &format!("{format}[[listener")),
        );
        let mut run = program(["run", "--config", file.to_str().expect("it is UTF-8")]);
        let terminal = theirs.try_clone().expect("a descriptor");
        run.stdin(Stdio::null()).stdout(terminal).kill_on_drop(true);
        let mut running = run.spawn().expect("it starts");
        let screen = File::from(ours.try_clone().expect("a descriptor"));
        let (sender, mut lines) = mpsc::unbounded_channel();
        // The thread ends with the line, which comes before the test does.
        std::thread::spawn(move || {
            let mut lines = BufReader::new(screen).lines().map_while(Result::ok);
            let listening = lines.find(|line| line.contains("listening on "));
            let _ = sender.send(listening);
        });
        let line = timeout(Duration::from_secs(30), lines.recv()).await;
        let line = line.expect("it says nothing").flatten().expect("a line");
        assert_eq!(!line.starts_with('{'), is_text, "{line}");
        running.kill().await.expect("it runs");
    }
}
