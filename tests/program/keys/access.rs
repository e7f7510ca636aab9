//! `listener.access`: which addresses are admitted.

use super::Running;
use crate::gate::{Folder, backend};

const ONE: [u8; 4] = [127, 0, 0, 1];
const TWO: [u8; 4] = [127, 0, 0, 2];

#[tokio::test]
async fn lists_admit_and_deny_networks_in_the_file_and_in_files_of_their_own() {
    let folder = Folder::new();
    folder.write("one.txt", "127.0.0.1 # loopback\n");
    folder.write("two.txt", "127.0.0.2\n");
    // What each list admits: the client 127.0.0.1, the client 127.0.0.2.
    let expected = [
        ("access.allow = \"127.0.0.1\"", [true, false]),
        ("access.allow = [\"127.0.0.0/24\"]", [true, true]),
        ("access.deny = \"127.0.0.1\"", [false, true]),
        (
            "access = { allow = \"127.0.0.0/8\", deny = \"127.0.0.2/32\" }",
            [true, false],
        ),
        ("access.allow-file = \"one.txt\"", [true, false]),
        ("access.deny-file = \"one.txt\"", [false, true]),
        (
            "access = { allow = \"127.0.0.1\", allow-file = \"two.txt\" }",
            [true, true],
        ),
        (
            "access = { deny = \"127.0.0.1\", deny-file = \"two.txt\" }",
            [false, false],
        ),
    ];
    let keys = expected.map(|(keys, _)| keys);
    let backend = format!("servers = \"{}\"", backend("one").await);
    let running = Running::in_folder(folder, "", &keys, &backend).await;
    for (number, (keys, admits)) in expected.into_iter().enumerate() {
        for (client, admits) in [ONE, TWO].into_iter().zip(admits) {
            let served = running.serves(client, number).await;
            assert_eq!(served, admits, "{keys}: {client:?}");
        }
    }
}

#[tokio::test]
async fn a_client_is_refused_by_a_close_or_a_reset() {
    let keys = [
        "access.deny = \"127.0.0.1\"",
        "access = { deny = \"127.0.0.1\", refuse = \"close\" }",
        "access = { deny = \"127.0.0.1\", refuse = \"reset\" }",
    ];
    let running = Running::listeners(&keys).await;
    for (number, is_reset) in [false, false, true].into_iter().enumerate() {
        assert_eq!(running.resets(number).await, is_reset, "{}", keys[number]);
    }
}

#[tokio::test]
async fn a_list_that_is_only_observed_admits_and_is_logged() {
    let keys = "access = { deny = \"127.0.0.1\", observe = true }";
    let mut running = Running::listener(keys).await;
    drop(running.greeted().await);
    let ended = running.ended().await;
    let observed = ended["observed"].as_str().unwrap_or_default();
    assert!(observed.contains("acl"), "{ended}");
}
