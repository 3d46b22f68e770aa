//! The log: JSON lines or text on one output, written by a thread of its own.
//!
//! The threads that log never wait: lines go through a queue of `queue_lines`; when it is full they are dropped, counted
//! in `plimsoll_log_dropped_total`, and reported by a line of their own (`sink.rs`).
//! `run` logs to the file that the configuration names (`file.rs`), else to standard output, which carries nothing else,
//! so every line of it can be parsed; what must be said while
//! no log stands yet (and panics) goes to standard error as plain text. Level, format, access log and queue follow the
//! configuration on a reload. `format.rs` has the lines themselves.

mod file;
mod format;
mod sink;

use std::cell::RefCell;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::SystemTime;

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use self::file::RotatingFile;
use self::format::{LineBuffer, SpanFields, Style};
use self::sink::Sink;
use crate::config::model::{Log, LogFormat, LogLevel};
use crate::telemetry::access;

/// The writing thread hands lines to the system in blocks of up to this size.
const WRITE_BLOCK_BYTES: usize = 64 * 1024;

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

    fn writer(self) -> sink::Output {
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
    /// The file cannot be written.
    #[error("cannot write `{}`: {source} (`[log] file`)", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Starts the log of this process. A file that the settings name goes before `output`.
///
/// # Errors
/// If there is one already, or the file cannot be written.
pub fn start(settings: &Log, output: Output) -> Result<LogGuard, LogError> {
    let shared = Arc::new(match &settings.file {
        None => Shared::new(settings, output.label(), output.is_terminal(), move || output.writer()),
        Some(file) => {
            let refused = |source| LogError::File { path: file.path.clone(), source };
            file::try_open(file).map_err(refused)?;
            let file = file.clone();
            Shared::new(settings, "file", false, move || match RotatingFile::open(&file) {
                Ok(opened) => Box::new(opened),
                // It could be opened a moment ago, or when the process started.
                Err(_) => Box::new(Unwritable),
            })
        }
    });
    let subscriber = tracing_subscriber::registry().with(LogLayer(Arc::clone(&shared)));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::AlreadyStarted)?;
    Ok(LogGuard { control: LogControl(shared) })
}

/// In the place of a file that cannot be opened any more: refuses every line, so that each is counted as lost.
struct Unwritable;

impl Write for Unwritable {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
        self.control.0.sink.close();
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
    /// The drops of a log that nobody reads, for tests of what shows them.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        let settings = Log {
            level: LogLevel::Error,
            format: LogFormat::Json,
            access: false,
            access_query: false,
            queue_lines: 1,
            file: None,
        };
        Self(Arc::new(Shared::new(&settings, "none", false, || Box::new(std::io::sink()))))
    }

    /// Where the lines should have gone.
    #[must_use]
    pub fn sink(&self) -> &'static str {
        self.0.sink.label()
    }

    /// How many were dropped since the start.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.0.sink.dropped()
    }
}

/// The settings in force and the way out.
struct Shared {
    terminal: bool,
    level: AtomicU8,
    access: AtomicBool,
    sink: Sink,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("sink", &self.sink.label()).finish_non_exhaustive()
    }
}

impl Shared {
    fn new(
        settings: &Log,
        label: &'static str,
        terminal: bool,
        output: impl Fn() -> sink::Output + Send + Sync + 'static,
    ) -> Self {
        Self {
            terminal,
            level: AtomicU8::new(settings.level as u8),
            access: AtomicBool::new(settings.access),
            sink: Sink::new(label, style(settings, terminal), settings.queue_lines, output),
        }
    }

    fn apply(&self, settings: &Log) {
        self.level.store(settings.level as u8, Ordering::Relaxed);
        self.access.store(settings.access, Ordering::Relaxed);
        self.sink.apply(style(settings, self.terminal), settings.queue_lines);
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
}

fn style(settings: &Log, terminal: bool) -> Style {
    match (settings.format, terminal) {
        (LogFormat::Json, _) => Style::Json,
        (LogFormat::Text, false) => Style::Text,
        (LogFormat::Text, true) => Style::ColouredText,
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
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<SpanFields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let shared = &self.0;
        LINE.with_borrow_mut_if_free(|line| {
            line.begin(shared.sink.style());
            event.record(line);
            for span in context.event_scope(event).into_iter().flatten() {
                if let Some(fields) = span.extensions().get::<SpanFields>() {
                    line.span(event.metadata(), fields);
                }
            }
            shared.sink.write(line.end(SystemTime::now(), *event.metadata().level(), event.metadata().target()));
        });
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

#[cfg(test)]
mod tests;
