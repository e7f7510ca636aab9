use super::{Change, Concerns, When, changes, keys::KEYS};
use crate::config::{Config, Problems, Source};
use std::collections::BTreeMap;

const BASE: &str = r#"version = 1
[[listener]]
name = "shop"
listen = "0.0.0.0:443"
backend = "shop"
per-client = { connections = 200 }
[[backend]]
name = "shop"
servers = ["10.0.1.10:8080", "10.0.1.11:8080"]
"#;

fn config(text: &str) -> Config {
    let mut problems = Problems::default();
    let config = Config::parse(&Source::new("gate.toml", text), &mut problems);
    assert_eq!(problems.errors(), 0, "{:?}", problems.sorted());
    config
}

/// The changes that replacing `old` by `new` in the base makes.
fn replacing(old: &str, new: &str) -> Vec<Change> {
    assert!(BASE.contains(old));
    changes(&config(BASE), &config(&BASE.replace(old, new)))
}

fn words(changes: &[Change]) -> Vec<String> {
    let words = |it: &Change| format!("{}: {} -> {}", it.key, it.from, it.to);
    changes.iter().map(words).collect()
}

#[test]
fn the_same_configuration_in_other_words_changes_nothing() {
    let same = BASE.replace(
        "per-client = {",
        "timeouts.idle = \"3600s\"\nper-client = {",
    );
    let same = same.replace(
        "version = 1",
        "version = 1\n[defaults]\nlimits.handshakes = 5_000",
    );
    assert_eq!(changes(&config(BASE), &config(&same)), []);
}

#[test]
fn a_changed_key_says_from_what_to_what_when_and_for_whom() {
    let changes = replacing("200", "100");
    assert_eq!(
        changes,
        [Change {
            key: "listener \"shop\": per-client.connections".into(),
            from: "200".into(),
            to: "100".into(),
            when: When::All,
            effect: "the ones beyond a smaller limit stay".into(),
            concerns: Concerns::Listeners(["shop".to_owned()].into()),
        }]
    );
}

#[test]
fn a_default_is_a_value_like_any_other() {
    let text = format!("{BASE}[defaults]\ntimeouts.idle = \"5m\"\n");
    let changes = changes(&config(BASE), &config(&text));
    assert_eq!(
        words(&changes),
        ["listener \"shop\": timeouts.idle: 1h -> 5m"]
    );
}

#[test]
fn an_address_that_a_socket_of_before_prevents_waits_for_a_restart() {
    let one = replacing("0.0.0.0:443", "10.0.0.1:443");
    let other = BASE.replace("name = \"shop\"\nlisten", "name = \"till\"\nlisten");
    let other = changes(
        &config(BASE),
        &config(&other.replace("0.0.0.0:443", "10.0.0.1:443")),
    );
    for (key, changes) in [
        ("listener \"shop\": listen", one),
        ("listener \"till\"", other),
    ] {
        let change = changes.iter().find(|it| it.key == key).expect(key);
        assert_eq!(change.when, When::Restart);
        let expected = "a reload fails, because listener \"shop\" has 0.0.0.0:443";
        assert_eq!(change.effect, expected);
    }
    for possible in ["[::]:443", "0.0.0.0:444"] {
        let changes = replacing("0.0.0.0:443", possible);
        assert_eq!(changes[0].when, When::All, "{possible}");
    }
}

#[test]
fn listeners_backends_and_servers_come_and_go() {
    let renamed = replacing("name = \"shop\"\nlisten", "name = \"till\"\nlisten");
    assert_eq!(
        words(&renamed),
        [
            "listener \"shop\": 0.0.0.0:443 -> none",
            "listener \"till\": none -> 0.0.0.0:443",
        ]
    );
    assert_eq!(
        renamed.iter().map(|it| &*it.effect).collect::<Vec<_>>(),
        [
            "its socket goes to listener \"till\"; its connections are force-closed after 30s",
            "it gets the socket of listener \"shop\"",
        ]
    );
    let text = BASE.replace("name = \"shop\"\nlisten", "name = \"till\"\nlisten");
    let replaced = changes(&config(BASE), &config(&text.replace(":443", ":444")));
    assert_eq!(
        replaced.iter().map(|it| &*it.effect).collect::<Vec<_>>(),
        [
            "it closes; its connections are force-closed after 30s",
            "it listens",
        ]
    );

    let moved = replacing("10.0.1.11:8080", "10.0.1.12:8080");
    assert_eq!(
        words(&moved),
        [
            "backend \"shop\": server 10.0.1.11:8080: in use -> none",
            "backend \"shop\": server 10.0.1.12:8080: none -> added",
        ]
    );
    let removed = Concerns::Server {
        backend: "shop".into(),
        address: "10.0.1.11:8080".into(),
    };
    assert_eq!(moved[0].concerns, removed);
}

#[test]
fn an_admin_interface_comes_moves_and_goes_at_once() {
    let with = |listen: &str| format!("{BASE}[admin]\nlisten = \"{listen}\"\n");
    let [none, one, two] = [BASE, &with("127.0.0.1:1"), &with("127.0.0.1:2")].map(config);
    let facts = |from: &Config, to: &Config| {
        let [change] = &*changes(from, to) else {
            panic!("one thing has changed");
        };
        assert_eq!(change.concerns, Concerns::None);
        (words(std::slice::from_ref(change)).remove(0), change.when)
    };
    let added = facts(&none, &one);
    assert_eq!(added, ("admin: none -> 127.0.0.1:1".into(), When::All));
    let moved = facts(&one, &two);
    assert_eq!(
        moved,
        ("admin.listen: 127.0.0.1:1 -> 127.0.0.1:2".into(), When::All)
    );
    let removed = facts(&one, &none);
    assert_eq!(removed, ("admin: 127.0.0.1:1 -> none".into(), When::All));

    let elsewhere = BASE.replace("0.0.0.0:443", "0.0.0.0:444");
    let prevented = format!("{elsewhere}[admin]\nlisten = \"127.0.0.1:443\"\n");
    let prevented = changes(&none, &config(&prevented));
    let admin = prevented
        .iter()
        .find(|it| it.key == "admin")
        .expect("it is new");
    let expected = "a reload fails, because listener \"shop\" has 0.0.0.0:443";
    assert_eq!((&*admin.effect, admin.when), (expected, When::Restart));

    let taken = BASE.replace("0.0.0.0:443", "127.0.0.1:1");
    let effects = |from: &Config, to: &Config| -> Vec<String> {
        let changes = changes(from, to).into_iter();
        changes.map(|it| it.effect).collect()
    };
    let to_listener = effects(&one, &config(&taken));
    assert_eq!(to_listener[0], "its socket goes to listener \"shop\"");
    let renamed = taken.replace("name = \"shop\"\nlisten", "name = \"till\"\nlisten");
    let renamed = effects(&one, &config(&renamed));
    let expected = "it gets the socket of the admin interface";
    assert!(renamed.iter().any(|it| it == expected), "{renamed:?}");
}

#[test]
fn a_health_check_changes_at_once_and_keeps_the_state_of_servers() {
    let text = BASE.replace("servers =", "health = { interval = \"1s\" }\nservers =");
    let changes = changes(&config(BASE), &config(&text));
    assert_eq!(
        words(&changes),
        ["backend \"shop\": health.interval: 5s -> 1s"]
    );
    assert_eq!(changes[0].when, When::All);
    assert!(changes[0].effect.contains("keep their state"));
}

#[test]
fn a_certificate_concerns_the_listeners_whose_servers_are_shown_it() {
    let text = format!(
        "{BASE}tls.certificate = \"gate\"\n\
         [[certificate]]\nname = \"gate\"\nchain = \"old.pem\"\nkey = \"gate.key\"\n"
    );
    let changes = changes(&config(&text), &config(&text.replace("old.pem", "new.pem")));
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert!(changes[0].key.starts_with("certificate \"gate\": "));
    let concerns = Concerns::Listeners(["shop".to_owned()].into());
    assert_eq!(changes[0].concerns, concerns);
}

#[test]
fn networks_are_compared_as_sets() {
    let listed =
        |allow: &str| BASE.replace("per-client", &format!("access.allow = {allow}\nper-client"));
    let halves = config(&listed("[\"10.0.0.0/9\", \"10.128.0.0/9\"]"));
    let whole = config(&listed("\"10.0.0.0/8\""));
    assert_eq!(changes(&halves, &whole), []);
    let all = changes(&config(BASE), &whole);
    assert_eq!(
        words(&all),
        ["listener \"shop\": access.allow: all -> 10.0.0.0/8"]
    );
}

#[test]
fn with_recheck_a_stricter_rule_closes_open_connections() {
    let effect = |recheck: bool| {
        let keys = format!("recheck = {recheck}\nper-client");
        let from = BASE.replace("per-client", &keys);
        let to = from.replace("per-client", "access.deny = \"192.0.2.0/24\"\nper-client");
        let [change] = &*changes(&config(&from), &config(&to)) else {
            panic!("one key has changed");
        };
        (change.when, change.effect.clone())
    };
    assert_eq!(
        effect(true),
        (
            When::All,
            "those that would be rejected now are closed".into()
        )
    );
    assert_eq!(
        effect(false),
        (When::Next, "open connections keep what they have".into())
    );
}

#[test]
fn the_default_certificate_is_shown_as_it_takes_effect_also_of_the_admin_interface() {
    let with = |tls: &str| {
        let listener = format!("tls = {{ {tls} }}\nper-client");
        let certificates = ["a", "b"].map(|name| {
            format!(
                "[[certificate]]\nname = \"{name}\"\nchain = \"{name}.pem\"\nkey = \"{name}.key\"\n"
            )
        });
        let admin = format!("[admin]\nlisten = \"127.0.0.1:9900\"\ntls = {{ {tls} }}\n");
        config(&(BASE.replace("per-client", &listener) + &certificates.concat() + &admin))
    };
    let one = with("certificates = \"a\"");
    let two = with("certificates = [\"a\", \"b\"]");
    let second = with("certificates = [\"a\", \"b\"], default = \"b\"");
    assert_eq!(
        words(&changes(&one, &two)),
        [
            "admin.tls.certificates: a -> a, b",
            "admin.tls.default: a -> none",
            "listener \"shop\": tls.certificates: a -> a, b",
            "listener \"shop\": tls.default: a -> none",
        ]
    );
    let changes = changes(&two, &second);
    assert_eq!(
        words(&changes),
        [
            "admin.tls.default: none -> b",
            "listener \"shop\": tls.default: none -> b",
        ]
    );
    assert_eq!(changes[0].concerns, Concerns::None);
    assert_eq!(changes[1].when, When::Next);
}

#[test]
fn the_order_of_servers_is_a_change_where_the_first_one_is_used() {
    let in_order = "\"10.0.1.10:8080\", \"10.0.1.11:8080\"";
    let swapped = "\"10.0.1.11:8080\", \"10.0.1.10:8080\"";
    assert_eq!(replacing(in_order, swapped), []);

    let first = BASE.replace("servers =", "balance = \"first\"\nservers =");
    let changes = changes(&config(&first), &config(&first.replace(in_order, swapped)));
    assert_eq!(
        words(&changes),
        [
            "backend \"shop\": order of servers: 10.0.1.10:8080, 10.0.1.11:8080 -> \
          10.0.1.11:8080, 10.0.1.10:8080"
        ]
    );
}

#[test]
fn routes_are_known_by_what_they_take() {
    let routes = |routes: &str| {
        BASE.replace(
            "backend = \"shop\"\nper-client",
            &format!("route = [{routes}]\nper-client"),
        )
    };
    let one =
        routes("{ names = \"a.test\", pass = true, backend = \"shop\" }, { refuse = \"close\" }");
    let two = routes("{ protocol = \"ssh\", backend = \"shop\" }, { refuse = \"reset\" }");
    let changes = changes(&config(&one), &config(&two));
    assert_eq!(
        words(&changes),
        [
            "listener \"shop\": route a.test: backend shop -> none",
            "listener \"shop\": default route: refuse: close -> reset",
            "listener \"shop\": route ssh: none -> backend shop",
        ]
    );
}

#[test]
fn a_buffer_that_is_no_longer_limited_takes_a_restart_and_another_size_does_not() {
    let with = |size: &str| {
        let key = format!("name = \"shop\"\nsend-buffer = \"{size}\"\nlisten");
        config(&BASE.replace("name = \"shop\"\nlisten", &key))
    };
    let (base, small, large) = (config(BASE), with("64 KiB"), with("1 MiB"));
    let kept = "open connections keep what they have";
    let restart = "nothing changes until the program is started again";
    for (from, to, when, effect) in [
        (&base, &large, When::Next, kept),
        (&large, &small, When::Next, kept),
        (&small, &with("off"), When::Restart, restart),
        (&small, &base, When::Restart, restart),
    ] {
        let changes = changes(from, to);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!((changes[0].when, &*changes[0].effect), (when, effect));
    }
}

/// The page of all keys, which is held to the table.
const PAGE: &str = include_str!("../configuration.md");

#[test]
fn the_page_says_of_each_key_what_a_reload_does() {
    let rows = PAGE.lines().filter_map(|line| {
        let (key, rest) = line.strip_prefix("| `")?.split_once('`')?;
        let (_, column) = rest.strip_suffix('|')?.rsplit_once('|')?;
        Some((key, column.trim()))
    });
    let page: BTreeMap<_, _> = rows.collect();
    let expected = KEYS.iter().map(|key| {
        let off = match key.off_at_start {
            true => "`\"off\"`: restart",
            false => "",
        };
        let parts = [key.when.word(), key.note, off];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        (key.path, parts.join("; "))
    });
    let expected: BTreeMap<_, _> = expected.collect();
    assert_eq!(
        expected.len(),
        KEYS.len(),
        "a key stands twice in the table"
    );
    let shown: BTreeMap<_, _> = expected.iter().map(|(key, text)| (*key, &**text)).collect();
    for (key, column) in &shown {
        assert_eq!(page.get(key), Some(column), "{key}");
    }
    let of = |map: &BTreeMap<&str, &str>| map.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(of(&page), of(&shown));
}
