//! Accepted and rejected files, and the reported lines.

use super::*;

fn labels(pem: &str) -> Result<Vec<(String, usize)>, (usize, usize, PemFault)> {
    let sections = sections(pem.as_bytes());
    let sections = sections.map_err(|(place, fault)| (place.section, place.line, fault))?;
    let label = |section: Section<'_>| (section.label.to_owned(), section.place.line);
    Ok(sections.into_iter().map(label).collect())
}

fn refused(pem: &str) -> (usize, usize, PemFault) {
    labels(pem).unwrap_err()
}

const ONE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

#[test]
fn sections_are_found_among_text_with_their_lines() {
    let text = format!(
        "subject=CN = back-end.example, O = The --End\nissuer=begin\n{ONE}\n\
         # the end of the first certificate, and - the key -\nBag Attributes\n    friendlyName: key\n\
         -----BEGIN PRIVATE KEY-----\nBB==\n-----END PRIVATE KEY-----\n---\nServer certificate\n---\n"
    );
    let found = labels(&text).unwrap();
    assert_eq!(
        found,
        [
            ("CERTIFICATE".to_owned(), 3),
            ("PRIVATE KEY".to_owned(), 10)
        ]
    );
    assert!(labels("").unwrap().is_empty());
}

#[test]
fn line_ends_trailing_blanks_a_leading_mark_and_a_missing_last_line_end_do_not_matter() {
    for end in ["\n", "\r\n", "\r", "\t \n"] {
        let text = format!("\u{feff}{ONE}{ONE}").replace('\n', end);
        let found = labels(&text).unwrap();
        assert_eq!(found.len(), 2, "{end:?}");
        assert_eq!(found[1].1, 4, "{end:?}");
        assert_eq!(labels(text.trim_end()).unwrap().len(), 2, "{end:?}");
    }
    let indented = ONE.replace("AAAA", "  A A\n\n\tAA");
    let section = &sections(indented.as_bytes()).unwrap()[0];
    assert_eq!(section.decode("CERTIFICATE").unwrap().1, [0; 3]);
}

#[test]
fn files_that_were_joined_without_a_line_end_are_refused() {
    let joined = format!("{}{ONE}", ONE.trim_end());
    assert_eq!(refused(&joined), (1, 3, PemFault::Joined));
    assert_eq!(
        refused(&format!("{ONE}\u{feff}{ONE}")),
        (2, 4, PemFault::ByteOrderMark)
    );
    let spoilt = format!("{ONE}\u{ff}\u{fe}-----BEGIN CERTIFICATE-----");
    assert_eq!(refused(&spoilt).2, PemFault::Boundary);
}

#[test]
fn a_line_that_is_nearly_a_boundary_is_refused_with_its_number() {
    for line in [
        " -----BEGIN CERTIFICATE-----",
        "\t-----BEGIN CERTIFICATE-----",
        "\u{a0}-----BEGIN CERTIFICATE-----",
        "\"-----BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\"",
        "# -----BEGIN CERTIFICATE-----",
        "ca: -----BEGIN CERTIFICATE-----",
        "----BEGIN CERTIFICATE-----",
        "------BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE----",
        "-----BEGIN CERTIFICATE------",
        "-----BEGIN CERTIFICATE",
        "-----BEGIN CERTIFICATE----- MIIB",
        "BEGIN CERTIFICATE-----",
        "BEGIN CERTIFICATE",
        "-----BEGIN  CERTIFICATE-----",
        "-----BEGIN CERTIFICATE -----",
        "-----BEGIN\tCERTIFICATE-----",
        "-----BEGINCERTIFICATE-----",
        "----- BEGIN CERTIFICATE -----",
        "-----begin certificate-----",
        "-----Begin Certificate-----",
        "-----BEGIN certificate-----",
        "-----BEGN CERTIFICATE-----",
        "-----CERTIFICATE-----",
        "\u{2014}BEGIN CERTIFICATE\u{2014}",
        "\u{2013}BEGIN CERTIFICATE\u{2013}",
        "---- BEGIN SSH2 PUBLIC KEY ----",
        "-----BEGIN X509 CRL----",
        "-----BEGIN -----",
        "-----BEGIN-----",
        "-----END",
        "----END CERTIFICATE----",
        " -----END CERTIFICATE-----",
        "-----END  CERTIFICATE-----",
    ] {
        let text = format!("{ONE}\n{line}\nAAAA\n");
        assert_eq!(refused(&text), (2, 5, PemFault::Boundary), "{line:?}");
        let text = format!("{ONE}-----BEGIN CERTIFICATE-----\n{line}\n");
        assert_eq!(refused(&text), (2, 5, PemFault::Boundary), "{line:?}");
    }
}

#[test]
fn boundaries_have_to_match() {
    let no_end = format!("{ONE}-----BEGIN CERTIFICATE-----\nAAAA\n");
    assert_eq!(refused(&no_end), (2, 4, PemFault::NotEnded));
    assert_eq!(
        refused(&format!("{no_end}{ONE}")),
        (2, 4, PemFault::NotEnded)
    );
    assert_eq!(
        refused(&ONE.replace("END CERTIFICATE", "END PRIVATE KEY")),
        (1, 3, PemFault::OtherEnd)
    );
    let no_begin = format!("{ONE}AAAA\n-----END CERTIFICATE-----\n");
    assert_eq!(refused(&no_begin), (2, 5, PemFault::NotBegun));
}

#[test]
fn what_is_not_base64_is_refused_with_its_line() {
    for body in ["AA!A", "AAAA\nComment: none", "AAA\u{e9}", "AAAA-"] {
        let text = format!("text\n{}", ONE.replace("AAAA", &format!("AAAA\n{body}")));
        let (section, line, fault) = refused(&text);
        assert_eq!((section, fault), (1, PemFault::NotBase64), "{body}");
        assert!((4..=5).contains(&line), "{body}: {line}");
    }
    for body in ["A", "=AAA", "AA=A"] {
        let text = ONE.replace("AAAA", body);
        let section = &sections(text.as_bytes()).unwrap()[0];
        assert_eq!(
            section.decode("CERTIFICATE").unwrap_err(),
            PemFault::NotBase64
        );
    }
}

#[test]
fn an_encrypted_key_of_the_old_form_is_seen() {
    let key = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
               DEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    assert!(sections(key.as_bytes()).unwrap()[0].is_encrypted);
    let clear = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    assert!(!sections(clear.as_bytes()).unwrap()[0].is_encrypted);
}

#[test]
fn another_encoding_of_text_is_told_apart() {
    let text = format!("\u{feff}{ONE}");
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for pem in [little, big] {
        let (place, fault) = sections(&pem).err().unwrap();
        assert_eq!((place.line, fault), (1, PemFault::Utf16));
    }
}

/// With one byte changed, a file still has all of its sections or is rejected.
#[test]
fn no_single_change_makes_a_section_disappear() {
    let whole = format!("{ONE}{ONE}{ONE}");
    let changes: [&[u8]; 8] = [b" ", b"\n", b"\"", b"-", b"\xef\xbb\xbf", b"#", b"A", b"\0"];
    for at in 0..=whole.len() {
        for cut in [0, 1] {
            for change in changes {
                let rest = whole.as_bytes().get(at + cut..).unwrap_or_default();
                let text = [&whole.as_bytes()[..at], change, rest].concat();
                if let Ok(sections) = sections(&text) {
                    assert_eq!(sections.len(), 3, "{:?}", String::from_utf8_lossy(&text));
                }
            }
        }
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let mut state = 7_u32;
    let mut below = |bound: usize| {
        // From Numerical Recipes; the high bits are the better ones.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize % bound
    };
    let pieces: [&[u8]; 8] = [
        b"-----BEGIN ",
        b"-----END ",
        b"CERTIFICATE-----",
        b"\r",
        b"\n",
        b"\xef\xbb\xbf",
        b"AAAA",
        b"\xff",
    ];
    for _ in 0..20_000 {
        let text: Vec<u8> = vec![(); below(12)]
            .into_iter()
            .flat_map(|()| pieces[below(8)])
            .copied()
            .collect();
        let _ = sections(&text).map(|all| all.iter().for_each(|s| drop(s.decode("X509 CRL"))));
    }
}
