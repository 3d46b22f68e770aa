//! The way of a line out of the process: a bounded queue, a thread that writes, and a count of what was lost on the way.
//!
//! Whoever logs never waits. A line that finds the queue full is dropped and counted, so is one that the output does not
//! take. The writing thread reports losses itself, in a line past the queue: a report that had to queue would be the next
//! line to be dropped.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::time::Instant;
use tracing::Level;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::format::{LineBuffer, Style};

/// Losses are reported at most this often.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// What lines are written to.
pub(super) type Output = Box<dyn Write + Send>;

/// A queue of lines and the thread that writes them.
pub(super) struct Sink {
    losses: Arc<Losses>,
    output: Box<dyn Fn() -> Output + Send + Sync>,
    queue: ArcSwap<NonBlocking>,
    /// The thread behind `queue`; `None` after the end.
    thread: Mutex<Option<Thread>>,
}

struct Thread {
    queue_lines: usize,
    /// Held for its `Drop`, which waits (for a second at most) until the queue is written.
    _guard: WorkerGuard,
}

impl Sink {
    /// A sink with room for `queue_lines`; `output` is opened anew when the queue is replaced.
    pub(super) fn new(
        label: &'static str,
        style: Style,
        queue_lines: usize,
        output: impl Fn() -> Output + Send + Sync + 'static,
    ) -> Self {
        let losses = Arc::new(Losses {
            label,
            style: AtomicU8::new(style as u8),
            queues: Mutex::default(),
            unwritten: AtomicU64::new(0),
            ending: AtomicBool::new(false),
        });
        let (queue, thread) = spawn(queue_lines, output(), &losses);
        Self { losses, output: Box::new(output), queue: ArcSwap::from_pointee(queue), thread: Mutex::new(Some(thread)) }
    }

    /// Where lines go, as label.
    pub(super) fn label(&self) -> &'static str {
        self.losses.label
    }

    /// Lines lost so far.
    pub(super) fn dropped(&self) -> u64 {
        self.losses.total()
    }

    pub(super) fn style(&self) -> Style {
        self.losses.style()
    }

    /// Changes form and room from the next line on. Lines that wait are written all the same.
    pub(super) fn apply(&self, style: Style, queue_lines: usize) {
        self.losses.style.store(style as u8, Ordering::Relaxed);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.as_ref().is_some_and(|thread| thread.queue_lines != queue_lines) {
            let (queue, new) = spawn(queue_lines, (self.output)(), &self.losses);
            self.queue.store(Arc::new(queue));
            *thread = Some(new);
        }
    }

    /// Queues a line, or drops and counts it.
    pub(super) fn write(&self, line: &[u8]) {
        let mut queue = NonBlocking::clone(&self.queue.load());
        // Never fails while it is lossy.
        if queue.write_all(line).is_err() {
            self.losses.unwritten.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes what waits, and says what was lost; lines from now on are lost.
    pub(super) fn close(&self) {
        self.losses.ending.store(true, Ordering::Relaxed);
        drop(self.thread.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn spawn(queue_lines: usize, output: Output, losses: &Arc<Losses>) -> (NonBlocking, Thread) {
    let writer = Writer { output, losses: Arc::clone(losses), reported: losses.total(), reported_at: None };
    let (queue, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(queue_lines).thread_name("log").finish(writer);
    losses.queues.lock().unwrap_or_else(PoisonError::into_inner).push(queue.error_counter());
    (queue, Thread { queue_lines, _guard: guard })
}

/// What was lost, and how to say it.
struct Losses {
    label: &'static str,
    style: AtomicU8,
    /// What this queue and those before it had no room for.
    queues: Mutex<Vec<ErrorCounter>>,
    /// What the output did not take.
    unwritten: AtomicU64,
    ending: AtomicBool,
}

impl Losses {
    fn total(&self) -> u64 {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped: u64 = queues.iter().map(|counter| counter.dropped_lines() as u64).sum();
        dropped + self.unwritten.load(Ordering::Relaxed)
    }

    fn style(&self) -> Style {
        Style::from_number(self.style.load(Ordering::Relaxed))
    }
}

/// What the thread writes to.
struct Writer {
    output: Output,
    losses: Arc<Losses>,
    reported: u64,
    reported_at: Option<Instant>,
}

impl Writer {
    /// Says how many lines were lost since the last report.
    fn report(&mut self) {
        let lost = self.losses.total();
        let recently = self.reported_at.is_some_and(|at| at.elapsed() < REPORT_INTERVAL);
        if lost == self.reported || recently && !self.losses.ending.load(Ordering::Relaxed) {
            return;
        }
        let mut line = LineBuffer::default();
        line.begin(self.losses.style());
        line.message("log lines were dropped");
        line.number("lines", lost - self.reported);
        line.text("sink", self.losses.label);
        if self.output.write_all(line.end(SystemTime::now(), Level::WARN, module_path!())).is_ok() {
            self.reported = lost;
            self.reported_at = Some(Instant::now());
        }
    }
}

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line).map(|()| line.len())
    }

    /// The thread passes whole lines, and passes over errors in silence.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.output.write_all(line);
        if written.is_err() {
            self.losses.unwritten.fetch_add(1, Ordering::Relaxed);
        } else {
            self.report();
        }
        written
    }

    /// Called when the queue is empty, and at the end.
    fn flush(&mut self) -> io::Result<()> {
        self.report();
        self.output.flush()
    }
}
