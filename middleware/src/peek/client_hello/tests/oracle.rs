//! What rustls accepts is accepted here, with the same contents.

use super::*;
use crate::tls::{
    provider,
    rustls::{self, ClientConfig, ClientConnection, RootCertStore, server::Acceptor},
};
use std::sync::Arc;

/// Server name, ALPN, cipher suites and signature algorithms.
type Contents = (Option<String>, Vec<Vec<u8>>, Vec<u16>, Vec<u16>);

fn by_rustls(mut bytes: &[u8]) -> Result<Option<Contents>, rustls::Error> {
    let mut acceptor = Acceptor::default();
    loop {
        if let Some(accepted) = acceptor.accept().map_err(|(error, _)| error)? {
            let hello = accepted.client_hello();
            let alpn = hello.alpn().into_iter().flatten().map(<[u8]>::to_vec);
            let name = hello
                .server_name()
                .map(|name| name.trim_end_matches('.').to_owned());
            let suites = hello.cipher_suites().iter().map(|&suite| suite.into());
            let schemes = hello
                .signature_schemes()
                .iter()
                .map(|&scheme| scheme.into());
            return Ok(Some((
                name,
                alpn.collect(),
                suites.collect(),
                schemes.collect(),
            )));
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        acceptor.read_tls(&mut bytes).expect("slices do not fail");
    }
}

fn by_us(bytes: &[u8]) -> Result<Option<Contents>, ClientHelloError> {
    let parsed = ClientHelloParser::new()
        .with_max_len(64 << 10)
        .parse(bytes)?;
    Ok(parsed.map(|hello| {
        (
            hello.server_name().map(str::to_ascii_lowercase),
            hello.alpn().map(<[u8]>::to_vec).collect(),
            hello.cipher_suites().collect(),
            hello.signature_algorithms().collect(),
        )
    }))
}

/// What a rustls client sends.
fn client(name: &str, alpn: &[&str]) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config.with_root_certificates(RootCertStore::empty());
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = name.to_owned().try_into().unwrap();
    let mut bytes = Vec::new();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_hello_of_a_client_has_the_same_contents() {
    for bytes in [
        client("shop.example", &["h2", "http/1.1"]),
        client("SHOP.Example", &[]),
        client("192.0.2.1", &["h2"]),
        TestHello::to("shop.example.").records(64),
        TestHello::to("192.0.2.1").records(MAX_RECORD),
    ] {
        let contents = by_rustls(&bytes).unwrap();
        assert!(contents.is_some());
        assert_eq!(by_us(&bytes).unwrap(), contents);
    }
}

#[test]
fn random_changes_are_judged_alike() {
    let seeds = [
        client("shop.example", &["h2", "http/1.1"]),
        TestHello::to("shop.example").records(64),
        TestHello::to("a.b.example.").records(9),
    ];
    // Accepted by both, refused by both, unfinished for both, refused by rustls only.
    let mut verdicts = [0; 4];
    for round in 0..20_000 {
        let random = &mut Random(round);
        let mut bytes = seeds[random.below(seeds.len())].clone();
        change(random, &mut bytes);
        match (by_rustls(&bytes), by_us(&bytes)) {
            (Ok(Some(theirs)), Ok(Some(ours))) => {
                assert_eq!(ours, theirs, "round {round}");
                verdicts[0] += 1;
            }
            (Err(_), Err(_)) => verdicts[1] += 1,
            // Some errors are found here as soon as their byte arrives.
            (Ok(None), Ok(None) | Err(_)) => verdicts[2] += 1,
            // Rules for fields that are not read here.
            (Err(_), Ok(_)) => verdicts[3] += 1,
            (theirs, ours) => panic!("round {round}: rustls {theirs:?}, ours {ours:?}"),
        }
    }
    assert!(verdicts.iter().all(|&count| count > 100), "{verdicts:?}");
}

/// Changes, removes and inserts bytes.
fn change(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let Some(last) = bytes.len().checked_sub(1) else {
            return;
        };
        let at = random.below(last + 1);
        match random.below(6) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = bytes[at].wrapping_add(1),
            3 => drop(bytes.remove(at)),
            4 => bytes.insert(at, [0, 1, 22, 255][random.below(4)]),
            _ => bytes.truncate(at + 1),
        }
    }
}

/// Reproducible pseudo-random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        let next = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d);
        self.0 = next.wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) as usize % bound
    }
}
