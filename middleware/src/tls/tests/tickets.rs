//! Session tickets with shared and with rotating keys.

use super::{resumption::everywhere, *};
use crate::tls::{CertStore, TicketKeys, TlsProfile};
use rustls::{
    pki_types::UnixTime,
    server::ProducesTickets,
    time_provider::{DefaultTimeProvider, TimeProvider},
};
use std::time::Duration;
use tokio::time::advance;

const FIRST: [u8; 48] = [1; 48];
const SECOND: [u8; 48] = [2; 48];

fn providers() -> Vec<Arc<CryptoProvider>> {
    vec![
        #[cfg(feature = "aws-lc-rs")]
        Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        #[cfg(feature = "ring")]
        Arc::new(rustls::crypto::ring::default_provider()),
    ]
}

fn ticketer(keys: &TicketKeys, provider: &Arc<CryptoProvider>) -> Arc<dyn ProducesTickets> {
    ticketer_at(keys, provider, Arc::new(DefaultTimeProvider))
}

fn ticketer_at(
    keys: &TicketKeys,
    provider: &Arc<CryptoProvider>,
    time: Arc<dyn TimeProvider>,
) -> Arc<dyn ProducesTickets> {
    keys.ticketer(provider, &time).unwrap()
}

/// A clock with one time.
#[derive(Debug)]
struct At(u64);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

fn key_file(files: &Files, name: &str, keys: &[[u8; 48]]) -> TicketKeys {
    let path = files.0.join(name);
    fs::write(&path, keys.concat()).unwrap();
    TicketKeys::file(path)
}

#[test]
fn the_first_key_seals_and_all_keys_open_with_each_provider() {
    let files = Files::new("tickets");
    let old = key_file(&files, "old", &[FIRST]);
    let new = key_file(&files, "new", &[SECOND, FIRST]);
    let other = key_file(&files, "other", &[SECOND]);
    for one in &providers() {
        for another in &providers() {
            let [old, new, other] = [&old, &new, &other].map(|keys| ticketer(keys, one));
            let same = ticketer(&key_file(&files, "old", &[FIRST]), another);
            for plain in [&b"session"[..], &[0; 16 * 1024 - 8], b"ends in zeros\0\0"] {
                let ticket = old.encrypt(plain).unwrap();
                assert_ne!(old.encrypt(plain).unwrap(), ticket, "the nonce is random");
                for opener in [&old, &new, &same] {
                    assert_eq!(opener.decrypt(&ticket).as_deref(), Some(plain));
                }
                assert_eq!(other.decrypt(&ticket), None);
                let renewed = new.encrypt(plain).unwrap();
                assert_eq!(old.decrypt(&renewed), None);
                assert_eq!(other.decrypt(&renewed).as_deref(), Some(plain));
            }
            assert_eq!(old.encrypt(&[0; 16 * 1024 - 7]), None);
        }
    }
}

#[test]
fn a_damaged_or_cut_ticket_is_not_opened() {
    let files = Files::new("damaged-tickets");
    let keys = key_file(&files, "keys", &[FIRST]);
    for provider in &providers() {
        let ticketer = ticketer(&keys, provider);
        let ticket = ticketer.encrypt(b"a session").unwrap();
        for at in 0..ticket.len() {
            assert_eq!(ticketer.decrypt(&ticket[..at]), None, "cut at {at}");
            for bit in 0..8 {
                let mut damaged = ticket.clone();
                damaged[at] ^= 1 << bit;
                assert_eq!(ticketer.decrypt(&damaged), None, "bit {bit} of byte {at}");
            }
        }
    }
}

/// Clients that ignore the lifetime cannot extend it.
#[test]
fn a_ticket_is_opened_for_six_hours_whether_its_key_is_kept_or_not() {
    const ISSUED: u64 = 1_800_000_000;
    const LIFETIME: u64 = 6 * 3_600;
    let files = Files::new("old-tickets");
    for keys in [key_file(&files, "keys", &[FIRST]), TicketKeys::random()] {
        let at = |time| ticketer_at(&keys, &provider(), Arc::new(At(time)));
        let ticket = at(ISSUED).encrypt(b"session").unwrap();
        for (now, is_open) in [
            (ISSUED, true),
            (ISSUED + LIFETIME, true),
            (ISSUED + LIFETIME + 1, false),
            // The clock of another process may be late.
            (ISSUED - LIFETIME, true),
            (ISSUED - LIFETIME - 1, false),
            (0, false),
        ] {
            assert_eq!(at(now).decrypt(&ticket).is_some(), is_open, "{now}");
        }
        assert_eq!(u64::from(at(ISSUED).lifetime()), LIFETIME);
    }
}

#[test]
fn a_file_of_keys_has_whole_keys_with_different_names() {
    let files = Files::new("ticket-files");
    for (bytes, reason) in [
        (vec![], "fewer than 48 bytes"),
        (vec![1; 47], "fewer than 48 bytes"),
        (vec![1; 49], "not a multiple of 48"),
        (vec![1; 96], "same name"),
    ] {
        let path = files.0.join("keys");
        fs::write(&path, bytes).unwrap();
        let time: Arc<dyn TimeProvider> = Arc::new(DefaultTimeProvider);
        let problem = TicketKeys::file(&path).ticketer(&provider(), &time);
        let problem = problem.unwrap_err();
        assert!(problem.to_string().contains(reason), "{problem}");
        assert!(problem.to_string().contains("openssl rand 48"));
        assert_eq!(problem.path(), Some(&*path));
    }
}

#[tokio::test(start_paused = true)]
async fn random_keys_are_replaced_every_six_hours_and_open_tickets_for_six_more() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let keys = TicketKeys::random();
    let provider = provider();
    let sealer = ticketer(&keys, &provider);
    let ticket = sealer.encrypt(b"session").unwrap();
    // A reload makes another ticketer with the same keys.
    let reloaded = ticketer(&keys, &provider);
    assert!(reloaded.decrypt(&ticket).is_some());
    assert_eq!(sealer.lifetime(), 6 * 3_600);
    advance(6 * HOUR - Duration::from_secs(1)).await;
    assert_eq!(sealer.encrypt(b"").unwrap()[..16], ticket[..16]);
    advance(Duration::from_secs(1)).await;
    assert_ne!(sealer.encrypt(b"").unwrap()[..16], ticket[..16]);
    assert!(sealer.decrypt(&ticket).is_some());
    advance(6 * HOUR).await;
    assert_eq!(sealer.decrypt(&ticket), None);
    // After a long silence, both keys are too old.
    let last = sealer.encrypt(b"session").unwrap();
    advance(12 * HOUR).await;
    assert_eq!(sealer.decrypt(&last), None);
    let other = ticketer(&TicketKeys::random(), &provider);
    assert_eq!(other.decrypt(&sealer.encrypt(b"session").unwrap()), None);
}

#[test]
fn keys_are_in_no_debug_output() {
    let files = Files::new("secret-tickets");
    let keys = key_file(&files, "keys", &[FIRST]);
    let text = format!(
        "{keys:?} {:?} {:?}",
        ticketer(&keys, &provider()),
        TicketKeys::random()
    );
    assert!(!text.contains("1, 1"), "{text}");
}

#[tokio::test]
async fn two_servers_with_one_key_file_resume_each_others_sessions() {
    everywhere(async |server| {
        let files = Files::new("shared-tickets");
        let keys = key_file(&files, "keys", &[FIRST]);
        let other = key_file(&files, "other", &[SECOND]);
        let layer = |keys: &TicketKeys| {
            let store = CertStore::builder()
                .pem(SERVER.chain_pem().as_bytes(), SERVER.key_pem().as_bytes())
                .build()
                .unwrap();
            let profile = TlsProfile::new(&store).with_tickets(keys.clone());
            profile
                .with_provider(server.provider.clone())
                .build()
                .unwrap()
        };
        let client = client_config(server.provider.clone(), &[server.setup.version]);
        let client = Arc::new(client);
        let visit = async |layer: &TlsLayer| {
            let (connection, io) = in_memory();
            let known = info(&connection);
            let served = serve(layer.clone(), connection, echo);
            let talk = async { talk(connect(client.clone(), io).await?, b"hello").await };
            let (served, received) = tokio::join!(served, talk);
            served.unwrap();
            assert_eq!(received.unwrap(), b"hello");
            known.tls().unwrap().resumed
        };
        let (one, two, stranger) = (layer(&keys), layer(&keys), layer(&other));
        assert!(!visit(&one).await);
        assert!(visit(&two).await && visit(&one).await, "{:?}", server.setup);
        assert!(
            !visit(&stranger).await,
            "an unknown key leads to a full handshake"
        );
    })
    .await;
}
