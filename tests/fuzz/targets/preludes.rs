//! A prelude decides in the same way however its input is split, and takes what it has received.
//!
//! The first byte of the input chooses the prelude, the second one is the size of the pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_middleware::prelude::{Imap, Pop3, Postgres, Prelude, PreludeStep, Smtp, Xmpp};

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

fuzz_target!(|input: &[u8]| {
    let Some((&[choice, piece], bytes)) = input.split_first_chunk() else {
        return;
    };
    let piece = usize::from(piece).max(1);
    match choice % 5 {
        0 => {
            // Replies of PostgreSQL are binary.
            let whole = converse(Postgres::new(), bytes, usize::MAX);
            assert_eq!(whole, converse(Postgres::new(), bytes, piece));
        }
        1 => check(Smtp::new("mail.example"), bytes, piece),
        2 => check(Imap::new(), bytes, piece),
        3 => check(Pop3::new(), bytes, piece),
        _ => check(Xmpp::new("chat.example"), bytes, piece),
    }
});
