//! JA4, the fingerprint of a TLS client.
//!
//! Specified by FoxIO in `technical_details/JA4.md` of FoxIO-LLC/ja4. JA4 itself has the licence BSD 3-Clause;
//! the other methods of that family have other licences and are not implemented here.

use super::client_hello::{ALPN, ClientHello, SERVER_NAME};
use std::fmt::Write;
#[cfg(feature = "aws-lc-rs")]
use tokio_rustls::rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256 as SUITE;
use tokio_rustls::rustls::crypto::hash::Hash;
#[cfg(not(feature = "aws-lc-rs"))]
use tokio_rustls::rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256 as SUITE;

/// The fingerprint over TCP, 36 characters such as `t13d1516h2_8daaf6152771_e5627efa2ab1`.
pub(super) fn ja4(hello: &ClientHello<'_>) -> String {
    let version = version(highest_version(hello));
    let target = if hello.has_server_name() { 'd' } else { 'i' };
    let mut ciphers: Vec<_> = real(hello.cipher_suites()).collect();
    let mut extensions: Vec<_> = real(hello.extensions().map(|(kind, _)| kind)).collect();
    let counts = [ciphers.len().min(99), extensions.len().min(99)];
    let alpn = alpn(hello.alpn().next().unwrap_or_default());

    ciphers.sort_unstable();
    extensions.retain(|&kind| kind != SERVER_NAME && kind != ALPN);
    extensions.sort_unstable();
    let algorithms = list(real(hello.signature_algorithms()));
    let ciphers = list(ciphers.into_iter());
    let mut extensions = list(extensions.into_iter());
    if !extensions.is_empty() && !algorithms.is_empty() {
        extensions.extend(["_", &algorithms]);
    }
    let (ciphers, extensions) = (hash(&ciphers), hash(&extensions));
    let [cipher_count, extension_count] = counts;
    format!("t{version}{target}{cipher_count:02}{extension_count:02}{alpn}_{ciphers}_{extensions}")
}

fn highest_version(hello: &ClientHello<'_>) -> u16 {
    let highest = real(hello.supported_versions()).max();
    highest.unwrap_or_else(|| hello.legacy_version())
}

const fn version(number: u16) -> &'static str {
    match number {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        _ => "00",
    }
}

/// The first and the last character of the name, or of its hexadecimal form if they are not alphanumeric.
fn alpn(name: &[u8]) -> String {
    let (Some(&first), Some(&last)) = (name.first(), name.last()) else {
        return "00".to_owned();
    };
    match first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        true => [first, last].map(char::from).iter().collect(),
        false => format!("{:x}{:x}", first >> 4, last & 15),
    }
}

/// Without GREASE (RFC 8701), whose values are 0x0A0A, 0x1A1A and so on.
fn real(values: impl Iterator<Item = u16>) -> impl Iterator<Item = u16> {
    values.filter(|value| {
        let [high, low] = value.to_be_bytes();
        high != low || low & 15 != 10
    })
}

fn list(values: impl Iterator<Item = u16>) -> String {
    let mut list = String::new();
    for value in values {
        let comma = if list.is_empty() { "" } else { "," };
        let _infallible = write!(list, "{comma}{value:04x}");
    }
    list
}

fn hash(list: &str) -> String {
    let mut hash = String::with_capacity(12);
    match list {
        "" => hash.push_str("000000000000"),
        list => SHA256.hash(list.as_bytes()).as_ref()[..6]
            .iter()
            .for_each(|byte| {
                let _infallible = write!(hash, "{byte:02x}");
            }),
    }
    hash
}

/// The hash of the crypto provider, which exports it as a part of its cipher suites.
static SHA256: &dyn Hash = match SUITE.tls13() {
    Some(suite) => suite.common.hash_provider,
    None => panic!("it is a cipher suite of TLS 1.3"),
};

#[cfg(test)]
mod tests {
    use super::{super::client_hello::tests::TestHello, *};

    fn fingerprint(hello: &TestHello) -> String {
        hello.parsed(ja4)
    }

    /// The client of the specification's example, with GREASE in each list.
    fn example() -> TestHello {
        let value = |kind| (kind, vec![]);
        TestHello {
            cipher_suites: vec![
                0x0a0a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8,
                0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
            ],
            extensions: vec![
                value(0x3a3a),
                value(0x001b),
                TestHello::server_name("example.org"),
                value(0x0033),
                TestHello::alpn(&["h2", "http/1.1"]),
                value(0x4469),
                value(0x0017),
                value(0x002d),
                TestHello::signature_algorithms(&[
                    0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601,
                ]),
                value(0x0005),
                value(0x0023),
                value(0x0012),
                TestHello::versions(&[0xfafa, 0x0304, 0x0303]),
                value(0xff01),
                value(0x000b),
                value(0x000a),
                value(0x0015),
                value(0xcaca),
            ],
            ..TestHello::default()
        }
    }

    #[test]
    fn the_example_of_the_specification_has_its_fingerprint() {
        assert_eq!(
            fingerprint(&example()),
            "t13d1516h2_8daaf6152771_e5627efa2ab1"
        );
    }

    #[test]
    fn without_signature_algorithms_the_hash_is_that_of_the_extensions() {
        // The vector of the specification contains type 13, which without algorithms is malformed, so it is
        // hashed as it is.
        let list = "0005,000a,000b,000d,0012,0015,0017,001b,0023,002b,002d,0033,4469,ff01";
        assert_eq!(hash(list), "6d807ffa2a79");
        let mut hello = example();
        hello.extensions = vec![(0x0005, vec![]), (0x0017, vec![])];
        let hashed = hash("0005,0017");
        assert_eq!(
            fingerprint(&hello),
            format!("t12i150200_8daaf6152771_{hashed}")
        );
    }

    #[test]
    fn a_bare_hello_has_zeros_for_its_lists() {
        let hello = TestHello {
            version: 0x0301,
            cipher_suites: vec![0x0a0a],
            extensions: vec![],
        };
        assert_eq!(fingerprint(&hello), "t10i000000_000000000000_000000000000");
    }

    #[test]
    fn an_ip_address_as_server_name_counts_as_a_server_name() {
        let mut hello = example();
        hello.extensions = vec![TestHello::server_name("192.0.2.1")];
        assert_eq!(&fingerprint(&hello)[..10], "t12d150100");
    }

    #[test]
    fn the_characters_of_alpn_are_those_of_the_specification() {
        for (name, characters) in [
            (&b"h2"[..], "h2"),
            (b"http/1.1", "h1"),
            (b"", "00"),
            (b"x", "xx"),
            (b"\xab", "ab"),
            (b"\xab\xcd", "ad"),
            (b"\x30\xab", "3b"),
            (b"\x30\x31\xab\xcd", "3d"),
            (b"\x30\xab\xcd\x31", "01"),
        ] {
            assert_eq!(alpn(name), characters, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn counts_end_at_99() {
        let hello = TestHello {
            cipher_suites: (1..200).collect(),
            extensions: (100..300).map(|kind| (kind, vec![])).collect(),
            ..TestHello::default()
        };
        assert_eq!(&fingerprint(&hello)[..10], "t12i999900");
    }
}
