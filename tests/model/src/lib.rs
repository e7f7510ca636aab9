//! Services that wait while their stack is replaced: under every schedule each of them is woken, takes the newest
//! stack, and leaves nothing behind.

#![allow(
    dead_code,
    missing_docs,
    reason = "the included file has more than is checked"
)]

#[path = "../../../src/service/reload/service.rs"]
mod service;

mod sync {
    pub(super) use shuttle::sync::{Arc, Mutex, MutexGuard};
    pub(super) use std::sync::PoisonError;
}

#[cfg(test)]
mod tests {
    use super::service::{Reload, lock};
    use shuttle::{
        future::block_on,
        sync::{Arc, Mutex},
        thread,
    };
    use std::{
        convert::Infallible,
        future::{Ready, poll_fn, ready},
        sync::atomic::{AtomicUsize, Ordering},
        task::{Context, Poll, Waker},
    };
    use tower::Service;

    /// A stack with a number, and with a limit whose slots can be given back.
    #[derive(Clone)]
    struct Limited {
        number: u64,
        limit: Arc<Mutex<Limit>>,
    }

    #[derive(Default)]
    struct Limit {
        slots: usize,
        waiting: Vec<Waker>,
    }

    impl Limited {
        fn new(number: u64, slots: usize) -> Self {
            let waiting = Vec::new();
            let limit = Arc::new(Mutex::new(Limit { slots, waiting }));
            Self { number, limit }
        }

        fn release(&self) {
            let mut limit = self.limit.lock().unwrap();
            limit.slots += 1;
            let waiting = std::mem::take(&mut limit.waiting);
            drop(limit);
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    impl Service<()> for Limited {
        type Response = u64;
        type Error = Infallible;
        type Future = Ready<Result<u64, Infallible>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            let mut limit = self.limit.lock().unwrap();
            if limit.slots > 0 {
                return Poll::Ready(Ok(()));
            }
            limit.waiting.push(cx.waker().clone());
            Poll::Pending
        }

        fn call(&mut self, (): ()) -> Self::Future {
            ready(Ok(self.number))
        }
    }

    /// The number of the stack that serves.
    fn served_by(mut reload: Reload<Limited>) -> u64 {
        block_on(async {
            poll_fn(|cx| reload.poll_ready(cx)).await.unwrap();
            reload.call(()).await.unwrap()
        })
    }

    /// Full stacks are replaced by one that is not, while `waiters` wait.
    fn a_full_stack_is_replaced(waiters: usize, swaps: u64) {
        let (reload, handle) = Reload::pair(Limited::new(0, 0));
        let waiting: Vec<_> = (0..waiters)
            .map(|_| {
                let reload = reload.clone();
                thread::spawn(move || served_by(reload))
            })
            .collect();
        for swap in 1..=swaps {
            let slots = if swap == swaps { 1 } else { 0 };
            handle.swap(Limited::new(swap, slots));
        }
        for waiting in waiting {
            // A wake that is missed is a deadlock, which fails the check.
            assert_eq!(waiting.join().unwrap(), swaps);
        }
        assert!(lock(&handle.shared).waiting.is_empty());
    }

    /// A slot of the old stack becomes free while a new one with a slot arrives, and a third service stops waiting.
    fn a_slot_is_released_during_the_swap() {
        let old = Limited::new(0, 0);
        let (reload, handle) = Reload::pair(old.clone());
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let reload = reload.clone();
                thread::spawn(move || served_by(reload))
            })
            .collect();
        let mut leaves = reload.clone();
        let leaves = thread::spawn(move || {
            block_on(poll_fn(|cx| {
                let _waits = leaves.poll_ready(cx);
                Poll::Ready(())
            }));
            drop(leaves);
        });
        let releases = thread::spawn(move || old.release());
        handle.swap(Limited::new(1, 1));
        for waiting in waiting {
            assert!(waiting.join().unwrap() <= 1);
        }
        leaves.join().unwrap();
        releases.join().unwrap();
        assert!(lock(&handle.shared).waiting.is_empty());
    }

    static SCHEDULES: AtomicUsize = AtomicUsize::new(0);

    /// Checks every schedule of a small case, and says how many there are.
    fn check_all(name: &str, case: impl Fn() + Send + Sync + 'static) {
        let before = SCHEDULES.load(Ordering::Relaxed);
        shuttle::check_dfs(
            move || {
                SCHEDULES.fetch_add(1, Ordering::Relaxed);
                case();
            },
            None,
        );
        let schedules = SCHEDULES.load(Ordering::Relaxed) - before;
        println!("{name}: all {schedules} schedules");
    }

    #[test]
    fn a_service_that_waits_is_woken_under_every_schedule() {
        check_all("one waits, two swaps", || a_full_stack_is_replaced(1, 2));
    }

    #[test]
    fn several_wait_under_random_schedules() {
        shuttle::check_random(|| a_full_stack_is_replaced(3, 3), 200_000);
        shuttle::check_random(a_slot_is_released_during_the_swap, 200_000);
        shuttle::check_pct(|| a_full_stack_is_replaced(3, 3), 100_000, 3);
    }
}
