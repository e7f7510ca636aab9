//! Simulations that follow from a seed. `PORTCULLIS_SEED=7` repeats the run of one seed.

use crate::upstream::{balance::mix, jitter};
use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, available_parallelism},
    time::Duration,
};

const SEEDS: u64 = 1000;

/// Runs the scenario of each seed in paused time, on all cores. Returns whether these were all seeds.
pub(super) fn for_each_seed<F>(
    scenario: impl Fn(Random) -> F + Sync,
    ended: impl FnMut(F::Output) + Send,
) -> bool
where
    F: Future,
{
    let (next, ended) = (AtomicU64::new(seeds().start), Mutex::new(ended));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds().end {
                return;
            }
            match catch_unwind(AssertUnwindSafe(|| run(&scenario, seed))) {
                Ok(result) => (ended.lock().unwrap())(result),
                Err(_) => panic!("seed {seed}; PORTCULLIS_SEED={seed} repeats it"),
            }
        }
    };
    let cores = available_parallelism().map_or(1, usize::from);
    thread::scope(|threads| {
        for _ in 0..cores {
            threads.spawn(work);
        }
    });
    seeds() == (0..SEEDS)
}

fn run<F: Future>(scenario: impl Fn(Random) -> F, seed: u64) -> F::Output {
    jitter::restart();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, scenario(Random(seed << 32)))
}

fn seeds() -> Range<u64> {
    let one = std::env::var("PORTCULLIS_SEED").ok();
    match one.map(|seed| seed.parse().expect("PORTCULLIS_SEED is a number")) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    }
}

/// Random numbers that follow from the seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 += 1;
        mix(mix(self.0)) % bound
    }

    pub(super) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(super) fn time(&mut self, max: Duration) -> Duration {
        max.mul_f64(self.below(1000) as f64 / 1000.0)
    }

    /// A source for a task of its own, whose numbers do not depend on the order of tasks.
    pub(super) fn split(&mut self) -> Self {
        Self(self.below(u64::MAX / 2))
    }
}

/// Starts a task of the simulation.
pub(super) fn start<W: 'static, F>(
    tasks: &mut tokio::task::JoinSet<()>,
    world: &Rc<W>,
    random: &mut Random,
    task: impl FnOnce(Rc<W>, Random) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    tasks.spawn_local(task(world.clone(), random.split()));
}
