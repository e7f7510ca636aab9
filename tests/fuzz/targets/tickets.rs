//! A ticket opens with its key, also after a rotation, and nothing else opens.
//!
//! The first two bytes of the input choose a bit of the ticket to change.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_middleware::{
    internal::ticketer,
    tls::{TicketKeys, rustls::server::ProducesTickets},
};
use std::{
    env, fs, process,
    sync::{Arc, LazyLock},
};

struct Tickets {
    old: Arc<dyn ProducesTickets>,
    rotated: Arc<dyn ProducesTickets>,
    /// Without the old key.
    new: Arc<dyn ProducesTickets>,
    random: Arc<dyn ProducesTickets>,
}

static TICKETS: LazyLock<Tickets> = LazyLock::new(|| {
    let path = env::temp_dir().join(format!("portcullis-fuzz-tickets-{}", process::id()));
    let of = |keys: &[[u8; 48]]| {
        fs::write(&path, keys.concat()).expect("a temporary file");
        ticketer(&TicketKeys::file(&path)).expect("valid keys")
    };
    let (first, second) = ([1; 48], [2; 48]);
    let tickets = Tickets {
        old: of(&[first]),
        rotated: of(&[second, first]),
        new: of(&[second]),
        random: ticketer(&TicketKeys::random()).expect("no file"),
    };
    fs::remove_file(&path).expect("it was written");
    tickets
});

fuzz_target!(|input: &[u8]| {
    let Tickets {
        old,
        rotated,
        new,
        random,
    } = &*TICKETS;
    for opener in [old, rotated, new, random] {
        assert_eq!(opener.decrypt(input), None);
        // With the name of a key, it reaches the cipher.
        for name in [[1; 16], [2; 16]] {
            assert_eq!(opener.decrypt(&[&name[..], input].concat()), None);
        }
    }

    let Some((place, session)) = input.split_first_chunk() else {
        return;
    };
    let Some(ticket) = old.encrypt(session) else {
        assert!(session.len() > 16_000);
        return;
    };
    assert_eq!(old.decrypt(&ticket).as_deref(), Some(session));
    assert_eq!(rotated.decrypt(&ticket).as_deref(), Some(session));
    assert_eq!(new.decrypt(&ticket), None);
    assert_eq!(random.decrypt(&ticket), None);
    let renewed = rotated.encrypt(session).expect("as long as before");
    assert_eq!(new.decrypt(&renewed).as_deref(), Some(session));
    assert_eq!(old.decrypt(&renewed), None);

    let place = usize::from(u16::from_be_bytes(*place));
    let mut damaged = ticket.clone();
    damaged[place / 8 % ticket.len()] ^= 1 << (place % 8);
    let cut = &ticket[..place % ticket.len()];
    for opener in [old, rotated] {
        assert_eq!(opener.decrypt(&damaged), None);
        assert_eq!(opener.decrypt(cut), None);
    }
});
