//! `portcullis explain`: the decision about a client, without a running process.

use crate::gate::{Authority, Folder, program};
use rcgen::{CertificateParams, DnType, KeyPair};
use std::path::Path;

async fn explain(file: &Path, arguments: &str) -> (Option<i32>, String) {
    let file = file.to_str().expect("it is UTF-8");
    let arguments = arguments.split(' ').filter(|it| !it.is_empty());
    let all = ["explain", "--config", file].into_iter().chain(arguments);
    let output = program(all).output().await.expect("the program runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.code(), text)
}

const EDGE: &str = r#"version = 1
[[listener]]
name = "edge"
listen = "0.0.0.0:8443"
access = { deny = "203.0.113.0/24" }
[[listener.route]]
names = "*.shop.example"
pass = true
backend = "shop"
[[listener.route]]
protocol = "ssh"
backend = "bastion"
[[backend]]
name = "shop"
balance = "hash"
servers = ["10.0.1.10:443", "10.0.1.11:443"]
[[backend]]
name = "bastion"
servers = "bastion.internal:22"
"#;

#[tokio::test]
async fn it_names_the_rule_that_rejects_a_client_and_the_server_of_another() {
    let folder = Folder::new();
    let file = folder.write("gate.toml", EDGE);
    let listener = "--listener edge --name www.shop.example";
    let (code, text) = explain(&file, &format!("{listener} --from 203.0.113.7")).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("acl               reject"), "{text}");
    let last = "rejected by acl: the address is on the deny list (`access`)\n";
    assert!(text.ends_with(last), "{text}");

    let (code, text) = explain(&file, &format!("{listener} --from 198.51.100.7")).await;
    assert_eq!(code, Some(0), "{text}");
    // The client's address alone decides.
    let decided = text.ends_with("forwarded to 10.0.1.10:443 of backend \"shop\"\n")
        || text.ends_with("forwarded to 10.0.1.11:443 of backend \"shop\"\n");
    assert!(decided, "{text}");

    let ssh = "--listener edge --from 198.51.100.7 --protocol ssh";
    let (_, text) = explain(&file, ssh).await;
    let last = "forwarded to bastion.internal:22 of backend \"bastion\"\n";
    assert!(text.ends_with(last), "{text}");
}

#[tokio::test]
async fn a_client_certificate_is_verified_as_in_a_handshake() {
    let folder = Folder::new();
    let (ours, other) = (Authority::new(), Authority::new());
    let (chain, key) = ours.sign(&["pay.example"]);
    folder.write("pay.pem", chain);
    folder.write("pay.key", key);
    folder.write("ca.pem", ours.pem());
    folder.write("good.pem", ours.sign(&["batch.mesh"]).0);
    folder.write("unlisted.pem", ours.sign(&["other.mesh"]).0);
    folder.write("forged.pem", other.sign(&["batch.mesh"]).0);
    let mut foreign = CertificateParams::new(["batch.mesh".to_owned()]).expect("a name");
    foreign
        .distinguished_name
        .push(DnType::CommonName, "a stranger");
    let foreign = foreign.self_signed(&KeyPair::generate().expect("a key"));
    folder.write("foreign.pem", foreign.expect("a certificate").pem());
    let file = folder.write(
        "gate.toml",
        "version = 1\n[[listener]]\nname = \"pay\"\nlisten = \"0.0.0.0:7443\"\nbackend = \"pay\"\n\
         [listener.tls]\ncertificates = \"pay\"\n\
         client = { roots = \"ca.pem\", allow = \"dns:batch.mesh\" }\n\
         [[certificate]]\nname = \"pay\"\nchain = \"pay.pem\"\nkey = \"pay.key\"\n\
         [[backend]]\nname = \"pay\"\nservers = \"10.0.0.1:80\"\n",
    );
    for (shown, last) in [
        ("good.pem", "forwarded to 10.0.0.1:80 of backend \"pay\"\n"),
        (
            "unlisted.pem",
            "rejected by certificate_acl: its certificate has no listed name, only dns:other.mesh (`tls.client.allow`)\n",
        ),
        (
            "forged.pem",
            "rejected by tls: its certificate is rejected: invalid peer certificate: BadSignature\n",
        ),
        (
            "foreign.pem",
            "rejected by tls: no authority that is trusted has issued the client's certificate (`tls.client.roots`)\n",
        ),
    ] {
        let shown = folder.path(shown);
        let arguments = format!("--listener pay --from 192.0.2.1 --cert {}", shown.display());
        let (code, text) = explain(&file, &arguments).await;
        assert_eq!(code, Some(0), "{text}");
        assert!(text.ends_with(last), "{text}");
    }
    let (_, text) = explain(&file, "--listener pay --from 192.0.2.1").await;
    let last = "rejected by tls: the client presents no certificate, and one is required (`tls.client.auth`)\n";
    assert!(text.ends_with(last), "{text}");
}

#[tokio::test]
async fn what_is_wrong_with_a_question_is_explained() {
    let folder = Folder::new();
    let file = folder.write("gate.toml", EDGE);
    for (arguments, reason) in [
        (
            "--listener edeg --from 192.0.2.1",
            "there is no listener \"edeg\"; the file has edge",
        ),
        (
            "--listener edge --from 192.0.2.1 --proxy 10.0.0.1",
            "reads no PROXY headers",
        ),
        ("--listener edge --from nowhere", "invalid"),
        (
            "--listener edge --from 192.0.2.1 --cert none.pem",
            "none.pem cannot be read",
        ),
    ] {
        let (code, text) = explain(&file, arguments).await;
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(reason), "{text}");
    }
}
