//! Nanoseconds of a read and a write through a stack, without a system call in them.
//!
//! [`TASKS`] tasks share one thread; each reads and writes through the stack over a [`Mock`], whose
//! every read waits once. So what is timed is the stack and tokio's scheduler, and little else.
//!
//! The same is done with nothing around the mock, before or after it in turn. What a stack adds is the
//! difference of the two, which a change in the speed of the machine affects alike.

mod mock;

pub(crate) use self::mock::{MESSAGE, Mock};

use harness::{BoxError, stats::quartiles};
use nix::time::ClockId;
use portcullis::server::Stack;
use std::{fmt, future::poll_fn, io, str::FromStr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    runtime::{Builder, Runtime},
    spawn,
    task::JoinHandle,
};
use tower::service_fn;

/// Nanoseconds of an operation (one read and one write) through a stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Costs {
    /// All of it, the mock and the scheduler as well: the median.
    pub(crate) all: f64,
    /// The quartiles of what the stack adds. The second is the median.
    pub(crate) added: [f64; 3],
}

impl Costs {
    /// Measures `stack`, in this thread.
    pub(crate) fn of(mut stack: impl Stack<Mock>) -> Result<Self, BoxError> {
        // Timers only. With sockets it would poll the kernel for events now and then.
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let mut raw = service_fn(run::<Mock>);
        let mut pairs = Vec::with_capacity(PAIRS);
        // The first warms up.
        for pair in 0..=PAIRS {
            let (raw, stack) = match pair % 2 {
                0 => {
                    let first = time(&runtime, &mut raw)?;
                    (first, time(&runtime, &mut stack)?)
                }
                _ => {
                    let first = time(&runtime, &mut stack)?;
                    (time(&runtime, &mut raw)?, first)
                }
            };
            if pair > 0 {
                pairs.push((raw, stack));
            }
        }
        Self::from_pairs(&pairs).ok_or_else(|| "nothing was done".into())
    }

    /// From the nanoseconds of an operation with nothing around it, and of one through the stack.
    fn from_pairs(pairs: &[(f64, f64)]) -> Option<Self> {
        let [_, all, _] = quartiles(pairs.iter().map(|(_, stack)| *stack))?;
        let added = quartiles(pairs.iter().map(|(raw, stack)| stack - raw))?;
        Some(Self { all, added })
    }
}

/// The format that a server sends, and [`FromStr`] parses.
impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, median, high] = self.added;
        write!(f, "{} {low} {median} {high}", self.all)
    }
}

impl FromStr for Costs {
    type Err = BoxError;

    fn from_str(text: &str) -> Result<Self, BoxError> {
        let values = text.split_whitespace().map(str::parse);
        let values: Vec<f64> = values.collect::<Result<_, _>>()?;
        let [all, ref added @ ..] = *values else {
            return Err("no costs".into());
        };
        let added = added.try_into()?;
        Ok(Self { all, added })
    }
}

/// Nanoseconds of an operation through `stack`.
fn time(runtime: &Runtime, stack: &mut impl Stack<Mock>) -> Result<f64, BoxError> {
    // The tasks start when the runtime is entered again, so `call` is not timed.
    let tasks = runtime.block_on(start(stack))?;
    let begun = cpu_time()?;
    runtime.block_on(async {
        for task in tasks {
            task.await??;
        }
        Ok::<_, BoxError>(())
    })?;
    let took = cpu_time()?.saturating_sub(begun);
    Ok(took.as_nanos() as f64 / f64::from(TASKS * OPERATIONS))
}

type Task = JoinHandle<Result<(), BoxError>>;

async fn start(stack: &mut impl Stack<Mock>) -> Result<Vec<Task>, BoxError> {
    let mut tasks = Vec::with_capacity(TASKS as usize);
    for _ in 0..TASKS {
        poll_fn(|cx| stack.poll_ready(cx))
            .await
            .map_err(Into::into)?;
        let served = stack.call(Mock::new());
        tasks.push(spawn(async { served.await.map(drop).map_err(Into::into) }));
    }
    Ok(tasks)
}

/// What each task does.
pub(crate) async fn run<IO>(mut io: IO) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = [0; MESSAGE];
    for _ in 0..OPERATIONS {
        let read = io.read(&mut buffer).await?;
        io.write_all(&buffer[..read]).await?;
    }
    Ok(())
}

/// CPU time of this thread, which does not go on while another program has the CPU.
fn cpu_time() -> Result<Duration, BoxError> {
    Ok(ClockId::CLOCK_THREAD_CPUTIME_ID.now()?.into())
}

/// As many as the connections of the echoes.
const TASKS: u32 = 64;

/// Operations of each task. With so many, what a task does once (its first timer) has no effect.
pub(crate) const OPERATIONS: u32 = 2048;

/// Odd, and with as many before each quartile as between two.
const PAIRS: usize = 21;

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        cell::Cell,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
    };

    #[test]
    fn what_is_added_is_the_difference_within_a_pair() {
        // The machine gets slower from pair to pair; the stack always adds 2, once 4.
        let pairs = [
            (10.0, 12.0),
            (20.0, 22.0),
            (30.0, 34.0),
            (40.0, 42.0),
            (90.0, 92.0),
        ];
        let costs = Costs::from_pairs(&pairs).unwrap();
        assert_eq!((costs.all, costs.added), (34.0, [2.0, 2.0, 2.0]));
        assert_eq!(Costs::from_pairs(&[]), None);
    }

    #[test]
    fn costs_pass_through_text() {
        let costs = Costs {
            all: 37.25,
            added: [-0.5, 0.125, 1e-9],
        };
        assert_eq!(costs.to_string().parse::<Costs>().unwrap(), costs);
        for text in ["", "1", "1 2 3", "1 2 3 4 5", "1 2 3 x"] {
            assert!(text.parse::<Costs>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn each_task_gets_a_mock_and_none_begins_before_its_time() {
        thread_local!(static BEGUN: Cell<u32> = const { Cell::new(0) });
        let mut stack = service_fn(|mut io: Mock| async move {
            BEGUN.set(BEGUN.get() + 1);
            io.read_u8().await.map(drop)
        });
        let runtime = Builder::new_current_thread().build().unwrap();
        let tasks = runtime.block_on(start(&mut stack)).unwrap();
        assert_eq!((tasks.len() as u32, BEGUN.get()), (TASKS, 0));
        runtime.block_on(async {
            for task in tasks {
                task.await.unwrap().unwrap();
            }
        });
        assert_eq!(BEGUN.get(), TASKS);
    }

    #[test]
    fn a_stack_that_fails_has_no_costs() {
        let calls = Arc::new(AtomicU32::new(0));
        let seen = calls.clone();
        let stack = service_fn(move |_: Mock| {
            seen.fetch_add(1, Ordering::Relaxed);
            async { Err::<(), _>(BoxError::from("it broke")) }
        });
        let error = Costs::of(stack).unwrap_err();
        assert_eq!(error.to_string(), "it broke");
        assert_eq!(calls.load(Ordering::Relaxed), TASKS);
    }
}
