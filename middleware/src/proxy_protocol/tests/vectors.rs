//! Parsed contents of headers, and rejected headers.

use super::{
    super::{
        error::HeaderProblem,
        parse::{Header, Parsed, parse},
    },
    *,
};

#[track_caller]
fn complete(bytes: &[u8]) -> Header {
    match parse(bytes, 4096) {
        Parsed::Complete(header) => header,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

#[track_caller]
fn addresses(bytes: &[u8]) -> Option<(Address, Address)> {
    complete(bytes).addresses
}

#[test]
fn the_text_tells_the_client_and_whom_it_connected_to() {
    assert_eq!(addresses(V1), Some((ip(CLIENT), ip(SERVER))));
    let v6 = b"PROXY TCP6 2001:db8::7 2001:DB8:0:0:0:0:0:1 0 65535\r\n";
    let expected = (ip("[2001:db8::7]:0"), ip("[2001:db8::1]:65535"));
    assert_eq!(addresses(v6), Some(expected));
    assert_eq!(complete(V1).header, ProxyHeader::new(1, true, &[]));
}

#[test]
fn the_line_of_an_unknown_client_is_ignored() {
    for line in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"PROXY UNKNOWN 198.51.100.7 192.0.2.1 40000 443\r\n",
        b"PROXY UNKNOWN what\rever \xFF\0\r\n",
    ] {
        let header = complete(line);
        assert_eq!((header.length, header.addresses), (line.len(), None));
        assert!(!header.header.is_proxied());
    }
}

#[test]
fn the_text_must_be_as_the_protocol_has_it() {
    for line in [
        "TCP4 198.51.100.7 192.0.2.1 40000",
        "TCP4 198.51.100.7 192.0.2.1 40000 443 ",
        "TCP4 198.51.100.7 192.0.2.1 40000 443 0",
        "TCP4  198.51.100.7 192.0.2.1 40000 443",
        "TCP4 198.51.100.7 192.0.2.1 40000 65536",
        "TCP4 198.51.100.7 192.0.2.1 +40000 443",
        "TCP4 198.51.100.7 192.0.2.1 040000 443",
        "TCP4 198.51.100.7 192.0.2.1 40000 0443",
        "TCP4 198.51.100.7 192.0.2.1 40000 +443",
        "TCP4 198.51.100.7 192.0.2.1 40000 -1",
        "TCP4 198.51.100.7 192.0.2.1 40000 ",
        "TCP4 198.51.100.07 192.0.2.1 40000 443",
        "TCP4 198.51.100 192.0.2.1 40000 443",
        "TCP4 2001:db8::7 2001:db8::1 40000 443",
        "TCP6 198.51.100.7 192.0.2.1 40000 443",
        "TCP6 2001:db8::7 192.0.2.1 40000 443",
        "TCP6 fe80::7%eth0 2001:db8::1 40000 443",
        "TCP6 2001:db8::7::1 2001:db8::1 40000 443",
        "tcp4 198.51.100.7 192.0.2.1 40000 443",
        "TCP5 198.51.100.7 192.0.2.1 40000 443",
        "UDP4 198.51.100.7 192.0.2.1 40000 443",
        "UNKNOWNS",
        "unknown",
        "",
        " UNKNOWN",
        "TCP4",
        "TCP4 198.51.100.7 192.0.2.1 40000 443\r",
        "TCP4 198.51.100.7\r192.0.2.1 40000 443",
    ] {
        let bytes = format!("PROXY {line}\r\nGET / HTTP/1.1\r\n");
        assert_eq!(
            parse(bytes.as_bytes(), 4096),
            Parsed::Invalid(HeaderProblem::Line),
            "{line:?}"
        );
    }
    let no_ascii = b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 44\xFF\r\n";
    assert_eq!(parse(no_ascii, 4096), Parsed::Invalid(HeaderProblem::Line));
}

#[test]
fn a_line_feed_alone_ends_no_line() {
    let lone = b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 443\n";
    assert_eq!(parse(lone, 4096), Parsed::Invalid(HeaderProblem::Line));
    assert_eq!(
        parse(b"PROXY UNKNOWN\n", 4096),
        Parsed::Invalid(HeaderProblem::Line)
    );
}

#[test]
fn a_line_may_have_107_bytes_and_no_more() {
    let line = |length: usize| format!("{:x<1$}\r\n", "PROXY UNKNOWN ", length - 2);
    assert_eq!(complete(line(107).as_bytes()).length, 107);
    let too_long = line(108);
    assert_eq!(
        parse(too_long.as_bytes(), 4096),
        Parsed::Invalid(HeaderProblem::LineTooLong)
    );
    assert_eq!(parse(&too_long.as_bytes()[..106], 4096), Parsed::Incomplete);
}

#[test]
fn other_protocols_are_told_apart_at_their_first_strange_byte() {
    for (decided, text) in [
        (1, &b"GET / HTTP/1.1\r\n"[..]),
        (2, b"POST / HTTP/1.1\r\n"),
        (3, b"PRI * HTTP/2.0\r\n"),
        (4, b"PROPFIND / HTTP/1.1\r\n"),
        (6, b"PROXYxTCP4 198.51.100.7 192.0.2.1 40000 443\r\n"),
        (6, b"PROXY\tTCP4 198.51.100.7 192.0.2.1 40000 443\r\n"),
        (1, b"proxy UNKNOWN\r\n"),
        (1, b"\x16\x03\x01\x02\x00\x01"),
        (3, b"\r\nGET / HTTP/1.1\r\n"),
        (1, b"\0"),
        (1, b" PROXY UNKNOWN\r\n"),
        (12, b"\r\n\r\n\0\r\nQUIT\r\x21\x11"),
    ] {
        assert_eq!(parse(text, 4096), Parsed::Absent, "{}", text.escape_ascii());
        assert_eq!(parse(&text[..decided], 4096), Parsed::Absent);
        assert_eq!(parse(&text[..decided - 1], 4096), Parsed::Undecided);
    }
}

#[test]
fn the_binary_tells_the_client_and_whom_it_connected_to() {
    assert_eq!(addresses(&v2_tcp4(&[])), Some((ip(CLIENT), ip(SERVER))));
    let mut udp = v2_tcp4(&[]);
    udp[13] = 0x12;
    assert_eq!(addresses(&udp), Some((ip(CLIENT), ip(SERVER))));
    let mut block = [0; 36];
    block[..4].copy_from_slice(&[0x20, 0x01, 0x0D, 0xB8]);
    block[15] = 7;
    block[31] = 1;
    block[33] = 80;
    block[34] = 1;
    let expected = (ip("[2001:db8::7]:80"), ip("[::1]:256"));
    assert_eq!(addresses(&v2(PROXY, TCP6, &block)), Some(expected));
}

#[test]
fn clients_behind_unix_sockets_have_paths_or_none() {
    let mut block = [0; 216];
    block[..9].copy_from_slice(b"/run/a\0bc");
    block[108..].fill(b'x');
    let full = format!("{:x<108}", "");
    let expected = Some((unix("/run/a"), unix(&full)));
    assert_eq!(addresses(&v2(PROXY, UNIX, &block)), expected);
    let unnamed = Address::Unix(UnixAddress::default());
    let expected = Some((unnamed.clone(), unnamed));
    assert_eq!(addresses(&v2(PROXY, 0x32, &[0; 216])), expected);
}

#[test]
fn what_the_proxy_says_for_itself_keeps_the_addresses_of_the_socket() {
    for header in [
        v2(LOCAL, 0, &[]),
        v2(LOCAL, TCP4, &[]),
        v2(LOCAL, TCP4, &[1; 12]),
        v2(LOCAL, 0xFF, b"anything"),
        v2(PROXY, 0, &[]),
        v2(PROXY, 0, b"anything"),
        v2(PROXY, 0x10, &[1; 12]),
        v2(PROXY, 0x01, &[1; 12]),
    ] {
        let parsed = complete(&header);
        assert_eq!((parsed.length, parsed.addresses), (header.len(), None));
        assert_eq!(parsed.header, ProxyHeader::new(2, false, &[]));
    }
}

#[test]
fn the_binary_must_be_as_the_protocol_has_it() {
    let mut version_1 = v2_tcp4(&[]);
    version_1[12] = 0x11;
    for (header, problem) in [
        (version_1, HeaderProblem::Command),
        (v2(2, TCP4, &[1; 12]), HeaderProblem::Command),
        (v2(15, 0, &[]), HeaderProblem::Command),
        (v2(PROXY, 0x13, &[1; 12]), HeaderProblem::Family),
        (v2(PROXY, 0x41, &[1; 12]), HeaderProblem::Family),
        (v2(PROXY, 0x03, &[1; 12]), HeaderProblem::Family),
        (v2(PROXY, 0xFF, &[1; 12]), HeaderProblem::Family),
        (v2(PROXY, TCP4, &[1; 11]), HeaderProblem::TooShort),
        (v2(PROXY, TCP4, &[]), HeaderProblem::TooShort),
        (v2(PROXY, TCP6, &[1; 35]), HeaderProblem::TooShort),
        (v2(PROXY, UNIX, &[1; 215]), HeaderProblem::TooShort),
        (v2_tcp4(&[0]), HeaderProblem::Field),
        (v2_tcp4(&[0xE0, 0]), HeaderProblem::Field),
        (v2_tcp4(&[0xE0, 0, 1]), HeaderProblem::Field),
        (v2_tcp4(&[0xE0, 0xFF, 0xFF, 0]), HeaderProblem::Field),
        (
            v2_tcp4(&[tlv(0xE0, b"good"), vec![1]].concat()),
            HeaderProblem::Field,
        ),
        (v2_tcp4(&tlv(0x03, &[0; 3])), HeaderProblem::Field),
        (v2_tcp4(&tlv(0x03, &[0; 4])), HeaderProblem::Checksum),
    ] {
        assert_eq!(
            parse(&header, 4096),
            Parsed::Invalid(problem),
            "{}",
            header.escape_ascii()
        );
    }
}

#[test]
fn nonsense_is_refused_before_all_of_it_is_there() {
    let too_short = v2(PROXY, TCP4, &[1; 11]);
    assert_eq!(
        parse(&too_short[..16], 4096),
        Parsed::Invalid(HeaderProblem::TooShort)
    );
    assert_eq!(parse(&too_short[..15], 4096), Parsed::Incomplete);
    let family = v2(PROXY, 0x99, &[]);
    assert_eq!(
        parse(&family[..14], 4096),
        Parsed::Invalid(HeaderProblem::Family)
    );
    let command = v2(9, 0, &[]);
    assert_eq!(
        parse(&command[..13], 4096),
        Parsed::Invalid(HeaderProblem::Command)
    );
    assert_eq!(parse(&command[..12], 4096), Parsed::Incomplete);
}

#[test]
fn a_header_may_be_as_long_as_the_bound_and_no_longer() {
    let header = v2_tcp4(&tlv(0x04, &[0; 300]));
    let length = header.len();
    assert!(matches!(parse(&header, length), Parsed::Complete(_)));
    let refused = Parsed::Invalid(HeaderProblem::TooLong(length));
    assert_eq!(parse(&header[..16], length - 1), refused);
    let most = v2(LOCAL, 0, &[0; 65535]);
    assert_eq!(
        parse(&most[..16], 4096),
        Parsed::Invalid(HeaderProblem::TooLong(65551))
    );
}

/// As AWS load balancers send it; the checksum comes from another implementation.
fn with_checksum(checksum: u32) -> Vec<u8> {
    let checksum = tlv(0x03, &checksum.to_be_bytes());
    let endpoint = tlv(0xEA, b"\x01vpce-08d2bf15fac5001c9");
    v2_tcp4(&[checksum, endpoint, tlv(0x04, &[0; 5])].concat())
}

#[test]
fn a_checksum_must_be_right_for_every_bit_of_the_header() {
    let header = with_checksum(0x63EB_5E11);
    let endpoint = complete(&header).header;
    assert_eq!(
        endpoint.aws_vpc_endpoint_id(),
        Some("vpce-08d2bf15fac5001c9")
    );
    for bit in 16 * 8..header.len() * 8 {
        let mut flipped = header.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let parsed = parse(&flipped, 4096);
        // A flipped bit in the type or length of the field hides it, or splits the fields.
        let hidden = (28..31).contains(&(bit / 8));
        assert!(
            hidden || matches!(parsed, Parsed::Invalid(_)),
            "bit {bit}: {parsed:?}"
        );
    }
}

/// Inserts the checksum into a header whose last field contains zeros.
fn sealed(mut header: Vec<u8>) -> Vec<u8> {
    let sum = !header.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| match crc & 1 {
            0 => crc >> 1,
            _ => (crc >> 1) ^ 0x82F6_3B78,
        })
    });
    let end = header.len() - 4;
    header.splice(end.., sum.to_be_bytes());
    header
}

#[test]
fn a_header_that_tells_of_no_client_has_fields_and_a_checksum_too() {
    let tlvs = [tlv(0x05, b"check-7"), tlv(0x03, &[0; 4])].concat();
    for (command, family, addresses) in [
        (LOCAL, 0, 0),
        (LOCAL, TCP4, 12),
        (LOCAL, TCP6, 36),
        (LOCAL, UNIX, 216),
        (PROXY, 0, 0),
        (PROXY, 0x10, 12),
    ] {
        let block = [vec![0; addresses], tlvs.clone()].concat();
        let header = sealed(v2(command, family, &block));
        let parsed = complete(&header);
        assert_eq!((parsed.length, parsed.addresses), (header.len(), None));
        assert!(!parsed.header.is_proxied());
        assert_eq!(parsed.header.unique_id(), Some(&b"check-7"[..]));

        let mut wrong = header;
        *wrong.last_mut().unwrap() ^= 1;
        let expected = Parsed::Invalid(HeaderProblem::Checksum);
        assert_eq!(parse(&wrong, 4096), expected, "{command} {family:#x}");
    }
}

#[test]
fn a_second_checksum_is_one_too_many() {
    let one = tlv(0x03, &[0; 4]);
    assert!(complete(&sealed(v2_tcp4(&one))).header.is_proxied());
    for command in [LOCAL, PROXY] {
        let block = [&[0; 12][..], &one, &one].concat();
        let twice = sealed(v2(command, TCP4, &block));
        assert_eq!(parse(&twice, 4096), Parsed::Invalid(HeaderProblem::Field));
    }
}

#[test]
fn fields_are_found_by_their_type() {
    let ssl = [
        &[0x01 | 0x02, 0, 0, 0, 0][..],
        &tlv(0x21, b"TLSv1.3"),
        &tlv(0x22, b"client.example"),
        &tlv(0x23, b"TLS_AES_128_GCM_SHA256"),
    ];
    let header = v2_tcp4(
        &[
            tlv(0x01, b"h2"),
            tlv(0x02, b"example.com"),
            tlv(0x05, b"\xFFid"),
            tlv(0x20, &ssl.concat()),
            tlv(0x30, b"blue"),
            tlv(0xE0, b"first"),
            tlv(0xE0, b"second"),
            tlv(0xE1, b""),
        ]
        .concat(),
    );
    let header = complete(&header).header;
    assert_eq!((header.version(), header.is_proxied()), (2, true));
    assert_eq!(header.alpn(), Some(&b"h2"[..]));
    assert_eq!(header.authority(), Some("example.com"));
    assert_eq!(header.unique_id(), Some(&b"\xFFid"[..]));
    assert_eq!(header.netns(), Some("blue"));
    assert_eq!(header.tlv(0xE0), Some(&b"first"[..]));
    assert_eq!(header.tlv(0xE1), Some(&b""[..]));
    assert_eq!(header.tlv(0xE2), None);
    assert_eq!(header.aws_vpc_endpoint_id(), None);
    assert_eq!(header.tlvs().count(), 8);
    let ssl = header.ssl().unwrap();
    assert!(ssl.is_tls() && ssl.is_client_verified());
    assert_eq!(ssl.version(), Some("TLSv1.3"));
    assert_eq!(ssl.common_name(), Some("client.example"));
    assert_eq!(ssl.cipher(), Some("TLS_AES_128_GCM_SHA256"));
}

#[test]
fn a_certificate_counts_as_verified_only_where_there_is_one() {
    for (client, verify, verified) in [
        (0x01, 0, false),
        (0x03, 0, true),
        (0x05, 0, true),
        (0x03, 1, false),
        (0x03, 0x1_0000, false),
    ] {
        let value = [&[client][..], &u32::to_be_bytes(verify)].concat();
        let header = complete(&v2_tcp4(&tlv(0x20, &value))).header;
        let ssl = header.ssl().unwrap();
        assert_eq!(ssl.is_client_verified(), verified, "{client} {verify}");
        assert_eq!(ssl.verify_result(), verify);
    }
}

#[test]
fn fields_that_are_not_what_their_type_says_are_none() {
    let tlvs = [
        tlv(0x02, b"\xFF"),
        tlv(0x20, &[1, 0, 0, 0]),
        tlv(0xEA, b"\x02x"),
    ]
    .concat();
    let header = complete(&v2_tcp4(&tlvs)).header;
    assert_eq!((header.authority(), header.ssl()), (None, None));
    assert_eq!(header.aws_vpc_endpoint_id(), None);
    // Inside, too, a length that reaches beyond the end.
    let value = [&[1, 0, 0, 0, 0][..], &[0x21, 0xFF, 0xFF, b'T']].concat();
    let header = complete(&v2_tcp4(&tlv(0x20, &value))).header;
    assert_eq!(header.ssl().unwrap().version(), None);
}

#[test]
fn what_a_proxy_sent_prints_on_one_line() {
    let header = complete(&v2_tcp4(&tlv(0x02, b"a\nINFO forged\x1B[2J"))).header;
    let printed = format!("{header:?}");
    assert!(!printed.contains(['\n', '\x1B']), "{printed}");
}
