//! The counts of `KeyedLimitLayer` under each schedule of up to three threads.

use super::{
    counts::{Counts, Taken},
    key::KeyBytes,
};
use crate::meter::Gauge;
use loom::thread;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

pub(crate) fn check() {
    run("two take and release one key", None, || {
        let counts = Arc::new(Counts::new(1, 4, &Gauge));
        let other = spawn(&counts, |counts| take_and_release(counts, A));
        let served = take_and_release(&counts, A) + other.join().unwrap();
        assert!(
            (1..=2).contains(&served),
            "one of them finds the limit free"
        );
        assert_idle(&counts);
    });
    run("two take and hold one key up to its limit", None, || {
        let counts = Arc::new(Counts::new(1, 4, &Gauge));
        let other = spawn(&counts, |counts| counts.take(A, false));
        let both = [counts.take(A, false), other.join().unwrap()];
        let served = both
            .iter()
            .filter(|taken| matches!(taken, Taken::Within(_)));
        assert_eq!(served.count(), 1);
        assert_eq!(
            (counts.active(), counts.active_of(A), counts.keys()),
            (1, 1, 1)
        );
        drop(both);
        assert_idle(&counts);
    });
    run(
        "a key leaves a full table while another arrives",
        None,
        || {
            let counts = Arc::new(Counts::new(2, 1, &Gauge));
            let held = counts.take(A, false);
            let other = spawn(&counts, |counts| counts.take(B, false));
            drop(held);
            match other.join().unwrap() {
                Taken::TableFull => assert_idle(&counts),
                taken => {
                    assert_eq!((counts.active_of(A), counts.active_of(B)), (0, 1));
                    drop(taken);
                }
            }
            assert_idle(&counts);
        },
    );
    run(
        "three take, release and resize, with two keys",
        Some(3),
        || {
            let counts = Arc::new(Counts::new(1, 2, &Gauge));
            let one = spawn(&counts, |counts| {
                take_and_release(counts, A);
                take_and_release(counts, B);
            });
            let two = spawn(&counts, |counts| {
                let held = counts.take(B, false);
                take_and_release(counts, A);
                drop(held);
            });
            counts.set_limit(0);
            take_and_release(&counts, A);
            counts.set_limit(2);
            let held = counts.take(A, true);
            let counted = matches!(held, Taken::Within(_) | Taken::Beyond(Some(_)));
            assert!(counted && counts.active_of(A) >= 1);
            drop(held);
            one.join().unwrap();
            two.join().unwrap();
            assert_idle(&counts);
        },
    );
}

/// Whether it was within the limit, as a number.
fn take_and_release(counts: &Arc<Counts>, key: KeyBytes) -> usize {
    let taken = counts.take(key, false);
    usize::from(matches!(taken, Taken::Within(_)))
}

#[track_caller]
fn assert_idle(counts: &Counts) {
    assert_eq!((counts.active(), counts.keys()), (0, 0));
}

fn spawn<T: 'static>(
    counts: &Arc<Counts>,
    work: impl FnOnce(&Arc<Counts>) -> T + 'static,
) -> thread::JoinHandle<T> {
    let counts = counts.clone();
    thread::spawn(move || work(&counts))
}

/// Runs `model` under every schedule, or under those with at most `preemptions`.
fn run(name: &str, preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let schedules = Arc::new(AtomicUsize::new(0));
    let count = schedules.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let bound = preemptions.map_or("all".to_owned(), |most| {
        format!("at most {most} preemptions")
    });
    println!(
        "{name}: {} schedules ({bound})",
        schedules.load(Ordering::Relaxed)
    );
}

const A: KeyBytes = KeyBytes::new([1; 16]);
const B: KeyBytes = KeyBytes::new([2; 16]);
