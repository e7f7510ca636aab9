//! Headers that are sent, read by our own parser.

use super::{super::parse::*, *};
use crate::{
    BoxError, Connection, ConnectionInfo,
    connection::{Address, CertificateFacts, Hello, TlsInfo, UnixAddress},
    error::{Elapsed, TimeoutPhase, find},
    proxy_protocol::ProxyHeader,
    testing::Peer,
};
use std::time::{Duration, SystemTime};
use tokio::io::AsyncWriteExt;
use tower::{Layer, ServiceExt, service_fn};

const CLIENT: &str = "198.51.100.7:40000";
const SERVER: &str = "192.0.2.1:443";

fn ip(address: &str) -> Address {
    Address::Ip(address.parse().unwrap())
}

/// Parses `bytes` at each split; the header ends with the last byte.
#[track_caller]
fn parsed(bytes: &[u8]) -> (Option<(Address, Address)>, ProxyHeader) {
    for end in 0..bytes.len() {
        let undecided = matches!(
            parse(&bytes[..end], 4096),
            Parsed::Undecided | Parsed::Incomplete
        );
        assert!(undecided, "{end} of {}", bytes.escape_ascii());
    }
    let followed = [bytes, b"more"].concat();
    match parse(&followed, 4096) {
        Parsed::Complete(header) => {
            assert_eq!(header.length, bytes.len());
            (header.addresses, header.header)
        }
        other => panic!("{other:?}: {}", bytes.escape_ascii()),
    }
}

fn all_fields() -> ProxyHeaderEncoder {
    let encoder = ProxyHeaderEncoder::v2()
        .with_authority(true)
        .with_alpn(true);
    encoder
        .with_ssl(true)
        .with_unique_id(true)
        .with_crc32c(true)
}

#[test]
fn both_versions_name_the_client_and_whom_it_connected_to() {
    for (peer, local) in [
        (CLIENT, SERVER),
        ("[2001:db8::7]:1", "[2001:db8::1]:65535"),
        ("0.0.0.0:0", "255.255.255.255:65535"),
    ] {
        let info = ConnectionInfo::new(ip(peer), ip(local));
        for encoder in [
            ProxyHeaderEncoder::v1(),
            ProxyHeaderEncoder::v2(),
            all_fields(),
        ] {
            let (addresses, header) = parsed(&encoder.encode(&info));
            assert_eq!(addresses, Some((ip(peer), ip(local))));
            assert!(header.is_proxied());
        }
    }
}

#[test]
fn version_1_is_the_line_of_the_specification() {
    let info = ConnectionInfo::new(ip("[2001:db8::7]:40000"), ip("[2001:db8::1]:443"));
    let line = "PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n";
    assert_eq!(ProxyHeaderEncoder::v1().encode(&info), line.as_bytes());
}

#[test]
fn addresses_of_two_families_become_those_of_one() {
    let mapped = ConnectionInfo::new(
        ip("[::ffff:198.51.100.7]:40000"),
        ip("[::ffff:192.0.2.1]:443"),
    );
    let mixed = ConnectionInfo::new(ip(CLIENT), ip("[2001:db8::1]:443"));
    for encoder in [ProxyHeaderEncoder::v1(), ProxyHeaderEncoder::v2()] {
        let (addresses, _) = parsed(&encoder.encode(&mapped));
        assert_eq!(addresses, Some((ip(CLIENT), ip(SERVER))));
        let (addresses, _) = parsed(&encoder.encode(&mixed));
        let expected = (ip("[::ffff:198.51.100.7]:40000"), ip("[2001:db8::1]:443"));
        assert_eq!(addresses, Some(expected));
    }
}

#[test]
fn clients_without_ip_addresses_are_described_as_far_as_the_version_allows() {
    let unix = |path: &str| Address::Unix(UnixAddress::new(path));
    let unnamed = Address::Unix(UnixAddress::default());
    let (fits, too_long) = (unix(&"x".repeat(108)), unix(&"x".repeat(109)));
    for (peer, local, described) in [
        (unnamed.clone(), unix("/run/gate"), true),
        (unix("/run/a"), fits, true),
        (unnamed, too_long, false),
        (Address::Unknown, Address::Unknown, false),
        (ip(CLIENT), Address::Unknown, false),
        (ip(CLIENT), unix("/run/gate"), false),
    ] {
        let info = ConnectionInfo::new(peer.clone(), local.clone());
        let (addresses, _) = parsed(&all_fields().encode(&info));
        assert_eq!(addresses, described.then_some((peer, local)));
        assert_eq!(ProxyHeaderEncoder::v1().encode(&info), b"PROXY UNKNOWN\r\n");
    }
}

#[test]
fn the_fields_arrive_as_they_were_chosen() {
    let info = ConnectionInfo::new(ip(CLIENT), ip(SERVER));
    let mut tls = TlsInfo::new();
    tls.version = Some("TLSv1_3");
    tls.alpn = Some(b"h2".to_vec());
    tls.server_name = Some("shop.example".to_owned());
    tls.peer_certificates = vec![b"a certificate".to_vec()];
    tls.peer_certificate = Some(identity(Some("the client")));
    assert!(info.set_tls(tls));
    let (_, header) = parsed(&all_fields().encode(&info));
    assert_eq!(header.authority(), Some("shop.example"));
    assert_eq!(header.alpn(), Some(&b"h2"[..]));
    let id = info.id().to_string();
    assert_eq!(header.unique_id(), Some(id.as_bytes()));
    let ssl = header.ssl().unwrap();
    assert!(ssl.is_tls() && ssl.is_client_verified());
    assert_eq!(ssl.version(), Some("TLSv1.3"));
    assert_eq!(ssl.common_name(), Some("the client"));
    let kinds: Vec<_> = header.tlvs().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [0x01, 0x02, 0x05, 0x20, 0x03]);

    let (_, header) = parsed(&ProxyHeaderEncoder::v2().encode(&info));
    assert_eq!(header.tlvs().count(), 0);
}

#[test]
fn tls_without_a_certificate_is_not_verified_and_passed_through_is_none() {
    let info = ConnectionInfo::new(ip(CLIENT), ip(SERVER));
    info.set_hello(Hello::new(Some("shop.example"), b"\x02h2", None));
    let (_, header) = parsed(&all_fields().encode(&info));
    assert_eq!(header.authority(), Some("shop.example"));
    assert!(header.ssl().is_none() && header.alpn().is_none());
    assert!(info.set_tls(TlsInfo::new()));
    let (_, header) = parsed(&all_fields().encode(&info));
    let ssl = header.ssl().unwrap();
    assert!(ssl.is_tls() && !ssl.is_client_verified());
    assert_eq!((ssl.version(), ssl.common_name()), (None, None));
    assert_ne!(ssl.verify_result(), 0);
}

#[test]
fn a_flipped_bit_is_found_by_the_checksum() {
    let info = ConnectionInfo::new(ip(CLIENT), ip(SERVER));
    let header = all_fields().encode(&info);
    for bit in 16 * 8..header.len() * 8 {
        let mut broken = header.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        let accepted = matches!(parse(&broken, 4096), Parsed::Complete(_));
        // The type of the checksum's own field makes it another field, and its absence is allowed.
        let is_type = bit / 8 == header.len() - 7;
        assert!(!accepted || is_type, "bit {bit}");
    }
}

#[test]
fn own_connections_name_no_client() {
    for encoder in [
        ProxyHeaderEncoder::v1(),
        ProxyHeaderEncoder::v2(),
        all_fields(),
    ] {
        let (addresses, header) = parsed(&encoder.encode_local());
        assert_eq!(addresses, None);
        assert!(!header.is_proxied());
    }
}

/// What is known of a certificate with this common name.
fn identity(common_name: Option<&str>) -> Box<CertificateFacts> {
    let mut facts = CertificateFacts::new(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH);
    facts.subject = common_name.map(str::to_owned);
    Box::new(facts)
}

#[test]
fn only_a_certain_common_name_is_sent() {
    let longest = "x".repeat(256);
    let too_long = "x".repeat(257);
    for (subject, sent) in [
        (Some("ä"), Some("ä")),
        (Some(&*longest), Some(&*longest)),
        (Some(&*too_long), None),
        // As with several common names.
        (None, None),
    ] {
        let info = ConnectionInfo::new(ip(CLIENT), ip(SERVER));
        let mut tls = TlsInfo::new();
        tls.peer_certificates = vec![b"a certificate".to_vec()];
        tls.peer_certificate = Some(identity(subject));
        assert!(info.set_tls(tls));
        let (_, header) = parsed(&all_fields().encode(&info));
        assert_eq!(header.ssl().unwrap().common_name(), sent);
    }
}

#[tokio::test(start_paused = true)]
async fn the_header_is_written_before_the_service_is_called() {
    let write = service_fn(|mut connection: Connection<_>| async move {
        connection.write_all(b"hello").await?;
        Ok::<_, BoxError>(())
    });
    let layer = SendProxyHeaderLayer::new(b"PROXY UNKNOWN\r\n".to_vec());
    let (connection, seen) = Peer::new().connection();
    layer.layer(write).oneshot(connection).await.unwrap();
    assert_eq!(seen.written(), b"PROXY UNKNOWN\r\nhello");

    // A server that does not read.
    let (connection, seen) = Peer::new().stops_reading().connection();
    let error = layer.layer(write).oneshot(connection).await.unwrap_err();
    let elapsed = Elapsed::new(TimeoutPhase::WRITE, Duration::from_secs(5));
    assert_eq!(find::<Elapsed>(&*error), Some(&elapsed));
    assert!(seen.is_dropped());
}
