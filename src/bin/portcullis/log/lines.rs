//! Writes lines without ever stalling the program.
//!
//! Lines go through a bounded queue to a thread that writes them. If the reader of the log stops reading, the queue
//! fills, and further lines are dropped and counted. The count is logged when the reader is back.
//!
//! Lines that cannot be written, to a full disk for example, are dropped and counted, too. Once nothing can be sent any
//! more, the first such line ends the thread, so that a file that was rotated is closed.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};
use tokio::time::Instant;

/// Between attempts to write, after an error.
const PAUSE: Duration = Duration::from_millis(100);

/// Between warnings about lines that cannot be written.
const WARN_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Lines that wait for the reader.
const QUEUE: usize = 8_192;

/// Lines that were dropped since the start.
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// The way of the lines to the thread that writes them, which ends after the last clone.
#[derive(Clone)]
pub(super) struct Lines(Arc<Queue>);

struct Queue {
    lines: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

/// Waits for the writing thread when it is dropped, for a moment.
pub(super) struct Flush {
    /// `None` if nothing waits for the thread.
    end: Option<SyncSender<Vec<u8>>>,
    written: Receiver<()>,
}

impl Lines {
    /// Fails if the system has no further thread.
    pub(super) fn to(output: impl Write + Send + 'static) -> io::Result<(Self, Flush)> {
        let (lines, queue) = sync_channel(QUEUE);
        let (done, written) = sync_channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let end = lines.clone();
        let counter = dropped.clone();
        let thread = thread::Builder::new().name("log".into());
        thread.spawn(move || {
            write_all(&queue, output, &counter);
            let _ = done.send(());
        })?;
        let lines = Self(Arc::new(Queue { lines, dropped }));
        let end = Some(end);
        Ok((lines, Flush { end, written }))
    }

    /// A line, which is sent when it is dropped.
    pub(super) fn line(&self) -> Line {
        Line {
            queue: self.0.clone(),
            bytes: Vec::new(),
        }
    }
}

/// Writes until an empty line asks for the end, or the output is gone.
fn write_all(queue: &Receiver<Vec<u8>>, output: impl Write, dropped: &Arc<AtomicU64>) {
    let mut output = Output::new(output);
    let mut warned: Option<Instant> = None;
    let mut failed: Option<io::Error> = None;
    while let Ok(line) = queue.recv() {
        if line.is_empty() {
            break;
        }
        match output.write_line(line) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) => {
                // A full disk, for example, which may have space later.
                if warned.is_none_or(|warned| warned.elapsed() >= WARN_AGAIN_AFTER) {
                    warned = Some(Instant::now());
                    tracing::warn!(%error, "lines of the log cannot be written and are dropped");
                }
                count(dropped, 1);
                // The queue holds the other one. An open file keeps its space on the disk, even a deleted one.
                let is_replaced = Arc::strong_count(dropped) == 1;
                if is_replaced {
                    count(dropped, queue.try_iter().count() as u64);
                    break;
                }
                failed = Some(error);
                thread::park_timeout(PAUSE);
                continue;
            }
        }
        let dropped = dropped.swap(0, Ordering::Relaxed);
        match failed.take() {
            Some(error) => tracing::warn!(
                dropped,
                %error,
                "lines of the log were dropped, because they could not be written"
            ),
            None if dropped > 0 => tracing::warn!(
                dropped,
                "lines of the log were dropped, because it was not read"
            ),
            None => {}
        }
    }
    let _ = output.to.flush();
}

fn count(dropped: &AtomicU64, lines: u64) {
    dropped.fetch_add(lines, Ordering::Relaxed);
    DROPPED.fetch_add(lines, Ordering::Relaxed);
}

/// Where lines are written, and whether the last one has no end.
struct Output<W> {
    to: W,
    is_torn: bool,
}

impl<W: Write> Output<W> {
    const fn new(to: W) -> Self {
        let is_torn = false;
        Self { to, is_torn }
    }

    /// Ends a torn line first.
    fn write_line(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        if self.is_torn {
            line.insert(0, b'\n');
        }
        let mut rest = &*line;
        while !rest.is_empty() {
            match self.to.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.is_torn = rest[written - 1] != b'\n';
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Flush {
    /// Lets the thread write what is left on its own.
    pub(super) fn detach(mut self) {
        self.end = None;
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        /// A reader that is stuck must not keep the process.
        const PATIENCE: Duration = Duration::from_millis(500);
        let Some(end) = self.end.take() else {
            return;
        };
        let begun = Instant::now();
        while end.try_send(Vec::new()).is_err() {
            if begun.elapsed() > PATIENCE {
                return;
            }
            thread::park_timeout(PAUSE / 10);
        }
        let _ = self.written.recv_timeout(PATIENCE);
    }
}

/// One line, which is sent when it is complete.
pub(super) struct Line {
    queue: Arc<Queue>,
    bytes: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        let line = std::mem::take(&mut self.bytes);
        if self.queue.lines.try_send(line).is_err() {
            count(&self.queue.dropped, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Writes block while the test holds the lock.
    #[derive(Clone, Default)]
    struct Stuck(Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .expect("not poisoned")
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A disk with space for `free` further bytes.
    #[derive(Clone, Default)]
    struct Disk {
        written: Arc<Mutex<Vec<u8>>>,
        free: Arc<AtomicU64>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let free = self.free.load(Ordering::SeqCst) as usize;
            let fits = free.min(bytes.len());
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.free.fetch_sub(fits as u64, Ordering::SeqCst);
            let mut written = self.written.lock().expect("not poisoned");
            written.extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_file_that_was_rotated_is_closed_without_a_pause_for_each_line() {
        let disk = Disk::default();
        let (lines, flush) = Lines::to(disk.clone()).expect("there are threads");
        for number in 0..1_000 {
            writeln!(lines.line(), "line {number}").expect("never fails");
        }
        let begun = Instant::now();
        flush.detach();
        drop(lines);
        while Arc::strong_count(&disk.free) > 1 {
            // A pause for each of the lines would be 100 s.
            assert!(begun.elapsed() < Duration::from_secs(20), "it is open");
            thread::yield_now();
        }
        assert!(dropped() >= 1_000, "{}", dropped());
    }

    #[test]
    fn a_line_that_was_cut_by_a_full_disk_is_ended_before_the_next() {
        let disk = Disk::default();
        let mut output = Output::new(disk.clone());
        let mut write = |free, line: &[u8]| {
            disk.free.store(free, Ordering::SeqCst);
            output.write_line(line.to_vec())
        };
        assert!(write(3, b"first\n").is_err());
        // The end of the line fits, and nothing else.
        assert!(write(1, b"second\n").is_err());
        assert!(write(100, b"third\n").is_ok());
        assert!(write(0, b"fourth\n").is_err());
        assert!(write(100, b"fifth\n").is_ok());
        let written = disk.written.lock().expect("not poisoned");
        assert_eq!(&**written, b"fir\nthird\nfifth\n");
    }

    #[test]
    fn a_reader_that_stops_reading_costs_lines_and_no_time() {
        let output = Stuck::default();
        let (lines, flush) = Lines::to(output.clone()).expect("there are threads");
        let reader = output.0.lock().expect("not poisoned");
        let more_than_fit = QUEUE + 100;
        for number in 0..more_than_fit {
            writeln!(lines.line(), "line {number}").expect("never fails");
        }
        drop(reader);
        // One more line passes behind those that waited, and the count with it.
        while lines.0.lines.try_send(b"last\n".to_vec()).is_err() {
            thread::yield_now();
        }
        drop(flush);
        let written = output.0.lock().expect("not poisoned");
        let written = String::from_utf8_lossy(&written);
        let count = |prefix: &str| {
            written
                .lines()
                .filter(|line| line.starts_with(prefix))
                .count()
        };
        let kept = count("line ");
        // The writing thread holds one line that is not in the queue any more.
        assert!((QUEUE..=QUEUE + 1).contains(&kept), "{kept}");
        assert_eq!(count("last"), 1);
    }
}
