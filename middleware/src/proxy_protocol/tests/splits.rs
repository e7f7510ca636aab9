//! Random headers and random garbage, whose result must not depend on how bytes are split.

use super::{
    super::parse::{Header, Parsed, parse},
    *,
};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio_test::io::Builder;

/// Reproducible pseudo-random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) as usize % bound
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.byte()).collect()
    }

    fn address(&mut self, v6: bool) -> SocketAddr {
        let ip: [u8; 16] = std::array::from_fn(|_| self.byte() & [0, 255][self.below(2)]);
        let port = (usize::from(self.byte()) << 8 | self.below(256)) as u16;
        match v6 {
            true => (Ipv6Addr::from(ip), port).into(),
            false => (Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]), port).into(),
        }
    }
}

type Addresses = Option<(Address, Address)>;

/// A valid header, and its contents.
fn header(random: &mut Random) -> (Vec<u8>, Addresses) {
    let v6 = random.below(2) == 1;
    let (source, destination) = (random.address(v6), random.address(v6));
    let addresses = Some((source.into(), destination.into()));
    match random.below(8) {
        0 => {
            let filler = ["", " ", " a b \r c", " 1.2.3.4 5.6.7.8 9 10"];
            let filler = filler[random.below(filler.len())];
            (format!("PROXY UNKNOWN{filler}\r\n").into(), None)
        }
        1..=3 => {
            let (from, to) = (source.ip(), destination.ip());
            let ports = format!("{} {}", source.port(), destination.port());
            let family = if v6 { "TCP6" } else { "TCP4" };
            (
                format!("PROXY {family} {from} {to} {ports}\r\n").into(),
                addresses,
            )
        }
        4 => (v2(LOCAL, random.byte(), &random.bytes(40)), None),
        5 => {
            let mut block = [0; 216];
            block[..2].copy_from_slice(b"/a");
            let tlvs = fields(random);
            let unnamed = Address::Unix(UnixAddress::default());
            let addresses = Some((unix("/a"), unnamed));
            (v2(PROXY, UNIX, &[&block, &tlvs[..]].concat()), addresses)
        }
        _ => {
            let mut block = Vec::new();
            for address in [source, destination] {
                match address.ip() {
                    std::net::IpAddr::V4(ip) => block.extend(ip.octets()),
                    std::net::IpAddr::V6(ip) => block.extend(ip.octets()),
                }
            }
            block.extend(source.port().to_be_bytes());
            block.extend(destination.port().to_be_bytes());
            block.extend(fields(random));
            let family = if v6 { 0x20 } else { 0x10 };
            let protocol = 1 + random.below(2) as u8;
            (v2(PROXY, family | protocol, &block), addresses)
        }
    }
}

/// Fields without a checksum.
fn fields(random: &mut Random) -> Vec<u8> {
    let count = random.below(4);
    let kinds = [0x01, 0x02, 0x04, 0x05, 0x20, 0x30, 0xE0, 0xEA, 0xFF];
    let field = |_| tlv(kinds[random.below(kinds.len())], &random.bytes(20));
    (0..count).flat_map(field).collect()
}

#[test]
fn a_header_is_complete_with_its_last_byte_and_takes_no_more() {
    for seed in 0..2000 {
        let random = &mut Random(seed);
        let (mut bytes, addresses) = header(random);
        let length = bytes.len();
        bytes.extend(random.bytes(20));
        for end in 0..=bytes.len() {
            let parsed = parse(&bytes[..end], 4096);
            let shown = bytes.escape_ascii();
            match parsed {
                Parsed::Undecided | Parsed::Incomplete => {
                    assert!(
                        end < length,
                        "seed {seed}, {end} of {length} bytes of {shown}"
                    );
                }
                Parsed::Complete(parsed) => {
                    assert!(
                        end >= length,
                        "seed {seed}, {end} of {length} bytes of {shown}"
                    );
                    assert_eq!(
                        (parsed.length, &parsed.addresses),
                        (length, &addresses),
                        "{shown}"
                    );
                }
                other => panic!("seed {seed}, {end} bytes of {shown}: {other:?}"),
            }
        }
    }
}

#[test]
fn what_was_decided_once_stays_whatever_follows() {
    let mut kinds = [0; 3];
    for seed in 0..5000 {
        let random = &mut Random(seed);
        let max_len = 232 + random.below(100);
        let mut decided = None;
        let bytes = garbage(random);
        for end in 0..=bytes.len() {
            let parsed = parse(&bytes[..end], max_len);
            if let Parsed::Complete(Header { length, .. }) = parsed {
                assert!(length <= end && length <= max_len);
            }
            let open = matches!(parsed, Parsed::Undecided | Parsed::Incomplete);
            match &decided {
                Some(decided) => assert_eq!(&parsed, decided, "seed {seed}, {end} bytes"),
                None if open => {}
                None => {
                    kinds[match parsed {
                        Parsed::Absent => 0,
                        Parsed::Invalid(_) => 1,
                        _ => 2,
                    }] += 1;
                    decided = Some(parsed);
                }
            }
        }
        // A peer cannot make a server wait for more than it accepts.
        assert!(decided.is_some() || bytes.len() < max_len, "seed {seed}");
    }
    assert!(kinds.iter().all(|&count| count > 200), "{kinds:?}");
}

/// A header with some bytes changed, lost or duplicated, or bytes that only begin like one.
fn garbage(random: &mut Random) -> Vec<u8> {
    let mut bytes = header(random).0;
    match random.below(8) {
        0 => bytes = random.bytes(40),
        1 => bytes.truncate(16),
        _ => {}
    }
    for _ in 0..random.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] = random.byte(),
            1 => bytes[at] ^= 1 << random.below(8),
            2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, [b' ', b'\r', b'\n', b'0', 0][random.below(5)]),
        }
    }
    bytes.extend(random.bytes(400));
    bytes
}

#[tokio::test]
async fn the_service_gets_what_follows_the_header_and_nothing_else() {
    for seed in 0..500 {
        let random = &mut Random(seed);
        let (mut bytes, addresses) = header(random);
        let rest = random.bytes(600);
        bytes.extend(&rest);
        let mut io = Builder::new();
        let most = [1, 7, 700][random.below(3)];
        let mut left = &bytes[..];
        while !left.is_empty() {
            let (piece, after) = left.split_at((1 + random.below(most)).min(left.len()));
            io.read(piece);
            left = after;
        }
        let observed = serve(layer(), from_proxy(io.build())).await.unwrap();
        let socket = (ip("10.1.2.3:5000"), ip("10.0.0.1:443"));
        assert_eq!(
            (observed.peer, observed.local),
            addresses.unwrap_or(socket),
            "seed {seed}"
        );
        assert_eq!(observed.input, rest, "seed {seed}");
        assert!(observed.header.is_some());
    }
}

#[tokio::test]
async fn without_a_header_optional_sources_are_heard_from_their_first_byte() {
    for seed in 0..500 {
        let random = &mut Random(seed);
        let starts: [&[u8]; 6] = [b"", b"P", b"PROXY", b"\r\n\r\n", b"POST /", b"\x16\x03\x01"];
        let mut bytes = starts[random.below(starts.len())].to_vec();
        bytes.extend(random.bytes(1200));
        if !matches!(parse(&bytes, 4096), Parsed::Absent | Parsed::Undecided) {
            continue;
        }
        let mut io = Builder::new();
        for piece in bytes.chunks(1 + random.below(700)) {
            io.read(piece);
        }
        let layer = layer().with_optional_header();
        let observed = serve(layer, from_proxy(io.build())).await.unwrap();
        assert_eq!(observed.input, bytes, "seed {seed}");
        assert_eq!(
            (observed.peer, observed.header),
            (ip("10.1.2.3:5000"), None)
        );
    }
}
