//! Tests of the log as its readers see it: lines on a writer.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;
use tracing::subscriber::with_default;

use super::*;
use crate::telemetry::access::AccessRecord;

const SETTINGS: Log = Log {
    level: LogLevel::Info,
    format: LogFormat::Json,
    access: false,
    access_query: false,
    queue_lines: 1000,
    file: None,
};

/// What was written.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `work` logs with these settings, line by line.
fn lines_with(settings: &Log, work: impl FnOnce(&Arc<Shared>)) -> Vec<String> {
    let written = Written::default();
    let writer = written.clone();
    let shared = Arc::new(Shared::new(settings, "test", false, move || Box::new(writer.clone())));
    with_default(tracing_subscriber::registry().with(LogLayer(Arc::clone(&shared))), || work(&shared));
    shared.sink.close();
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn lines(work: impl FnOnce()) -> Vec<String> {
    lines_with(&SETTINGS, |_| work())
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn a_json_line_has_its_fixed_fields_first_then_the_event_s() {
    let lines = lines(|| {
        let error = io::Error::other("disk");
        let error: &(dyn std::error::Error + 'static) = &error;
        tracing::warn!(pool = "api", port = 80_u16, up = true, share = 0.5, ratio = f64::NAN, error, "it {}", "broke");
    });
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let (start, rest) = line.split_at(r#"{"timestamp":"2026-11-22T16:05:09.000123Z""#.len());
    assert!(start.starts_with(r#"{"timestamp":"2"#) && start.ends_with(r#"Z""#), "{line}");
    let target = module_path!();
    let expected = format!(
        r#","level":"WARN","trace_id":"","message":"it broke","target":"{target}","pool":"api","port":80,"up":true,"share":0.5,"ratio":"NaN","error":"disk"}}"#
    );
    assert_eq!(rest, expected);
}

#[test]
fn a_text_line_is_for_people_and_has_no_colours_off_a_terminal() {
    let settings = Log { format: LogFormat::Text, ..SETTINGS };
    let lines = lines_with(&settings, |_| {
        tracing::info!(trace_id = "abc", pool = "api", why = "kernel update", empty = "", n = 3, "drained");
    });
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let (_, rest) = line.split_once("Z ").unwrap();
    assert_eq!(rest, r#" INFO abc drained pool=api why="kernel update" empty="" n=3"#);
}

#[test]
fn an_error_is_told_with_what_caused_it() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot bind")]
    struct Outer(#[source] io::Error);

    let lines = lines(|| {
        let error = Outer(io::Error::other("in use"));
        tracing::error!(error = &error as &(dyn std::error::Error + 'static), "failed");
    });
    assert_eq!(json(&lines[0])["error"], "cannot bind: in use");
}

#[test]
fn an_event_tells_the_fields_of_its_spans_unless_it_says_them_itself() {
    let lines = lines(|| {
        let outer = tracing::info_span!("prober", pool = "api", instance = "a", level = 1);
        let _outer = outer.enter();
        let inner = tracing::info_span!("probe", instance = "b", result = tracing::field::Empty);
        let _inner = inner.enter();
        inner.record("result", "pass");
        tracing::info!(pool = "web", "probed");
    });
    let line = json(&lines[0]);
    assert_eq!((&line["pool"], &line["instance"], &line["result"]), (&"web".into(), &"b".into(), &"pass".into()));
    assert_eq!((&line["level"], &line["field_level"]), (&"INFO".into(), &1.into()));
}

#[test]
fn only_lines_of_the_level_and_above_are_written_and_others_speak_up_only_to_warn() {
    let said = |level| {
        let lines = lines_with(&Log { level, ..SETTINGS }, |_| {
            tracing::debug!("debug");
            tracing::info!("info");
            tracing::error!("error");
            tracing::info!(target: "hyper", "theirs info");
            tracing::warn!(target: "hyper", "theirs warn");
        });
        lines.iter().map(|line| json(line)["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(said(LogLevel::Error), ["error"]);
    assert_eq!(said(LogLevel::Info), ["info", "error", "theirs warn"]);
    assert_eq!(said(LogLevel::Debug), ["debug", "info", "error", "theirs warn"]);
    assert_eq!(said(LogLevel::Trace), ["debug", "info", "error", "theirs info", "theirs warn"]);
}

#[test]
fn level_format_and_queue_follow_a_reload_without_losing_a_line() {
    let lines = lines_with(&SETTINGS, |shared| {
        let control = LogControl(Arc::clone(shared));
        tracing::debug!("unheard");
        tracing::info!("first");
        control.apply(&Log { level: LogLevel::Debug, format: LogFormat::Text, queue_lines: 77, ..SETTINGS });
        tracing::debug!("second");
    });
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(json(&lines[0])["message"], "first");
    assert!(lines[1].ends_with("DEBUG second"), "{lines:?}");
}

#[test]
fn lines_without_room_are_dropped_counted_and_reported_and_nobody_waits() {
    /// Takes nothing until it may.
    struct Stuck(mpsc::Receiver<()>, Written);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // The sender is gone: it may.
            while self.0.recv().is_ok() {}
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let (hold, held) = mpsc::channel();
    let written = Written::default();
    let stuck = Mutex::new(Some(Stuck(held, written.clone())));
    let settings = Log { queue_lines: 4, ..SETTINGS };
    let writer = move || Box::new(stuck.lock().unwrap().take().unwrap()) as Box<dyn Write + Send>;
    let shared = Arc::new(Shared::new(&settings, "test", false, writer));
    let drops = LogControl(Arc::clone(&shared)).drops();
    with_default(tracing_subscriber::registry().with(LogLayer(Arc::clone(&shared))), || {
        for number in 0..100 {
            tracing::info!(number, "line");
        }
    });
    // One line may be in the writer's hands besides those that wait.
    assert!((95..=96).contains(&drops.lines()), "{}", drops.lines());
    drop(hold);
    drop(LogGuard { control: LogControl(shared) });
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let reported: u64 = text.lines().filter_map(|line| json(line)["lines"].as_u64()).sum();
    assert_eq!(reported, drops.lines(), "{text}");
    assert_eq!(text.lines().filter(|line| json(line)["message"] == "line").count() as u64 + reported, 100, "{text}");
}

#[test]
fn lines_that_the_output_does_not_take_are_counted() {
    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let shared = Arc::new(Shared::new(&SETTINGS, "test", false, || Box::new(Broken)));
    with_default(tracing_subscriber::registry().with(LogLayer(Arc::clone(&shared))), || tracing::info!("lost"));
    shared.sink.close();
    assert_eq!(shared.sink.dropped(), 1);
}

fn access_record() -> AccessRecord<'static> {
    AccessRecord {
        trace_id: "0123456789abcdef0123456789abcdef",
        listener: "front",
        route: Some("to-api"),
        pool: Some("api"),
        instance: None,
        protocol: "HTTP/1.1",
        method: b"GET",
        host: Some(b"example.com"),
        path: b"/a\"b\xff",
        query: None,
        status: 503,
        cause: Some(crate::cause::Cause::QueueFull),
        grpc_status: None,
        attempts: 0,
        bytes_in: 0,
        bytes_out: 312,
        client: ([192, 0, 2, 1], 4711).into(),
        tls: None,
        client_certificate: None,
        headers: Duration::from_micros(120),
        queue: Some(Duration::from_millis(1500)),
        connect: None,
        first_byte: None,
        total: Duration::from_micros(1_500_321),
    }
}

#[test]
fn the_access_log_has_a_switch_of_its_own() {
    let count = |access, level| {
        lines_with(&Log { level, access, ..SETTINGS }, |_| {
            assert_eq!(access::enabled(), access);
            access::log(&access_record());
        })
        .len()
    };
    assert_eq!(count(false, LogLevel::Trace), 0);
    assert_eq!(count(true, LogLevel::Error), 1);
}

#[test]
fn an_access_line_tells_the_whole_request() {
    let lines = lines_with(&Log { access: true, ..SETTINGS }, |_| access::log(&access_record()));
    let line = json(&lines[0]);
    let expected = serde_json::json!({
        "timestamp": line["timestamp"], "level": "INFO", "trace_id": "0123456789abcdef0123456789abcdef",
        "message": "request", "target": "access", "listener": "front", "route": "to-api", "pool": "api",
        "protocol": "HTTP/1.1", "method": "GET", "host": "example.com", "path": "/a\"b\u{fffd}", "status": 503, "cause": "queue_full",
        "attempts": 0, "bytes_in": 0, "bytes_out": 312, "client": "192.0.2.1:4711", "headers": 0.00012, "queue": 1.5,
        "total": 1.500_321,
    });
    assert_eq!(line, expected);
}

#[test]
fn nothing_is_formatted_for_a_line_that_is_not_written() {
    static FORMATTED: AtomicUsize = AtomicUsize::new(0);

    struct Watched;

    impl fmt::Display for Watched {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            FORMATTED.fetch_add(1, Ordering::Relaxed);
            f.write_str("watched")
        }
    }

    let lines = lines(|| {
        tracing::info!(target: "access", path = %Watched, "request");
        tracing::debug!(path = %Watched, "debug");
        tracing::info!(path = %Watched, "info");
    });
    assert_eq!((lines.len(), FORMATTED.load(Ordering::Relaxed)), (1, 1));
}

proptest! {
    #[test]
    fn whatever_a_field_holds_a_line_is_one_line_and_gives_it_back(text in any::<String>()) {
        let lines = lines(|| tracing::info!(path = text.as_str(), shown = %text, trace_id = %text, "{text}"));
        prop_assert_eq!(lines.len(), 1, "{:?}", lines);
        let line = json(&lines[0]);
        for field in ["path", "shown", "trace_id", "message"] {
            prop_assert_eq!(line[field].as_str(), Some(text.as_str()), "{}", field);
        }
        let settings = Log { format: LogFormat::Text, ..SETTINGS };
        let lines = lines_with(&settings, |_| tracing::info!(path = text.as_str(), "{text}"));
        prop_assert_eq!(lines.len(), 1, "{:?}", lines);
        prop_assert!(!lines[0].chars().any(char::is_control), "{:?}", lines);
    }
}
