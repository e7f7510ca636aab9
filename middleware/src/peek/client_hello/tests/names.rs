//! Server names.

use super::*;

#[track_caller]
fn name(name: &str) -> Result<Option<String>, ClientHelloError> {
    let bytes = TestHello::to(name).records(MAX_RECORD);
    let hello = parse(&bytes)?.expect("it is complete");
    assert!(hello.has_server_name());
    Ok(hello.server_name().map(str::to_owned))
}

#[test]
fn a_name_is_as_it_was_written_without_a_trailing_dot() {
    let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
    assert_eq!(long.len(), 253);
    for (sent, found) in [
        ("shop.example", "shop.example"),
        ("SHOP.Example", "SHOP.Example"),
        ("shop.example.", "shop.example"),
        ("localhost", "localhost"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("_dmarc.a-b.example", "_dmarc.a-b.example"),
        (&long, &long),
    ] {
        assert_eq!(name(sent).unwrap().as_deref(), Some(found));
    }
}

#[test]
fn an_ip_address_is_no_name() {
    for address in ["192.0.2.1", "::1", "2001:db8::1"] {
        assert_eq!(name(address), Ok(None));
    }
}

#[test]
fn what_is_no_host_name_is_an_error() {
    let long = "a".repeat(64);
    let longer = format!("{0}.{0}.{0}.{0}", "a".repeat(63));
    for sent in [
        "",
        ".",
        "a..b",
        ".a",
        "a..",
        "-a.example",
        "a-.example",
        "a b",
        "a\0b",
        "a/b",
        "*.example",
        "ä.example",
        &long,
        &longer,
    ] {
        let error = name(sent).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid ClientHello: the server name is not a host name",
            "{sent:?}"
        );
    }
}

#[test]
fn bytes_that_are_no_text_are_an_error() {
    let hello = TestHello {
        extensions: vec![(0, vec![0, 4, 0, 0, 1, 0xff])],
        ..TestHello::default()
    };
    assert!(parse(&hello.records(MAX_RECORD)).is_err());
}

#[test]
fn a_list_has_one_host_name() {
    let entry = |kind: u8, name: &str| [&[kind], &block(2, name.as_bytes())[..]].concat();
    let parsed = |entries: &[Vec<u8>]| {
        let hello = TestHello {
            extensions: vec![(0, block(2, &entries.concat()))],
            ..TestHello::default()
        };
        let bytes = hello.records(MAX_RECORD);
        parse(&bytes).map(|hello| hello.unwrap().server_name().map(str::to_owned))
    };
    assert!(parsed(&[entry(0, "a.example"), entry(0, "b.example")]).is_err());
    assert!(parsed(&[entry(7, "a.example")]).is_err());
    assert!(parsed(&[]).is_err());
    let then_unknown = parsed(&[entry(0, "a.example"), entry(7, "b.example")]);
    assert_eq!(then_unknown.unwrap().as_deref(), Some("a.example"));
}
