//! Random configurations, and random clients for them.

use super::{Client, Shown, Speaks, Via};
use crate::config::{Listener, Target};
use portcullis::middleware::peek::Protocol;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use std::{
    env, fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process,
};

/// For configurations whose servers are not connected to.
pub(super) const SERVERS: [&str; 1] = ["127.0.0.1:1"];

/// SplitMix64.
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Each of them or not.
    fn some<'a, T>(&mut self, all: &'a [T]) -> Vec<&'a T> {
        all.iter().filter(|_| self.one_in(2)).collect()
    }
}

/// Certificates in a folder of their own.
pub(super) struct Files {
    folder: PathBuf,
    /// The chain and the key, in PEM, of what clients show.
    pub(super) clients: Vec<(String, String)>,
}

impl Files {
    pub(super) fn new() -> Self {
        let folder = env::temp_dir().join(format!("portcullis-explain-{}", process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let (ours, other) = (authority(), authority());
        let site = sign(&ours, &["a.test", "*.b.test"]);
        let other_site = sign(&ours, &["x.a.test", "c.test"]);
        for (name, text) in [
            ("c.pem", &site.0),
            ("c.key", &site.1),
            ("d.pem", &other_site.0),
            ("d.key", &other_site.1),
            ("ca.pem", &ours.pem()),
            ("ca.crl", &revoking(&ours, REVOKED)),
        ] {
            fs::write(folder.join(name), text).expect("the folder is writable");
        }
        let clients = vec![
            sign(&ours, &["batch.mesh"]),
            sign(&ours, &["other.mesh"]),
            sign(&other, &["batch.mesh"]),
            sign_with(&ours, &["batch.mesh"], Some(REVOKED)),
        ];
        Self { folder, clients }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a certificate")
}

fn sign(authority: &CertifiedIssuer<'static, KeyPair>, names: &[&str]) -> (String, String) {
    sign_with(authority, names, None)
}

fn sign_with(
    authority: &CertifiedIssuer<'static, KeyPair>,
    names: &[&str],
    serial: Option<u64>,
) -> (String, String) {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("valid names");
    params.serial_number = serial.map(SerialNumber::from);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

/// A list of revoked certificates, in PEM, with this serial number.
fn revoking(authority: &CertifiedIssuer<'static, KeyPair>, serial: u64) -> String {
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: date_time_ymd(2020, 1, 2),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(2099, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let signed = list.signed_by(authority).expect("a list");
    signed.pem().expect("it is DER")
}

/// The serial number of the revoked certificate.
const REVOKED: u64 = 77;

/// Addresses of clients, and of proxies that are trusted (the first two) or not.
const SOCKETS: [&str; 4] = ["127.0.0.1", "127.0.0.2", "127.200.0.1", "127.200.0.2"];
const BEHIND: [&str; 8] = [
    "198.51.100.1",
    "198.51.100.2",
    "203.0.113.1",
    "203.0.113.2",
    "2001:db8:1:1::7",
    "2001:db8:1:1::8",
    "2001:db8:1:2::7",
    "2001:db8:2:1::7",
];
const NETWORKS: [&str; 7] = [
    "127.0.0.0/9",
    "127.200.0.1",
    "198.51.100.0/24",
    "198.51.100.2",
    "203.0.113.2",
    "127.0.0.2",
    "2001:db8:1:1::/64",
];
const NAMES: [&str; 6] = [
    "a.test", "A.Test", "x.a.test", "x.b.test", "b.test", "c.test",
];
const ALPN: [&[&str]; 4] = [&[], &["h2"], &["http/1.1"], &["y", "x"]];
const PROTOCOLS: [&str; 5] = ["tls", "http", "h2c", "ssh", "postgres"];

pub(super) fn random_configuration(
    random: &mut Random,
    files: &Files,
    servers: &[SocketAddr],
) -> String {
    let folder = files.folder.display();
    let mut text =
        String::from("version = 1\n[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\n");
    if random.one_in(2) {
        let mut access = String::new();
        for list in ["allow", "deny"] {
            if random.one_in(2) {
                access += &format!("{list} = {:?}, ", random.some(&NETWORKS));
            }
        }
        text += &format!("access = {{ {access}observe = {} }}\n", random.one_in(4));
    }
    let limit = random.one_in(3).then(|| {
        let when_full = ["\"refuse\"", "\"wait\"", "{ wait = \"1h\", at-most = 1 }"];
        (random.pick(&["2", "5", "9"]), *random.pick(&when_full))
    });
    if let Some((connections, when_full)) = limit {
        text += &format!("limits = {{ connections = {connections}, when-full = {when_full} }}\n");
    }
    if random.one_in(2) {
        // What a client may have changes while it waits for others to end.
        let connections = match limit {
            Some((_, when_full)) if when_full.contains("wait") => ["\"off\""; 4],
            _ => ["\"off\"", "1", "2", "5"],
        };
        let rates = ["\"off\"", "\"3/h\"", "\"9/h\""];
        text += &format!(
            "per-client = {{ connections = {}, rate = {}, ipv6-prefix = {}, observe = {} }}\n",
            random.pick(&connections),
            random.pick(&rates),
            random.pick(&[48, 64, 128]),
            random.one_in(4)
        );
    }
    if random.one_in(2) {
        text += &format!(
            "proxy-protocol = {{ mode = \"{}\", trust = \"127.0.0.0/9\", untrusted = \"{}\" }}\n",
            random.pick(&["required", "optional"]),
            random.pick(&["refuse", "direct"])
        );
    }
    match random.below(4) {
        0 => text += "backend = \"b0\"\n",
        1 => {
            text += &format!("backend = \"b1\"\n{}", tls(random, files));
            if random.one_in(2) {
                let preludes = ["postgres", "smtp", "imap", "pop3", "xmpp"];
                text += &format!("prelude = \"{}\"\n", random.pick(&preludes));
            }
        }
        _ => text += &routes(random, files),
    }
    for backend in 0..3 {
        let mut listed: Vec<_> = servers.iter().filter(|_| random.one_in(2)).collect();
        if listed.is_empty() {
            listed.push(&servers[0]);
        }
        let max = random.pick(&["\"off\"", "\"off\"", "\"off\"", "1"]);
        let mut has_other = false;
        let mut server = |it: &&SocketAddr| {
            // One at least is no backup.
            let is_backup = has_other && random.one_in(3);
            has_other = true;
            let weight = random.pick(&[100, 100, 1, 1_000]);
            format!(
                "{{ address = \"{it}\", max-connections = {max}, backup = {is_backup}, weight = {weight} }}"
            )
        };
        let listed: Vec<_> = listed.iter().map(&mut server).collect();
        let listed = listed.join(", ");
        let balance = ["least-connections", "round-robin", "hash", "first"];
        text += &format!(
            "[[backend]]\nname = \"b{backend}\"\nbalance = \"{}\"\nhealth = \"off\"\nserver = [{listed}]\n",
            random.pick(&balance)
        );
    }
    for name in ["c", "d"] {
        text += &format!(
            "[[certificate]]\nname = \"{name}\"\nchain = \"{folder}/{name}.pem\"\nkey = \"{folder}/{name}.key\"\n"
        );
    }
    text
}

fn tls(random: &mut Random, files: &Files) -> String {
    let folder = files.folder.display();
    let certificates = ["\"c\"", "[\"c\", \"d\"]", "[\"c\", \"d\"], default = \"d\""];
    let mut keys = format!("certificates = {}", random.pick(&certificates));
    if random.one_in(2) {
        keys += ", alpn = [\"h2\", \"x\"]";
    }
    if random.one_in(3) {
        keys += ", min-version = \"1.3\"";
    }
    if random.one_in(2) {
        let auth = random.pick(&["required", "optional"]);
        let allow = random.pick(&["", ", allow = \"dns:batch.mesh\""]);
        let crl = match random.one_in(2) {
            true => format!(", crl = \"{folder}/ca.crl\""),
            false => String::new(),
        };
        keys +=
            &format!(", client = {{ auth = \"{auth}\", roots = \"{folder}/ca.pem\"{crl}{allow} }}");
    }
    format!("tls = {{ {keys} }}\n")
}

fn routes(random: &mut Random, files: &Files) -> String {
    let mut text = String::new();
    let mut matches: Vec<String> = Vec::new();
    for name in ["a.test", "*.a.test", "*.b.test", "b.test"] {
        if random.one_in(2) {
            matches.push(format!("names = \"{name}\""));
        }
    }
    let protocols = random.some(&PROTOCOLS);
    matches.extend(protocols.iter().map(|it| format!("protocol = \"{it}\"")));
    if random.one_in(2) || matches.is_empty() {
        matches.push(String::new());
    }
    for line in matches {
        text += &format!("[[listener.route]]\n{line}\n");
        if random.one_in(5) {
            text += &format!("refuse = \"{}\"\n", random.pick(&["close", "reset"]));
            continue;
        }
        text += &format!("backend = \"b{}\"\n", random.below(3));
        let can_terminate = line.starts_with("names") || line.contains("\"tls\"");
        if can_terminate && random.one_in(2) {
            text += &tls(random, files);
        } else if line.starts_with("names") {
            text += "pass = true\n";
        }
    }
    text
}

pub(super) fn random_client(random: &mut Random, files: &Files, listener: &Listener) -> Client {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let (from, via) = match listener.proxy_protocol {
        None => (*random.pick(&SOCKETS), Via::TrustedProxy),
        Some(_) => match random.below(4) {
            0 => (*random.pick(&SOCKETS), Via::Direct),
            1 => {
                let proxy = address(SOCKETS[random.below(SOCKETS.len())]);
                (*random.pick(&BEHIND), Via::Proxy(proxy))
            }
            _ => (*random.pick(&BEHIND), Via::TrustedProxy),
        },
    };
    let mut client = Client::from(address(from));
    client.via = via;
    // Most clients of listeners that terminate TLS speak it.
    let is_tls = match &listener.target {
        Target::Backend(_) if listener.tls.is_some() => !random.one_in(5),
        _ => random.one_in(2),
    };
    client.speaks = if is_tls {
        let alpn: &[&str] = ALPN[random.below(ALPN.len())];
        Speaks::Tls {
            name: (!random.one_in(6)).then(|| (*random.pick(&NAMES)).to_owned()),
            alpn: alpn.iter().map(|&name| name.to_owned()).collect(),
        }
    } else {
        let protocols = [
            Protocol::Http1,
            Protocol::Http2,
            Protocol::Ssh,
            Protocol::Unknown,
        ];
        let protocol = *random.pick(&protocols);
        // A listener with a prelude would wait for what follows the request.
        let with_postgres = listener.prelude.is_none() && random.one_in(4);
        Speaks::Other(if with_postgres {
            Protocol::Postgres
        } else {
            protocol
        })
    };
    client.certificate = match random.below(5) {
        4 => Shown::None,
        shown => {
            let (chain, _) = &files.clients[shown];
            let client = client.clone().showing_pem(chain.as_bytes());
            client.expect("it is PEM").certificate
        }
    };
    client
}
