//! Wrong configurations, with the exact messages.

use super::{Config, Problems, Source};
use std::cell::RefCell;

/// The problems of `text`, without the name of the file.
fn problems(text: &str) -> Vec<String> {
    let mut problems = Problems::default();
    Config::parse(&Source::new("gate.toml", text), &mut problems);
    let lines = problems.sorted().into_iter();
    lines
        .map(|problem| problem.to_string().replace("gate.toml:", ""))
        .collect()
}

/// The problems of one wrong line in a listener of an otherwise right file, without the place.
fn wrong(line: &str) -> Vec<String> {
    let text = format!(
        "version = 1\nlistener = [{{ name = \"a\", listen = \"[::]:1\", backend = \"b\", {line} }}]\n\
         [[backend]]\nname = \"b\"\nservers = [\"h:1\"]\n\
         [[certificate]]\nname = \"c\"\nchain = \"c.pem\"\nkey = \"c.key\"\n"
    );
    let without_place = |problem: String| {
        let mut parts = problem.splitn(3, ':');
        parts.nth(2).map(|text| text.trim().to_owned())
    };
    let found = problems(&text).into_iter().filter_map(without_place);
    let unused = "note: certificate \"c\" is not used";
    found.filter(|message| message != unused).collect()
}

/// The problems of one wrong line in a backend.
fn wrong_backend(line: &str) -> Vec<String> {
    let text = format!(
        "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"[::]:1\"\nbackend = \"b\"\n\
         [[backend]]\nname = \"b\"\n{line}\n"
    );
    let text = if line.contains("server") {
        text
    } else {
        format!("{text}servers = [\"h:1\"]\n")
    };
    problems(&text)
}

#[test]
fn a_check_expects_an_answer_or_what_a_server_says_first() {
    let ours = "health = { send = \"PING\", expect = \"+PONG\" }";
    let theirs = "health = { expect = [\"220\", \"* OK\"] }";
    assert_eq!(wrong_backend(ours), [""; 0]);
    assert_eq!(wrong_backend(theirs), [""; 0]);
}

#[test]
fn a_check_over_tls_needs_no_tls_of_the_backend() {
    for right in [
        "health = { tls = true }",
        "health = { tls = { name = \"legacy.example\", roots = \"ca.pem\" } }",
        "health = { tls = {}, http = \"/\", port = 443 }",
        "health = { tls = {}, expect = \"220\" }",
        "servers = \"10.0.3.1:443\"\nhealth = { tls = { name = \"legacy.example\" } }",
        "servers = \"10.0.3.1:443\"\nhealth = { tls = { roots = \"ca.pem\" } }",
        "servers = \"unix:legacy.sock\"\nhealth = { tls = { name = \"legacy.example\" } }",
    ] {
        assert_eq!(wrong_backend(right), [""; 0], "{right}");
    }
    let of_an_address =
        "note: backend \"b\": the certificate has to be for the address 10.0.3.1; write";
    let of_a_socket =
        "backend \"b\": a Unix socket has no host that a certificate could be for; write";
    for (server, message) in [
        ("10.0.3.1:443", of_an_address),
        ("unix:b.sock", of_a_socket),
    ] {
        for (tls, place, path) in [
            ("health = { tls = true }", "9:10", "health.tls.name"),
            ("tls = {}", "9:7", "tls.name"),
        ] {
            let found = wrong_backend(&format!("servers = \"{server}\"\n{tls}"));
            let [found] = &*found else {
                panic!("{found:?}");
            };
            let expected = format!("{place}: {message} `{path}`");
            assert!(found.starts_with(&expected), "{found}");
        }
    }
}

#[test]
fn a_minimal_file_has_no_problems() {
    let minimal = "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"[::]:1\"\nbackend = \"b\"\n\
                   [[backend]]\nname = \"b\"\nservers = [\"h:1\"]\n";
    assert_eq!(problems(minimal), [""; 0]);
}

#[test]
fn half_of_the_connections_may_have_an_unfinished_handshake_and_at_most_5_000() {
    let handshakes = |limits: &str| {
        let text = format!(
            "version = 1\nlistener = [{{ name = \"a\", listen = \"[::]:1\", backend = \"b\", {limits} }}]\n\
             [defaults]\nlimits.connections = 30\n[[backend]]\nname = \"b\"\nservers = [\"h:1\"]\n"
        );
        let mut problems = Problems::default();
        let config = Config::parse(&Source::new("gate.toml", &text), &mut problems);
        assert_eq!(problems.errors(), 0);
        config.listeners[0].guards.limits.handshakes()
    };
    assert_eq!(handshakes(""), Some(15));
    assert_eq!(handshakes("limits.connections = 1"), Some(1));
    assert_eq!(handshakes("limits.connections = 9_998"), Some(4_999));
    assert_eq!(handshakes("limits.connections = 1_000_000"), Some(5_000));
    let both = "limits = { connections = 8, handshakes = 9_000 }";
    assert_eq!(handshakes(both), Some(9_000));
    let off = |key: &str| format!("limits.{key} = \"off\"");
    assert_eq!(handshakes(&off("connections")), Some(5_000));
    assert_eq!(handshakes(&off("handshakes")), None);
}

#[test]
fn each_key_of_an_access_list_is_inherited_by_itself() {
    let file = std::env::temp_dir().join(format!("portcullis-networks-{}", std::process::id()));
    let access = |defaults: &str, own: &str| {
        let text = format!(
            "version = 1\nlistener = [{{ name = \"a\", listen = \"[::]:1\", backend = \"b\", access = {{ {own} }} }}]\n\
             [defaults]\naccess = {{ {defaults} }}\n[[backend]]\nname = \"b\"\nservers = [\"h:1\"]\n"
        );
        let text = text.replace("FILE", &file.display().to_string());
        let mut problems = Problems::default();
        let config = Config::parse(&Source::new("gate.toml", &text), &mut problems);
        assert_eq!(problems.errors(), 0, "{:?}", problems.sorted());
        let access = &config.listeners[0].guards.access;
        let show = |networks: Option<_>| {
            networks.map_or("-".into(), |it: portcullis::middleware::ip_set::IpSet| {
                it.to_string()
            })
        };
        [show(access.allow.all()), show(access.deny.all())]
    };
    std::fs::write(&file, "192.0.2.0/24\n").expect("the folder is writable");
    let both = "10.0.0.0/8, 192.0.2.0/24";
    assert_eq!(
        access("deny-file = 'FILE'", "deny = '10.0.0.0/8'"),
        ["-", both]
    );
    assert_eq!(
        access("deny = '10.0.0.0/8'", "deny-file = 'FILE'"),
        ["-", both]
    );
    assert_eq!(
        access("allow-file = 'FILE'", "allow = '10.0.0.0/8'"),
        [both, "-"]
    );
    assert_eq!(
        access("allow = '10.0.0.0/8'", "allow-file = 'FILE'"),
        [both, "-"]
    );
    let own = access("deny = '10.0.0.0/8', allow = '::/0'", "deny = '172.16.0.1'");
    assert_eq!(own, ["::/0", "172.16.0.1"]);
    std::fs::remove_file(&file).expect("it was written");
}

#[test]
fn every_problem_of_a_file_is_reported_at_once_and_in_order() {
    let text = r#"version = 1
[defaults]
timeouts = { idle = "5 min", handshake = "0s" }
[[listener]]
name = "shop"
listen = ":443"
bakend = "shop"
[[listener]]
name = "pg"
listen = "0.0.0.0:5432"
prelude = "postgres"
backend = "shpo"
access = { allow = ["192.0.2.7/24", "10.0.0.0/8", "foo"] }
proxy-protocol = { mode = "required" }
limits = { connections = 0, when-full = "drop" }
[[backend]]
name = "shop"
servers = ["nope", 7]
"#;
    assert_eq!(
        problems(text),
        [
            "3:21: \"5 min\" is not a duration; write \"5m\" (units: ms, s, m, h, d)",
            "3:42: a timeout of zero ends every connection; write \"off\" for none",
            "6:10: \":443\" is not an address to listen on; write \"0.0.0.0:443\" for all IPv4 addresses, or \"[::]:443\"",
            "7:1: unknown key `bakend` in listener \"shop\"; did you mean `backend`?",
            "11:11: listener \"pg\": `prelude` needs `tls` with certificates here; without it there is nothing to start",
            "12:11: listener \"pg\": there is no backend \"shpo\"; the nearest name is \"shop\" (line 17)",
            "13:21: \"192.0.2.7/24\" is not a network: bits are set behind the prefix; 192.0.2.0/24 is the whole network, 192.0.2.7 the address alone",
            "13:51: \"foo\" is not a network: expected an address, optionally with a prefix such as /24",
            "14:18: listener \"pg\": proxy-protocol: `trust` is missing; without it any client could claim any address",
            "15:26: expected a whole number of at least 1",
            "15:41: \"drop\" is unknown here; write one of \"wait\", \"refuse\"",
            "18:12: cannot connect to nope: the port is missing; write host:port, a number or a service name; write \"host:port\" or \"unix:/path\"",
            "18:20: expected a string, found a value of type integer",
        ]
    );
}

#[test]
fn a_wrong_value_of_a_listener_is_reported_with_what_to_write() {
    let cases: &[(&str, &[&str])] = &[
        (
            "limits = { connections = -1 }",
            &["expected a whole number of at least 1"],
        ),
        (
            "limits = { connections = \"many\" }",
            &["expected a whole number of at least 1, found a value of type string"],
        ),
        (
            "limits = { when-full = { wait = \"5s\" } }",
            &["when-full: `at-most` is missing"],
        ),
        (
            "limits = { when-full = { wait = \"5s\", at-most = 0 } }",
            &["expected a whole number of at least 1"],
        ),
        (
            "limits = 7",
            &["expected a table, found a value of type integer"],
        ),
        ("per-client = { burst = 5 }", &["`burst` needs a `rate`"]),
        (
            "per-client = { rate = \"20\" }",
            &["\"20\" is not a rate above 0; write \"20/s\" (units: /s, /m, /h)"],
        ),
        (
            "per-client = { ipv6-prefix = 0 }",
            &["a prefix of IPv6 has 1 to 128 bits; 64 is one site"],
        ),
        (
            "per-client = { ipv6-prefix = 300 }",
            &["expected a whole number from 0 to 255"],
        ),
        (
            "per-client = { refuse = \"drop\" }",
            &["\"drop\" is unknown here; write one of \"close\", \"reset\""],
        ),
        (
            "access = { allow-file = \"/nonexistent/office.txt\" }",
            &[
                "cannot read the networks in /nonexistent/office.txt: No such file or directory (os error 2)",
            ],
        ),
        (
            "access = { allow = 7 }",
            &["expected a string, found a value of type integer"],
        ),
        (
            "timeouts = { idle = 60 }",
            &["expected a duration such as \"10s\", found a value of type integer"],
        ),
        (
            "timeouts = { lifetime-jitter = \"120%\" }",
            &["\"120%\" is not a share; write \"0%\" to \"100%\""],
        ),
        (
            "throughput = { over = \"30s\" }",
            &["listener \"a\": throughput: `min` is missing"],
        ),
        (
            "throughput = { min = \"100 B\" }",
            &[
                "\"100 B\" is not a rate of bytes above 0; write \"5 MiB/s\" (units: B/s, KiB/s, MiB/s, GiB/s)",
            ],
        ),
        (
            "throughput = { min = \"100 B/s\", over = \"10ms\" }",
            &["the time must be at least \"1s\""],
        ),
        (
            "bandwidth = { per-connection = \"fast\" }",
            &[
                "\"fast\" is not a rate of bytes above 0; write \"5 MiB/s\" (units: B/s, KiB/s, MiB/s, GiB/s)",
            ],
        ),
        (
            "proxy-protocol = { mode = \"maybe\", trust = [\"10.0.0.0/8\"] }",
            &["\"maybe\" is unknown here; write one of \"required\", \"optional\", \"off\""],
        ),
        (
            "prelude = \"ftp\", tls = { certificates = [\"c\"] }",
            &[
                "\"ftp\" is unknown here; write one of \"postgres\", \"smtp\", \"imap\", \"pop3\", \"xmpp\"",
            ],
        ),
        (
            "prelude = \"smtp\", tls = { certificates = [\"c\"], required = false }",
            &["clients that go on without TLS cannot be forwarded; write true, or leave it out"],
        ),
        (
            "tls = { certificates = [] }",
            &["at least one certificate is needed to terminate TLS"],
        ),
        (
            "tls = { alpn = [\"h2\"] }",
            &["listener \"a\": tls: `certificates` is missing"],
        ),
        (
            "tls = { certificates = [\"d\"] }",
            &["listener \"a\": there is no certificate \"d\"; the nearest name is \"c\" (line 7)"],
        ),
        (
            "tls = { certificates = [\"c\"], default = \"d\" }",
            &["listener \"a\": tls: `certificates` lacks the default \"d\""],
        ),
        (
            "tls = { certificates = [\"c\"], default = true }",
            &["expected a string, found a value of type boolean"],
        ),
        (
            "tls = { certificates = [\"c\"], min-version = \"1.1\" }",
            &["\"1.1\" is unknown here; write one of \"1.2\", \"1.3\""],
        ),
        (
            "tls = { certificates = [\"c\"], client = { auth = \"required\" } }",
            &[
                "listener \"a\": tls: client: `roots` is missing; it names the authorities whose certificates are accepted",
            ],
        ),
        (
            "tls = { certificates = [\"c\"], client = { roots = \"ca.pem\", allow = [\"shop\"] } }",
            &[
                "\"shop\" is not a name in a certificate; write \"dns:host.example\" or \"uri:spiffe://…\"",
            ],
        ),
        (
            "route = [{ backend = \"b\" }]",
            &[
                "listener \"a\": `backend` and `route` exclude each other; a route without `names` is the default",
            ],
        ),
    ];
    for (line, messages) in cases {
        assert_eq!(wrong(line), *messages, "{line}");
    }
}

#[test]
fn a_wrong_value_of_a_backend_is_reported_at_its_place() {
    let cases: &[(&str, &[&str])] = &[
        ("servers = []", &["8:11: at least one server is needed"]),
        (
            "servers = \"h\"",
            &[
                "8:11: cannot connect to h: the port is missing; write host:port, a number or a service name; write \"host:port\" or \"unix:/path\"",
            ],
        ),
        (
            "balance = \"random\"",
            &[
                "8:11: \"random\" is unknown here; write one of \"least-connections\", \"round-robin\", \"hash\", \"first\"",
            ],
        ),
        (
            "health = \"ping\"",
            &["8:10: \"ping\" is unknown here; write one of \"tcp\", \"off\""],
        ),
        (
            "health = { http = \"x\" }",
            &["8:19: the path of a check begins with \"/\""],
        ),
        (
            "health = { http = \"/\", tls = true }",
            &["8:10: backend \"b\": health: keep one of `http`, `tls` and `send`"],
        ),
        (
            "health = { tls = true, expect = \"220\" }",
            &[
                "8:24: unknown key `expect` in backend \"b\": health; known keys are `fall`, `host`, `http`, `interval`, `on-down`, `port`, `rise`, `send`, `timeout`, `tls`",
            ],
        ),
        (
            "health = { tls = { nmae = \"h\" } }",
            &["8:20: unknown key `nmae` in backend \"b\": health: tls; did you mean `name`?"],
        ),
        (
            "health = { send = \"PING\" }",
            &["8:10: backend \"b\": health: `expect` is missing"],
        ),
        (
            "health = { http = \"/\", expect = [] }",
            &["8:33: at least one value is needed"],
        ),
        (
            "health = { send = \"PING\", expect = [\"+PONG\", \"\"] }",
            &["8:46: this string is empty"],
        ),
        (
            "tls = { certificate = \"x\" }",
            &["8:23: backend \"b\": there is no certificate \"x\"; write [[certificate]]"],
        ),
        (
            "health = { interval = \"1ms\" }",
            &["8:23: the time must be at least \"100ms\""],
        ),
        (
            "proxy-protocol = { version = 3 }",
            &["8:30: the PROXY protocol has the versions 1 and 2"],
        ),
        (
            "proxy-protocol = { version = 1, send = [\"alpn\"] }",
            &["8:40: only version 2 of the PROXY protocol has fields"],
        ),
        (
            "when-none-healthy = \"panic\"",
            &["8:21: \"panic\" is unknown here; write one of \"refuse\", \"try-all\""],
        ),
        (
            "connect-timeout = \"0s\"",
            &["8:19: a timeout of zero fails every connect"],
        ),
        (
            "server = [{ address = \"h:1\", weight = 0 }]",
            &["8:39: a weight is a number from 1 to 1000; 100 is the default"],
        ),
        (
            "servers = \"h:0\"",
            &["8:11: a server has a port from 1 to 65535"],
        ),
        (
            "health = { http = \"/\", port = 0 }",
            &["8:31: a server has a port from 1 to 65535"],
        ),
        (
            "servers = [\"h:1\", \"h:2\", \"h:1\"]",
            &["8:26: backend \"b\": server h:1 is listed twice; the other one is in line 8"],
        ),
        (
            "tls = { name = \"two words\" }",
            &[
                "8:16: \"two words\" is neither a host name nor an address, so no certificate has it",
            ],
        ),
        (
            "drain = 5",
            &["8:9: expected a duration such as \"10s\", found a value of type integer"],
        ),
        (
            "server = [{ weight = 5 }]",
            &["8:11: backend \"b\": server: `address` is missing"],
        ),
    ];
    for (line, messages) in cases {
        assert_eq!(wrong_backend(line), *messages, "{line}");
    }
}

#[test]
fn a_listener_and_its_backend_request_tls_in_the_same_protocol() {
    for (prelude, expected) in [
        ("smtp", None),
        (
            "imap",
            Some(
                "6:11: listener \"a\": `prelude` differs from that of `tls` of backend \"b\" (line 11)",
            ),
        ),
    ] {
        let text = format!(
            "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"[::1]:1\"\nbackend = \"b\"\nprelude = \"{prelude}\"\n\
             tls.certificates = \"c\"\n[[backend]]\nname = \"b\"\nservers = \"h:1\"\ntls.prelude = \"smtp\"\n\
             [[certificate]]\nname = \"c\"\nchain = \"c.pem\"\nkey = \"c.key\"\n"
        );
        assert_eq!(problems(&text), Vec::from_iter(expected));
    }
}

#[test]
fn a_wrong_admin_section_is_reported_with_what_to_write() {
    let cases: &[(&str, &[&str])] = &[
        ("", &["2:1: [admin]: `listen` is missing"]),
        ("listen = \"127.0.0.1:9900\"", &[]),
        ("listen = \"unix:/run/a\"", &[]),
        (
            "listen = \"0.0.0.0:9900\"",
            &["3:10: admin: 0.0.0.0:9900 is open to other machines, and there is no `token-file`"],
        ),
        (
            "listen = \"[::1]:9900\"\ntoken = \"hunter2hunter2hunter2\"",
            &[
                "4:9: a token is never written here; write \"env:NAME\" for an environment variable, or `token-file`",
            ],
        ),
        (
            "listen = \"[::1]:9900\"\ntoken = \"env:A\"\ntoken-file = \"a\"",
            &["4:9: write `token` or `token-file`, not both"],
        ),
        (
            "listen = \"[::1]:9900\"\nprotect = \"none\"",
            &["4:11: \"none\" is unknown here; write one of \"changes\", \"all\""],
        ),
        (
            "listen = \"[::1]:9900\"\ntls.certificates = \"x\"",
            &["4:20: admin: there is no certificate \"x\"; write [[certificate]]"],
        ),
        (
            "listen = \"[::1]:1\"",
            &["3:10: admin: [::1]:1 is taken by listener \"a\" (line 6)"],
        ),
    ];
    for (lines, messages) in cases {
        let text = format!(
            "version = 1\n[admin]\n{lines}\n[[listener]]\nname = \"a\"; listen = \"[::1]:1\"; backend = \"b\"\n\
             [[backend]]\nname = \"b\"; servers = \"h:1\"\n"
        );
        assert_eq!(problems(&text.replace("; ", "\n")), *messages, "{lines}");
    }
}

/// The problems of a file with these listeners, before backends `b` and `d`.
fn of_listeners(listeners: &str) -> Vec<String> {
    problems(&format!(
        "version = 1\n{listeners}\n[[backend]]\nname = \"b\"\nservers = \"h:1\"\n\
         [[backend]]\nname = \"d\"\nservers = \"h:2\"\n"
    ))
}

#[test]
fn listeners_that_cannot_be_opened_together_are_reported() {
    let two = |one: &str, other: &str| {
        of_listeners(&format!(
            "listener = [{{ name = \"x\", listen = {one}, backend = \"b\" }},\n\
             {{ name = \"y\", listen = {other}, backend = \"d\" }}]"
        ))
    };
    assert_eq!(
        two("\"0.0.0.0:443\"", "[\"192.0.2.1:443\", \"192.0.2.1:444\"]"),
        ["3:25: listener \"y\": 192.0.2.1:443 is a part of 0.0.0.0:443 of listener \"x\" (line 2)"]
    );
    let with_admin = of_listeners(
        "listener = [{ name = \"x\", listen = \"0.0.0.0:9900\", backend = \"b\" },\n\
         { name = \"y\", listen = \"[::]:9900\", backend = \"d\" }]\nadmin.listen = \"127.0.0.1:9900\"",
    );
    assert_eq!(
        with_admin,
        ["4:16: admin: 127.0.0.1:9900 is a part of 0.0.0.0:9900 of listener \"x\" (line 2)"]
    );
    assert_eq!(
        two("\"[::]:443\"", "\"[::]:443\""),
        ["3:24: listener \"y\": [::]:443 is taken by listener \"x\" (line 2)"]
    );
    // `[::]` is for IPv6 alone.
    assert_eq!(
        two("[\"0.0.0.0:443\", \"[::]:443\"]", "\"[::1]:444\""),
        [""; 0]
    );
    assert_eq!(
        two("\"127.0.0.1:0\"", "\"0.0.0.0:0\""),
        [""; 0],
        "the system chooses the ports"
    );
}

#[test]
fn routes_that_contradict_each_other_are_reported() {
    let routes = |routes: &str| {
        of_listeners(&format!(
            "[[listener]]\nname = \"x\"\nlisten = \"[::]:1\"\nroute = [{routes}]"
        ))
    };
    let to = |name: &str, backend: &str| {
        format!("{{ names = \"{name}\", pass = true, backend = \"{backend}\" }}")
    };
    let found = routes(&format!(
        "{}, {}",
        to("*.a.test", "b"),
        to("Pay.a.test", "d")
    ));
    assert_eq!(
        found,
        [
            "5:72: note: listener \"x\": \"*.a.test\" and \"Pay.a.test\" lead to different backends; the exact name takes precedence"
        ]
    );
    // One backend, and deeper names, which do not match the wildcard.
    let found = routes(&format!(
        "{}, {}",
        to("*.a.test", "b"),
        to("pay.a.test", "b")
    ));
    assert_eq!(
        found,
        ["10:8: note: backend \"d\" is not used by any listener"]
    );
    let found = routes(&format!(
        "{}, {}",
        to("*.a.test", "b"),
        to("x.pay.a.test", "d")
    ));
    assert_eq!(found, [""; 0]);
    let found = routes("{ names = \"a.test\", pass = true, refuse = \"close\" }");
    assert!(
        found[0].ends_with("a refused client has no handshake; remove `tls` and `pass`"),
        "{found:?}"
    );
}

/// Whatever is in a file, it is read without a panic.
#[test]
fn a_damaged_file_is_reported_and_never_panics() {
    let (_, example) = PAGE
        .split_once("```toml\n")
        .expect("the page has an example");
    let (example, _) = example.split_once("```").expect("the example ends");
    let mut state = 7_u64;
    let mut random = |end: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % end
    };
    let words = [
        "\"off\"", "0", "-1", "[]", "{}", "=", "[[", "\"\"", "\u{0}", "\u{fe}", "1e9", "\"x:0\"",
    ];
    for _ in 0..2_000 {
        let mut text: Vec<_> = example.chars().collect();
        for _ in 0..=random(4) {
            let at = random(text.len());
            let end = (at + random(12)).min(text.len());
            let word = words[random(words.len())].chars();
            text.splice(at..end, word);
        }
        // Files of other names are not there, which is a problem of its own.
        problems(&text.into_iter().collect::<String>());
    }
}

/// The page of all keys, which is held to the code.
const PAGE: &str = include_str!("../configuration.md");

#[test]
fn the_page_describes_exactly_the_keys_that_are_read() {
    let (_, example) = PAGE
        .split_once("```toml\n")
        .expect("the page has an example");
    let (example, _) = example.split_once("```").expect("the example ends");
    let (known, mut found) = (RefCell::default(), Problems::default());
    let source = Source::new("gate.toml", example);
    Config::parse_noting(&source, &mut found, Some(&known));
    let texts: Vec<_> = found.sorted().iter().map(ToString::to_string).collect();
    assert_eq!(texts, [""; 0], "the example has problems");

    // The tables of guards stand in the defaults, too, and that of TLS in routes.
    let repeated = |key: &str| {
        let prefixes = ["defaults.", "listener.route.tls", "admin.tls."];
        prefixes.iter().any(|prefix| key.starts_with(prefix))
    };
    let tables = [
        "limits",
        "per-client",
        "access",
        "timeouts",
        "throughput",
        "bandwidth",
        "queue",
    ];
    let is_table = |key: &str| {
        let last = key.rsplit('.').next().unwrap_or(key);
        let tls = [
            "proxy-protocol",
            "tls",
            "client",
            "tickets",
            "route",
            "server",
        ];
        key.contains('.')
            && (tables.contains(&last) || tls.contains(&last))
            && !["admin.tls", "backend.health.tls", "log.access"].contains(&key)
    };
    let mut read: Vec<_> = known.into_inner();
    read.retain(|key| !repeated(key) && !is_table(key));
    read.sort();
    read.dedup();

    let mut described: Vec<_> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(key, _)| key.to_owned())
        .collect();
    described.sort();
    assert_eq!(described, read);
}

#[test]
fn srv_records_need_the_feature_and_a_service_name() {
    let written = wrong_backend("servers = [\"srv:_pg._tcp.internal\"]");
    let misspelt = wrong_backend("servers = [\"srv:pg.internal\"]");
    if cfg!(feature = "dns") {
        assert_eq!(written, [""; 0]);
        assert_eq!(
            misspelt,
            [
                "8:12: cannot connect to srv:pg.internal: SRV records have a name such as srv:_postgresql._tcp.internal"
            ]
        );
    } else {
        assert_eq!(
            written,
            [
                "8:12: cannot connect to srv:_pg._tcp.internal: SRV records need the feature `dns`, which is not compiled in"
            ]
        );
    }
}

#[test]
fn a_name_is_a_segment_of_a_url() {
    for (name, is_right) in [
        ("a", true),
        ("9-a_b.c", true),
        ("constructor", true),
        ("", false),
        (".", false),
        ("..", false),
        ("-a", false),
        ("__proto__", false),
        ("a/b", false),
    ] {
        let text = format!(
            "version = 1\n[[listener]]\nname = \"{name}\"\nlisten = \"[::]:1\"\nbackend = \"b\"\n\
             [[backend]]\nname = \"b\"\nservers = [\"h:1\"]\n"
        );
        assert_eq!(problems(&text).is_empty(), is_right, "{name}");
    }
}

#[test]
fn keys_that_have_no_use_where_they_are_and_wrong_modes_are_reported() {
    let listener = |keys: &str| {
        problems(&format!(
            "version = 1\n[[listener]]\nname = \"a\"\nbackend = \"b\"\n{keys}\n\
             [[backend]]\nname = \"b\"\nservers = \"h:1\"\n"
        ))
    };
    let of_tcp = "it is for sockets with a path; none is in `listen`";
    let of_unix = "it is for TCP; all addresses here are Unix sockets";
    let bounds = "a buffer has at least 4 KiB and at most 512 MiB";
    for (keys, problem) in [
        ("listen = \"127.0.0.1:1\"\nsocket-mode = \"0660\"", of_tcp),
        (
            "listen = \"unix:a\"\nsocket-mode = \"0999\"",
            "\"0999\" is not a mode in octal digits, such as \"0660\"",
        ),
        (
            "listen = \"unix:a\"\nsocket-mode = \"+66\"",
            "is not a mode",
        ),
        (
            "listen = \"unix:a\"\nsocket-mode = 660",
            "a mode in octal digits",
        ),
        ("listen = \"unix:a\"\nsend-buffer = \"1 MiB\"", of_unix),
        ("listen = \"127.0.0.1:1\"\nsend-buffer = \"4095 B\"", bounds),
        (
            "listen = \"127.0.0.1:1\"\nreceive-buffer = \"513 MiB\"",
            bounds,
        ),
        (
            "listen = \"127.0.0.1:1\"\nreceive-buffer = 4096",
            "a size such as \"64 KiB\"",
        ),
    ] {
        let problems = listener(keys);
        assert!(
            problems.len() == 1 && problems[0].contains(problem),
            "{problems:?}"
        );
    }
    assert_eq!(
        listener("listen = [\"127.0.0.1:1\", \"unix:a\"]\nsocket-mode = \"660\""),
        [""; 0]
    );
    for sizes in [
        "receive-buffer = \"4 KiB\"\nsend-buffer = \"512 MiB\"",
        "send-buffer = \"off\"",
    ] {
        for listen in ["[\"127.0.0.1:1\", \"unix:a\"]", "\"fd:a\""] {
            assert_eq!(listener(&format!("listen = {listen}\n{sizes}")), [""; 0]);
        }
    }
    for (keys, problem) in [
        ("receive-buffer = \"1 B\"", bounds),
        ("servers = \"unix:/a\"\nreceive-buffer = \"1 MiB\"", of_unix),
    ] {
        let problems = wrong_backend(keys);
        assert!(
            problems.len() == 1 && problems[0].contains(problem),
            "{problems:?}"
        );
    }
    let host =
        |host: &str| wrong_backend(&format!("health = {{ http = \"/\", host = \"{host}\" }}"));
    assert!(host("a b")[0].contains("a host is a name or an address"));
    let alone = wrong_backend("health = { host = \"shop.example\" }");
    assert!(alone[0].contains("it is for `http`"), "{alone:?}");
}

#[test]
fn a_drain_lasts_longer_than_its_announcement() {
    let problems = |drain: &str| problems(&format!("version = 1\n[drain]\n{drain}\n"));
    let is_reported = |drain: &str, deadline: &str| {
        let problems = problems(drain);
        let keys = ["drain.announce", "drain.deadline", deadline];
        problems
            .iter()
            .any(|it| keys.iter().all(|key| it.contains(key)))
    };
    assert!(is_reported("announce = \"5s\"\ndeadline = \"1s\"", "1s"));
    assert!(is_reported("announce = \"30s\"", "30s by default"));
    for fine in [
        "announce = \"29s\"",
        "announce = \"0s\"\ndeadline = \"0s\"",
        "deadline = \"1s\"",
    ] {
        let problems = problems(fine);
        assert!(
            problems.iter().all(|it| !it.contains("drain.")),
            "{problems:?}"
        );
    }
}

#[test]
fn the_number_of_endings_is_limited() {
    let of = |endings| {
        format!(
            "version = 1\n[admin]\nlisten = \"127.0.0.1:1\"\nendings = {endings}\n\
             [[listener]]\nname = \"a\"\nlisten = \"[::]:1\"\nbackend = \"b\"\n\
             [[backend]]\nname = \"b\"\nservers = [\"h:1\"]\n"
        )
    };
    assert_eq!(problems(&of("10_000")), [""; 0]);
    let too_many = problems(&of("10_001"));
    assert_eq!(too_many, ["4:11: admin: up to 10,000 endings are kept"]);
}

#[test]
fn a_syntax_error_is_reported_without_what_follows_from_it() {
    let file = |servers: &str| {
        format!(
            "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"[::]:1\"\nbackend = \"b\"\n\
             [[backend]]\nname = \"b\"\n{servers}\n"
        )
    };
    for (servers, error) in [
        (
            "servers = \"h:1\", \"h:2\"",
            "; write [ ] around several values",
        ),
        ("servers = [\"h:1\"]\nbalance = ", ""),
        ("servers = [\"h:1\"", ""),
        ("servers", ""),
    ] {
        let found = problems(&file(servers));
        assert_eq!(found.len(), 1, "{servers}: {found:?}");
        assert!(found[0].ends_with(error), "{found:?}");
    }
    // A value that could be read is still checked.
    let found = problems(&file("servers = [\"h\"]\nbalance = "));
    assert_eq!(found.len(), 2, "{found:?}");
    let twice = "servers = [\"h:1\"]\nservers = [\"h:2\"]";
    assert_eq!(problems(&file(twice)), ["9:1: duplicate key `servers`"]);
}

#[test]
fn servers_under_the_name_of_their_tables_are_told_the_right_key() {
    for line in ["server = \"h:1\"", "server = [\"h:1\"]"] {
        let found = wrong_backend(line);
        let message =
            "8:10: write `servers` for addresses; [[backend.server]] has settings for each";
        assert_eq!(found, [message], "{line}");
    }
}

#[test]
fn a_number_that_is_too_large_is_said_to_be() {
    let number = "99999999999999999999";
    assert_eq!(
        wrong(&format!("limits = {{ connections = {number} }}")),
        ["this number is too large; expected a whole number of at least 1"]
    );
    let port = wrong_backend("health = { http = \"/\", port = 65536 }");
    let message = ": expected a whole number from 0 to 65535";
    assert!(port[0].ends_with(message), "{port:?}");
}

#[test]
fn a_configuration_without_a_listener_is_noted() {
    let note = "1:1: note: there is no [[listener]], so nothing is served";
    assert_eq!(problems("version = 1\n"), [note]);
    let backend = "version = 1\n[[backend]]\nname = \"b\"\nservers = \"h:1\"\n";
    assert_eq!(problems(backend)[0], note);
}
