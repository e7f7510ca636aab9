use super::*;
use std::{
    fs,
    hint::black_box,
    net::{Ipv4Addr, Ipv6Addr},
};
use tokio::time::Instant;

/// Reproducible pseudorandom numbers (Knuth's MMIX generator; its low bits are poor).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u32 {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    fn below(&mut self, sides: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(sides)) >> 32) as u32
    }
}

/// A network with its first address and its prefix.
#[derive(Clone, Copy, Debug)]
struct Plain(IpAddr, u32);

impl Plain {
    /// In a small part of the address space, so that many networks overlap or touch.
    fn roll(dice: &mut Dice) -> Self {
        let bits = dice.below(0x1_0000);
        match dice.below(3) {
            0 => Self::v6(u128::from(bits) << 112 >> dice.below(100), dice.below(129)),
            1 => Self::v6(0xffff_0a00_0000 | u128::from(bits), 96 + dice.below(33)),
            _ => Self::v4(0x0a00_0000 | bits, dice.below(33)),
        }
    }

    fn v4(bits: u32, prefix: u32) -> Self {
        let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
        Self(Ipv4Addr::from_bits(bits & mask).into(), prefix)
    }

    fn v6(bits: u128, prefix: u32) -> Self {
        let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
        Self(Ipv6Addr::from_bits(bits & mask).into(), prefix)
    }

    /// Compares the bits of the prefixes. An IPv4-mapped network of at least 96 bits is an IPv4 network.
    fn contains(self, address: IpAddr) -> bool {
        let Self(first, prefix) = self;
        let (first, prefix) = match first.to_canonical() {
            v4 @ IpAddr::V4(_) if first.is_ipv6() && prefix >= 96 => (v4, prefix - 96),
            _ => (first, prefix),
        };
        match (first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ.checked_shr(32 - prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ.checked_shr(128 - prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// The first and the last address, and their neighbours.
    fn edges(self) -> Vec<IpAddr> {
        match self.0 {
            IpAddr::V4(first) => {
                let first = first.to_bits();
                let last = first | u32::MAX.checked_shr(self.1).unwrap_or(0);
                let edges = [first.wrapping_sub(1), first, last, last.wrapping_add(1)];
                edges.map(|bits| Ipv4Addr::from_bits(bits).into()).into()
            }
            IpAddr::V6(first) => {
                let first = first.to_bits();
                let last = first | u128::MAX.checked_shr(self.1).unwrap_or(0);
                let edges = [first.wrapping_sub(1), first, last, last.wrapping_add(1)];
                edges.map(|bits| Ipv6Addr::from_bits(bits).into()).into()
            }
        }
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

#[test]
fn it_contains_what_a_comparison_with_each_network_finds() {
    let mut dice = Dice(1);
    let (mut inside, mut outside) = (0, 0);
    for round in 0..2_000 {
        let networks: Vec<_> = (0..dice.below(20))
            .map(|_| Plain::roll(&mut dice))
            .collect();
        // Short prefixes swallow everything else, so only every fourth round has them.
        let networks = networks
            .iter()
            .filter(|network| round % 4 == 0 || network.1 > 18);
        let networks: Vec<_> = networks.copied().collect();
        let set = IpSet::new(networks.iter().map(Plain::to_string)).unwrap();
        let random = (0..20).map(|_| Plain::roll(&mut dice).0);
        let edges = networks.iter().copied().flat_map(Plain::edges);
        for address in edges.chain(random) {
            let expected = networks.iter().any(|network| network.contains(address));
            assert_eq!(set.contains(address), expected, "{address} in {networks:?}");
            *(if expected { &mut inside } else { &mut outside }) += 1;
        }
    }
    assert!(inside > 10_000 && outside > 10_000, "{inside} {outside}");
}

#[test]
fn a_union_contains_both() {
    let mut dice = Dice(2);
    for _ in 0..200 {
        let mut networks = || -> Vec<String> {
            let networks = (0..5).map(|_| Plain::roll(&mut dice).to_string());
            networks.collect()
        };
        let (one, other) = (networks(), networks());
        let union = IpSet::new(&one)
            .unwrap()
            .union(&IpSet::new(&other).unwrap());
        assert_eq!(union, IpSet::new(one.iter().chain(&other)).unwrap());
    }
    assert!(IpSet::default().union(&IpSet::default()).is_empty());
}

#[test]
fn sets_of_the_same_addresses_are_equal_however_they_are_divided() {
    let set = |text: &str| text.parse::<IpSet>().unwrap();
    for (halves, whole) in [
        ("10.0.0.0/9, 10.128.0.0/9", "10.0.0.0/8"),
        ("10.0.0.1, 10.0.0.0", "10.0.0.0/31"),
        ("0.0.0.0/1, 128.0.0.0/1", "0.0.0.0/0"),
        ("fd00::/9, fd80::/9", "fd00::/8"),
        ("::/1, 8000::/1, ffff::/16", "::/0"),
    ] {
        assert_eq!(set(halves), set(whole), "{halves}");
        let (one, other) = halves.split_once(',').unwrap();
        assert_eq!(set(one).union(&set(other)), set(whole), "{halves}");
    }
    // One address is missing in between.
    assert_ne!(set("10.0.0.0, 10.0.0.2"), set("10.0.0.0/31, 10.0.0.2"));
    assert!(!set("10.0.0.0, 10.0.0.2").contains("10.0.0.1".parse().unwrap()));
    assert_ne!(set("0.0.0.0/0"), set("::/0"));
}

#[test]
fn addresses_that_are_ipv4_inside_of_ipv6_are_ipv4() {
    let contains = |networks: &str, address: &str| {
        let set: IpSet = networks.parse().unwrap();
        set.contains(address.parse().unwrap())
    };
    assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
    assert!(!contains("10.0.0.0/8", "::ffff:11.1.2.3"));
    assert!(contains("::ffff:10.0.0.0/104", "10.1.2.3"));
    assert!(contains("::ffff:10.1.2.3", "10.1.2.3"));
    assert!(contains("::ffff:0:0/96", "10.1.2.3"));
    assert!(!contains("::/0", "10.1.2.3"));
    assert!(!contains("::/0", "::ffff:10.1.2.3"));
    assert!(contains("::/0", "::1"));
    assert!(!contains("0.0.0.0/0", "::1"));
}

#[test]
fn a_line_holds_any_number_of_networks_and_a_comment() {
    let set = IpSet::from_lines(
        "# first, 10.0.0.0/8 is no network here\r\n\
         192.0.2.0/24,198.51.100.7 \t 2001:db8::/32# and a comment\n\n  203.0.113.7  \n",
    );
    let expected = "192.0.2.0/24 198.51.100.7 2001:db8::/32 203.0.113.7".parse();
    assert_eq!(set.unwrap(), expected.unwrap());
    assert!(IpSet::from_lines("").unwrap().is_empty());
}

#[test]
fn what_is_no_network_is_named_with_what_to_write_instead() {
    for text in [
        "10.0.0.0/33",
        "10.0.0",
        "balancer",
        "10.0.0.0/-1",
        "10.0.0.0/+8",
        "10.0.0.0/",
        "/8",
        "::/129",
        "::/1000",
        "010.0.0.1",
        "10.0.0.0/8/8",
        "::1%eth0",
        "::ffff:10.0.0.0/129",
    ] {
        let error = IpSet::new([text]).unwrap_err();
        assert_eq!(error.text(), text);
        assert!(error.to_string().contains("expected an address"), "{error}");
    }
    let error = IpSet::new(["10.0.0.0/8", "10.1.2.3/8"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"10.1.2.3/8\" is not a network: bits are set behind the prefix; \
         10.0.0.0/8 is the whole network, 10.1.2.3 the address alone"
    );
    let error = IpSet::new(["2001:db8::1/32"]).unwrap_err();
    assert!(error.to_string().contains("2001:db8::/32 is"), "{error}");
    let error = IpSet::new(["::ffff:10.1.2.3/104"]).unwrap_err();
    assert!(error.to_string().contains("10.0.0.0/8 is the"), "{error}");
}

#[test]
fn an_invalid_line_of_a_file_is_named_with_its_number() {
    let folder = std::env::temp_dir().join(format!("portcullis-ip-set-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("list");
    let missing = IpSet::from_file(&path).unwrap_err();
    assert!(missing.invalid_line().is_none());
    fs::write(&path, "# list\n10.0.0.0/8\n192.0.2.7/24, 10.0.0.0\n").unwrap();
    let error = IpSet::from_file(&path).unwrap_err();
    let line = error.invalid_line().unwrap();
    assert_eq!((line.line(), line.network().text()), (3, "192.0.2.7/24"));
    assert_eq!(error.path(), path);
    let text = error.to_string();
    assert!(text.ends_with("192.0.2.7 the address alone"), "{text}");
    assert!(text.contains("list:3: \"192.0.2.7/24\" is"), "{text}");
    fs::write(&path, "10.0.0.0/8\n").unwrap();
    let set = IpSet::from_file(&path).unwrap();
    assert!(set.contains("10.1.2.3".parse().unwrap()));
    fs::remove_dir_all(&folder).unwrap();
}

/// Run it with `cargo test --release -p portcullis-middleware look_up -- --ignored --nocapture`.
#[test]
#[ignore = "it measures"]
fn a_look_up_among_50_000_networks_takes_less_than_a_microsecond() {
    let mut dice = Dice(3);
    let networks = (0..50_000).map(|_| {
        let prefix = 20 + dice.below(13);
        Plain::v4(dice.next(), prefix).to_string()
    });
    let set = IpSet::new(networks).unwrap();
    let addresses: Vec<IpAddr> = (0..1_000_000)
        .map(|_| Ipv4Addr::from_bits(dice.next()).into())
        .collect();
    let begun = Instant::now();
    let found = addresses
        .iter()
        .filter(|address| set.contains(black_box(**address)))
        .count();
    let each = begun.elapsed() / 1_000_000;
    println!("{each:?} for each look-up in {set:?}, {found} of 1,000,000 found");
    assert!(each.as_nanos() < 1_000);
}

#[test]
fn a_set_prints_the_fewest_networks_that_are_equal_to_it() {
    for (networks, printed) in [
        ("", ""),
        ("192.0.2.7", "192.0.2.7"),
        ("10.0.0.0/9 10.128.0.0/9", "10.0.0.0/8"),
        ("192.0.2.1 192.0.2.2 192.0.2.3", "192.0.2.1, 192.0.2.2/31"),
        ("0.0.0.0/0 ::/0", "0.0.0.0/0, ::/0"),
        (
            "255.255.255.255 2001:db8::/32",
            "255.255.255.255, 2001:db8::/32",
        ),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
    ] {
        let set: IpSet = networks.parse().unwrap();
        assert_eq!(set.to_string(), printed, "{networks}");
        assert_eq!(printed.parse::<IpSet>().unwrap(), set, "{networks}");
    }
}
