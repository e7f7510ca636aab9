//! A prelude decides in the same way however its input is split, and takes what it has received. So does a request for
//! TLS, to a server that waits for each request. It never takes bytes behind a reply.
//!
//! The first byte of the input chooses the prelude, the second one is the size of the pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_middleware::prelude::{
    Imap, Pop3, Postgres, Prelude, PreludeStep, Smtp, TlsRequest, TlsRequestStep, Xmpp,
};

/// How a conversation ended, its replies, and the number of bytes that were taken.
#[derive(Debug, PartialEq)]
struct Conversation {
    end: Option<PreludeStep>,
    replies: Vec<u8>,
    taken: usize,
}

fn converse(mut prelude: impl Prelude, bytes: &[u8], piece: usize) -> Conversation {
    let mut conversation = Conversation {
        end: None,
        replies: Vec::new(),
        taken: 0,
    };
    let mut end = 0;
    while end < bytes.len() {
        end = bytes.len().min(end.saturating_add(piece));
        while conversation.taken < end {
            let received = &bytes[conversation.taken..end];
            match prelude.advance(received) {
                PreludeStep::Need => break,
                PreludeStep::Reply { taken, reply } => {
                    assert!((1..=received.len()).contains(&taken));
                    conversation.taken += taken;
                    conversation.replies.extend(&*reply);
                }
                step => {
                    if let PreludeStep::StartTls { taken, .. } = step {
                        assert!((1..=received.len()).contains(&taken));
                    }
                    conversation.end = Some(step);
                    return conversation;
                }
            }
        }
    }
    conversation
}

fn check(prelude: impl Prelude, bytes: &[u8], piece: usize) {
    assert!(prelude.greeting().is_empty() || prelude.greeting().ends_with(b"\r\n"));
    let whole = converse(prelude.clone(), bytes, usize::MAX);
    let split = converse(prelude, bytes, piece);
    assert_eq!(whole, split);
    // What a client sends must not begin a line of its own in a reply.
    let text = String::from_utf8_lossy(&whole.replies);
    assert!(!text.contains('\0') && !text.replace("\r\n", "").contains(['\r', '\n']));
}

/// The requests for TLS, and how the conversation ended: with TLS, an error, or neither.
fn request(mut request: TlsRequest, bytes: &[u8], piece: usize) -> (Vec<u8>, Option<Result<(), String>>) {
    let mut requests = request.first().to_vec();
    // Of a server that waits for each request, the replies are separate. A line of `---` separates them here.
    let separator = b"---\n";
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.windows(separator.len()).position(|window| window == separator);
        let (reply, next) = match end {
            Some(end) => (&rest[..end], &rest[end + separator.len()..]),
            None => (rest, &[][..]),
        };
        rest = next;
        let mut is_taken = reply.is_empty();
        let mut received = 0;
        while received < reply.len() {
            received = reply.len().min(received.saturating_add(piece));
            match request.advance(&reply[..received]) {
                Ok(TlsRequestStep::Need) => {}
                // Bytes that arrive later answer what was not requested.
                Ok(_) | Err(_) if received < reply.len() && piece < usize::MAX => {
                    return (requests, Some(Err("split".into())));
                }
                Ok(TlsRequestStep::Write(bytes)) => {
                    requests.extend(&*bytes);
                    is_taken = true;
                }
                Ok(_) => return (requests, Some(Ok(()))),
                Err(error) => return (requests, Some(Err(error.to_string()))),
            }
        }
        if !is_taken {
            return (requests, None);
        }
    }
    (requests, None)
}

/// However replies are split, TLS begins behind the same ones, and nothing is accepted that is refused as a whole.
fn check_request(asks: TlsRequest, bytes: &[u8], piece: usize) {
    let whole = request(asks.clone(), bytes, usize::MAX);
    let split = request(asks, bytes, piece);
    if split.1 != Some(Err("split".into())) {
        assert_eq!(whole, split);
    } else {
        assert!(matches!(whole.1, Some(Err(_))), "{whole:?}");
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&[choice, piece], bytes)) = input.split_first_chunk() else {
        return;
    };
    let piece = usize::from(piece).max(1);
    match choice % 10 {
        0 => {
            // Replies of PostgreSQL are binary.
            let whole = converse(Postgres::new(), bytes, usize::MAX);
            assert_eq!(whole, converse(Postgres::new(), bytes, piece));
        }
        1 => check(Smtp::new("mail.example"), bytes, piece),
        2 => check(Imap::new(), bytes, piece),
        3 => check(Pop3::new(), bytes, piece),
        4 => check(Xmpp::new("chat.example"), bytes, piece),
        5 => check_request(TlsRequest::postgres(), bytes, piece),
        6 => check_request(TlsRequest::smtp("[192.0.2.7]"), bytes, piece),
        7 => check_request(TlsRequest::imap(), bytes, piece),
        8 => check_request(TlsRequest::pop3(), bytes, piece),
        _ => check_request(TlsRequest::xmpp("chat.example"), bytes, piece),
    }
});
