//! Names of routes for which there is no certificate.

use crate::{
    gate::{Authority, Folder, Gate, backend, program},
    tls,
};

#[tokio::test]
async fn check_notes_a_name_for_which_there_is_no_certificate() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let mut text = String::from("version = 1\n");
    for name in ["a", "b"] {
        let (chain, key) = authority.sign(&[&format!("{name}.test"), &format!("*.{name}.test")]);
        folder.write(&format!("{name}.pem"), chain);
        folder.write(&format!("{name}.key"), key);
        text += &format!(
            "[[certificate]]\nname = \"{name}\"\nchain = \"{name}.pem\"\nkey = \"{name}.key\"\n"
        );
    }
    text += &format!(
        "[[backend]]\nname = \"b\"\nservers = \"{}\"\n\
         [[listener]]\nname = \"l\"\nlisten = \"127.0.0.1:0\"\n[[listener.route]]\nbackend = \"b\"\n",
        backend("one").await
    );
    let both = "tls.certificates = [\"a\", \"b\"]";
    for (keys, expected) in [
        (
            format!("names = [\"A.test\", \"x.b.test\", \"*.a.test\"]\n{both}"),
            None,
        ),
        ("names = [\"c.test\"]\npass = true".to_owned(), None),
        (
            format!("names = [\"a.test\", \"c.test\"]\n{both}"),
            Some(
                "18:20: note: listener \"l\": no certificate is for \"c.test\", so its clients get the alert",
            ),
        ),
        (
            format!("names = \"*.c.test\"\n{both}"),
            Some(
                "18:9: note: listener \"l\": no certificate is for \"*.c.test\", so its clients get the alert",
            ),
        ),
        (
            "names = \"c.test\"\ntls.certificates = \"a\"".to_owned(),
            Some("no certificate is for \"c.test\", so its clients get the default certificate"),
        ),
    ] {
        let mut text = format!("{text}{keys}\n");
        if keys.contains("pass") {
            // Otherwise they are not used.
            text += "[[listener.route]]\nnames = \"a.test\"\nbackend = \"b\"\n";
            text += both;
        }
        let file = folder.write("gate.toml", text);
        let file = file.to_str().expect("it is UTF-8");
        let output = program(["check", "--config", file]).output().await;
        let output = output.expect("it runs");
        let words = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{words}");
        match expected {
            Some(note) => assert!(words.contains(note), "{words}"),
            None => assert!(!words.contains("no certificate is for"), "{words}"),
        }
        assert!(!words.contains("for \"a.test\""), "{words}");
    }
}

#[tokio::test]
async fn a_client_whose_name_has_a_route_and_no_certificate_gets_what_check_says() {
    let (folder, authority) = (Folder::new(), Authority::new());
    for name in ["a", "b"] {
        let (chain, key) = authority.sign(&[&format!("{name}.test")]);
        folder.write(&format!("{name}.pem"), chain);
        folder.write(&format!("{name}.key"), key);
    }
    let text = format!(
        "version = 1\n\
         [[certificate]]\nname = \"a\"\nchain = \"a.pem\"\nkey = \"a.key\"\n\
         [[certificate]]\nname = \"b\"\nchain = \"b.pem\"\nkey = \"b.key\"\n\
         [[backend]]\nname = \"b\"\nservers = \"{}\"\n\
         [[listener]]\nname = \"l\"\nlisten = \"127.0.0.1:0\"\n\
         route = [{{ names = [\"a.test\", \"c.test\"], backend = \"b\", tls.certificates = [\"a\", \"b\"] }}]\n",
        backend("one").await
    );
    let gate = Gate::run(&folder.write("gate.toml", text), 1).await;
    let served = tls::connect(&authority, None, "a.test", gate.connect().await).await;
    drop(served.expect("a handshake"));
    let refused = tls::connect(&authority, None, "c.test", gate.connect().await).await;
    let refused = refused.expect_err("no certificate is for it").to_string();
    assert!(refused.contains("UnrecognisedName"), "{refused}");
}
