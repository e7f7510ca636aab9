//! The certificate of clients that request no host name, or one that no certificate has.

use crate::gate::{Authority, Folder, Gate, backend, line, program};
use crate::tls;
use portcullis::middleware::tls::rustls::{AlertDescription, Error};
use std::io;

/// A gate with the certificates `a` and `b`, for the names `a.test` and `b.test`.
fn configuration(default: &str, server: &str) -> String {
    let certificates = ["a", "b"].map(|name| {
        format!(
            "[[certificate]]\nname = \"{name}\"\nchain = \"{name}.pem\"\nkey = \"{name}.key\"\n"
        )
    });
    let certificates = certificates.concat();
    format!(
        "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
         tls = {{ certificates = [\"a\", \"b\"]{default} }}\n\
         [[backend]]\nname = \"b\"\nservers = \"{server}\"\n{certificates}"
    )
}

/// Which certificate a client gets that requests `name`, which an address is not.
async fn shown(gate: &Gate, known: &[(String, String)], name: &str) -> io::Result<usize> {
    let mut stream = tls::connect_to_any(name, gate.connect().await).await?;
    assert_eq!(line(&mut stream).await?, "one");
    let certificates = stream.get_ref().1.peer_certificates();
    let shown = &certificates.expect("a server has one")[0];
    let is_shown = |(chain, _): &(String, String)| tls::certificate(chain) == *shown;
    Ok(known.iter().position(is_shown).expect("one of them"))
}

/// Clients of these names, and what they get without a default and with that of a listener.
const CLIENTS: [(&str, Option<usize>); 5] = [
    ("a.test", Some(0)),
    ("b.test", Some(1)),
    ("c.test", None),
    ("x.a.test", None),
    // A client that connects to an address requests no name.
    ("127.0.0.1", None),
];

#[tokio::test]
async fn clients_without_a_known_name_get_the_default_certificate_or_an_alert() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let known = ["a", "b"].map(|name| {
        let (chain, key) = authority.sign(&[&format!("{name}.test")]);
        folder.write(&format!("{name}.pem"), &chain);
        folder.write(&format!("{name}.key"), &key);
        (chain, key)
    });
    let server = backend("one").await.to_string();
    let file = folder.write("gate.toml", configuration("", &server));
    let mut gate = Gate::run(&file, 1).await;
    let all = async |gate: &Gate, default: Option<usize>| {
        for (name, expected) in CLIENTS {
            match (shown(gate, &known, name).await, expected.or(default)) {
                (Ok(shown), Some(expected)) => assert_eq!(shown, expected, "{name}"),
                (Err(error), None) => {
                    let error = error.downcast::<Error>().expect("an alert");
                    let alert = AlertDescription::UnrecognisedName;
                    assert_eq!(error, Error::AlertReceived(alert), "{name}");
                }
                (shown, expected) => panic!("{name}: {shown:?}, expected {expected:?}"),
            }
        }
    };
    all(&gate, None).await;

    let old = file.to_str().expect("it is UTF-8").to_owned();
    for (number, name) in [(1, "b"), (0, "a")] {
        let text = configuration(&format!(", default = \"{name}\""), &server);
        let new = folder.write("new.toml", &text);
        let new = new.to_str().expect("it is UTF-8");
        let mut plan = program(["plan", "--config", new, "--old", &old]);
        let plan = plan.output().await.expect("the program runs");
        let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
        assert!(plan.contains("listener \"a\": tls.default "), "{plan}");
        assert!(plan.contains(" next connection "), "{plan}");
        folder.write("gate.toml", &text);
        gate.child.signal("HUP").await;
        gate.child.says("was reloaded").await;
        all(&gate, Some(number)).await;
    }
}

#[tokio::test]
async fn explain_says_who_gets_the_default_certificate() {
    let (folder, authority) = (Folder::new(), Authority::new());
    for name in ["a", "b"] {
        let (chain, key) = authority.sign(&[&format!("{name}.test"), &format!("*.{name}.test")]);
        folder.write(&format!("{name}.pem"), chain);
        folder.write(&format!("{name}.key"), key);
    }
    let explained = async |default: &str, client: &str| {
        let text = configuration(default, "127.0.0.1:1").replace("127.0.0.1:0", "127.0.0.1:8443");
        let file = folder.write("gate.toml", text);
        let file = file.to_str().expect("it is UTF-8");
        let arguments = [
            "explain",
            "--config",
            file,
            "--listener",
            "a",
            "--from",
            "192.0.2.1",
        ];
        let mut command = program(arguments);
        command.args(client.split_whitespace());
        let output = command.output().await.expect("the program runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let default = ", default = \"b\"";
    let of_b = "it gets the certificate of b.test";
    for (client, expected, is_default) in [
        ("", of_b, true),
        ("--name c.test", of_b, true),
        ("--name b.test.x", of_b, true),
        ("--name B.test", of_b, false),
        ("--name x.B.test", of_b, false),
        ("--name a.test", "it gets the certificate of a.test", false),
    ] {
        let text = explained(default, client).await;
        assert!(text.contains(expected), "{client}: {text}");
        assert_eq!(
            text.contains("which is the default"),
            is_default,
            "{client}: {text}"
        );
    }
    for client in ["", "--name c.test"] {
        let text = explained("", client).await;
        let reason = "rejected by tls: no certificate is for this name, and none is the default";
        assert!(text.contains(reason), "{text}");
    }
}
