//! The log: JSON lines or text on one output, written by a thread of its own.
//!
//! The threads that log never wait: lines go through a queue of `queue_lines`; when it is full they are dropped, counted
//! in `plimsoll_log_dropped_total`, and reported by a line of their own once there is room again.
//! `run` logs to standard output, which carries nothing else, so every line of it can be parsed; what must be said while
//! no log stands yet (and panics) goes to standard error as plain text. Level, format, access log and queue follow the
//! configuration on a reload. `format` has the lines themselves.

mod format;

use std::cell::RefCell;
use std::io::{BufWriter, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use self::format::{LineBuffer, SpanFields, Style};
use crate::config::model::{Log, LogFormat, LogLevel};
use crate::telemetry::access;

/// The writing thread hands lines to the system in blocks of up to this size.
const WRITE_BLOCK_BYTES: usize = 64 * 1024;

/// Dropped lines are reported at most this often.
const DROP_REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error: for commands whose standard output is for something else.
    Stderr,
}

impl Output {
    const fn label(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => std::io::stdout().is_terminal(),
            Self::Stderr => std::io::stderr().is_terminal(),
        }
    }

    fn writer(self) -> Box<dyn Write + Send> {
        match self {
            Self::Stdout => Box::new(BufWriter::with_capacity(WRITE_BLOCK_BYTES, std::io::stdout())),
            Self::Stderr => Box::new(BufWriter::with_capacity(WRITE_BLOCK_BYTES, std::io::stderr())),
        }
    }
}

/// Why the log could not be started.
#[derive(Debug, Error)]
pub enum LogError {
    /// There is one already.
    #[error("a log was started already in this process")]
    AlreadyStarted,
}

/// Starts the log of this process.
///
/// # Errors
/// If there is one already.
pub fn start(settings: &Log, output: Output) -> Result<LogGuard, LogError> {
    let shared = Arc::new(Shared::new(settings, output.label(), output.is_terminal(), move || output.writer()));
    let subscriber = tracing_subscriber::registry().with(LogLayer(Arc::clone(&shared)));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::AlreadyStarted)?;
    Ok(LogGuard { control: LogControl(shared) })
}

/// Keeps the log going; when it is dropped, waiting lines are written, for at most a second.
#[derive(Debug)]
pub struct LogGuard {
    control: LogControl,
}

impl LogGuard {
    /// What a reload needs of the log.
    #[must_use]
    pub fn control(&self) -> LogControl {
        self.control.clone()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.control.0.report_drops(Duration::ZERO);
        self.control.0.close();
    }
}

/// Changes the log while it runs.
#[derive(Debug, Clone)]
pub struct LogControl(Arc<Shared>);

impl LogControl {
    /// Follows new settings from the next line on.
    pub fn apply(&self, settings: &Log) {
        self.0.apply(settings);
        // Call sites remember whether anyone wants them.
        tracing::callsite::rebuild_interest_cache();
    }

    /// The count of dropped lines.
    #[must_use]
    pub fn drops(&self) -> Drops {
        Drops(Arc::clone(&self.0))
    }
}

/// The count of dropped lines, as the metrics show it.
#[derive(Debug, Clone)]
pub struct Drops(Arc<Shared>);

impl Drops {
    /// Where the lines should have gone.
    #[must_use]
    pub fn sink(&self) -> &'static str {
        self.0.sink
    }

    /// How many were dropped since the start.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.0.dropped()
    }
}

/// The settings in force and the queue to the writing thread.
struct Shared {
    sink: &'static str,
    terminal: bool,
    writer: Box<dyn Fn() -> Box<dyn Write + Send> + Send + Sync>,
    level: AtomicU8,
    json: AtomicBool,
    access: AtomicBool,
    queue: ArcSwap<NonBlocking>,
    /// The thread behind `queue`; `None` after the end.
    thread: Mutex<Option<Thread>>,
    /// Of this queue and those before it.
    counters: Mutex<Vec<ErrorCounter>>,
    /// Lines that could not be written.
    failed: Arc<AtomicU64>,
    reported: AtomicU64,
    /// When drops were last reported, in milliseconds since 1970.
    reported_at: AtomicU64,
}

struct Thread {
    queue_lines: usize,
    /// Held for its `Drop`, which waits until the queue is written.
    _guard: WorkerGuard,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("sink", &self.sink).finish_non_exhaustive()
    }
}

impl Shared {
    fn new(
        settings: &Log,
        sink: &'static str,
        terminal: bool,
        writer: impl Fn() -> Box<dyn Write + Send> + Send + Sync + 'static,
    ) -> Self {
        let failed = Arc::new(AtomicU64::new(0));
        let (queue, thread) = spawn(settings.queue_lines, writer(), &failed);
        let shared = Self {
            sink,
            terminal,
            writer: Box::new(writer),
            level: AtomicU8::new(0),
            json: AtomicBool::new(true),
            access: AtomicBool::new(false),
            counters: Mutex::new(vec![queue.error_counter()]),
            queue: ArcSwap::from_pointee(queue),
            thread: Mutex::new(Some(thread)),
            failed,
            reported: AtomicU64::new(0),
            reported_at: AtomicU64::new(0),
        };
        shared.apply(settings);
        shared
    }

    fn apply(&self, settings: &Log) {
        self.level.store(settings.level as u8, Ordering::Relaxed);
        self.json.store(settings.format == LogFormat::Json, Ordering::Relaxed);
        self.access.store(settings.access, Ordering::Relaxed);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.as_ref().is_some_and(|thread| thread.queue_lines != settings.queue_lines) {
            let (queue, new) = spawn(settings.queue_lines, (self.writer)(), &self.failed);
            self.counters.lock().unwrap_or_else(PoisonError::into_inner).push(queue.error_counter());
            self.queue.store(Arc::new(queue));
            // The old thread writes what it has and ends with its guard.
            *thread = Some(new);
        }
    }

    fn close(&self) {
        drop(self.thread.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn dropped(&self) -> u64 {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let queues: u64 = counters.iter().map(|counter| counter.dropped_lines() as u64).sum();
        queues + self.failed.load(Ordering::Relaxed)
    }

    fn style(&self) -> Style {
        match (self.json.load(Ordering::Relaxed), self.terminal) {
            (true, _) => Style::Json,
            (false, colours) => Style::Text { colours },
        }
    }

    /// The lowest level that is written for a target. Other crates speak up only to warn, unless everything is asked for.
    fn threshold(&self, target: &str) -> LevelFilter {
        let level = self.level.load(Ordering::Relaxed);
        let level = if level == LogLevel::Error as u8 {
            LevelFilter::ERROR
        } else if level == LogLevel::Warn as u8 {
            LevelFilter::WARN
        } else if level == LogLevel::Info as u8 {
            LevelFilter::INFO
        } else if level == LogLevel::Debug as u8 {
            LevelFilter::DEBUG
        } else {
            LevelFilter::TRACE
        };
        match target {
            // Has a switch of its own: who wants few other lines may still want this one.
            access::TARGET if self.access.load(Ordering::Relaxed) => LevelFilter::INFO,
            access::TARGET => LevelFilter::OFF,
            _ if target.starts_with(env!("CARGO_PKG_NAME")) || level == LevelFilter::TRACE => level,
            _ => level.min(LevelFilter::WARN),
        }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.threshold(metadata.target())
    }

    fn write(&self, line: &[u8]) {
        let mut queue = NonBlocking::clone(&self.queue.load());
        // Always succeeds: what finds no room is counted.
        if queue.write_all(line).is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says how many lines were dropped since the last report, if some were and that was `interval` ago.
    fn report_drops(&self, interval: Duration) {
        let now = SystemTime::now();
        let millis = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let last = self.reported_at.load(Ordering::Relaxed);
        if millis.saturating_sub(last) < interval.as_millis() as u64 {
            return;
        }
        // Many threads may come here at once; one of them goes on.
        if self.reported_at.compare_exchange(last, millis, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let dropped = self.dropped();
        let before = self.reported.swap(dropped, Ordering::Relaxed);
        if dropped > before {
            let mut line = LineBuffer::default();
            line.begin(self.style());
            line.message("log lines were dropped");
            line.number("lines", dropped - before);
            line.text("sink", self.sink);
            self.write(line.end(now, Level::WARN, module_path!()));
        }
    }
}

fn spawn(queue_lines: usize, writer: Box<dyn Write + Send>, failed: &Arc<AtomicU64>) -> (NonBlocking, Thread) {
    let (queue, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(queue_lines)
        .thread_name("log")
        .finish(Counted { writer, failed: Arc::clone(failed) });
    (queue, Thread { queue_lines, _guard: guard })
}

/// Counts lines that the output did not take, which the writing thread would pass over in silence.
struct Counted {
    writer: Box<dyn Write + Send>,
    failed: Arc<AtomicU64>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.writer.write_all(line).inspect_err(|_| {
            self.failed.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}

/// Turns events into lines.
struct LogLayer(Arc<Shared>);

thread_local! {
    /// Reused from line to line. An event within an event (from a `Display` that logs) finds it taken and is dropped.
    static LINE: RefCell<LineBuffer> = RefCell::default();
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.0.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.0.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.threshold(env!("CARGO_PKG_NAME")).max(self.0.threshold(access::TARGET)))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = SpanFields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            if let Some(fields) = span.extensions_mut().get_mut::<SpanFields>() {
                values.record(fields);
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let shared = &self.0;
        LINE.with_borrow_mut_if_free(|line| {
            line.begin(shared.style());
            event.record(line);
            for span in context.event_scope(event).into_iter().flatten() {
                if let Some(fields) = span.extensions().get::<SpanFields>() {
                    line.span(event.metadata(), fields);
                }
            }
            shared.write(line.end(SystemTime::now(), *event.metadata().level(), event.metadata().target()));
        });
        shared.report_drops(DROP_REPORT_INTERVAL);
    }
}

/// Borrows a thread's buffer, or does nothing where it is in use or the thread is ending.
trait BorrowIfFree<T> {
    fn with_borrow_mut_if_free(&'static self, with: impl FnOnce(&mut T));
}

impl<T> BorrowIfFree<T> for std::thread::LocalKey<RefCell<T>> {
    fn with_borrow_mut_if_free(&'static self, with: impl FnOnce(&mut T)) {
        let _ending = self.try_with(|cell| {
            if let Ok(mut value) = cell.try_borrow_mut() {
                with(&mut value);
            }
        });
    }
}
