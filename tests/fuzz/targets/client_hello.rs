//! What rustls accepts as a ClientHello is accepted here, with the same contents, however it is split.
//!
//! The first byte of the input is the size of the pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_middleware::{
    peek::{ClientHello, ClientHelloError, ClientHelloParser},
    peek::{Detect, Detector, Protocol, ProtocolDetector},
    tls::rustls::{Error, server::Acceptor},
};

/// Server name, ALPN, cipher suites and signature algorithms.
type Contents = (Option<String>, Vec<Vec<u8>>, Vec<u16>, Vec<u16>);

fn by_rustls(mut bytes: &[u8]) -> Result<Option<Contents>, Error> {
    let mut acceptor = Acceptor::default();
    loop {
        if let Some(accepted) = acceptor.accept().map_err(|(error, _)| error)? {
            let hello = accepted.client_hello();
            let name = hello
                .server_name()
                .map(|name| name.trim_end_matches('.').to_owned());
            return Ok(Some((
                name,
                hello
                    .alpn()
                    .into_iter()
                    .flatten()
                    .map(<[u8]>::to_vec)
                    .collect(),
                hello
                    .cipher_suites()
                    .iter()
                    .map(|&suite| suite.into())
                    .collect(),
                hello
                    .signature_schemes()
                    .iter()
                    .map(|&scheme| scheme.into())
                    .collect(),
            )));
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        acceptor.read_tls(&mut bytes).expect("slices do not fail");
    }
}

fn by_us(bytes: &[u8], piece: usize) -> Result<Option<Contents>, ClientHelloError> {
    let mut parser = ClientHelloParser::new().with_max_len(64 << 10);
    for end in (0..bytes.len()).step_by(piece) {
        if let Some(hello) = parser.parse(&bytes[..end])? {
            return Ok(Some(contents(&hello)));
        }
    }
    Ok(parser.parse(bytes)?.as_ref().map(contents))
}

fn contents(hello: &ClientHello<'_>) -> Contents {
    assert_eq!(hello.ja4().len(), 36);
    assert!(hello.extensions().count() < 1 << 14);
    (
        hello.server_name().map(str::to_ascii_lowercase),
        hello.alpn().map(<[u8]>::to_vec).collect(),
        hello.cipher_suites().collect(),
        hello.signature_algorithms().collect(),
    )
}

fuzz_target!(|input: &[u8]| {
    let Some((&piece, bytes)) = input.split_first() else {
        return;
    };
    let whole = by_us(bytes, usize::MAX);
    let split = by_us(bytes, usize::from(piece).max(1));
    match (&whole, &split) {
        (Ok(whole), Ok(split)) => assert_eq!(whole, split),
        // An error may be found earlier, and then be another one.
        (Err(_), Err(_)) => {}
        _ => panic!("whole {whole:?}, split {split:?}"),
    }
    match (by_rustls(bytes), &whole) {
        (Ok(Some(theirs)), Ok(Some(ours))) => assert_eq!(&theirs, ours),
        // Rules of rustls for fields that are not read here; errors that are found here as soon as they arrive.
        (Err(_), _) | (Ok(None), Ok(None) | Err(_)) => {}
        (theirs, ours) => panic!("rustls {theirs:?}, ours {ours:?}"),
    }
    match (ProtocolDetector::new().detect(bytes), whole) {
        (Detect::Found(Protocol::Tls), Ok(Some(_))) => {}
        (Detect::Found(Protocol::Tls), whole) => panic!("detected, but {whole:?}"),
        _ => {}
    }
});
