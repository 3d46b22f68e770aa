//! One event as one line, JSON or text.
//!
//! JSON always has `timestamp`, `level`, `trace_id`, `message` and `target`, in this order, then the fields as they are:
//! `trace_id` is empty where no request is concerned, since tools that collect logs map columns more easily than gaps.
//! Text leaves an empty `trace_id` out. Whatever a field holds, a line is one line: control characters are escaped in
//! both, so that a request can neither forge lines nor steer a terminal.

use std::error::Error;
use std::fmt::{self, Debug, Write};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Level, Metadata};

use crate::telemetry::timestamp::Timestamp;

/// Form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Style {
    Json,
    Text,
    ColouredText,
}

impl Style {
    /// The style with this discriminant.
    pub(super) fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Json,
            1 => Self::Text,
            _ => Self::ColouredText,
        }
    }
}

/// A value, told apart as far as JSON does.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    /// A number or `true`/`false`: stands as it is in both forms.
    Bare(String),
    Text(String),
}

/// The fields of a span, for the lines of events within it.
#[derive(Debug, Default)]
pub(super) struct SpanFields(Vec<(&'static str, Value)>);

impl SpanFields {
    fn set(&mut self, field: &Field, value: Value) {
        match self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            Some((_, old)) => *old = value,
            None => self.0.push((field.name(), value)),
        }
    }
}

impl Visit for SpanFields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field, Value::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, Value::Text(value.to_owned()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, Value::Bare(value.to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, Value::Bare(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, Value::Bare(value.to_string()));
    }
}

/// A line being written. Its strings are reused, so an event allocates only what its values do.
#[derive(Debug)]
pub(super) struct LineBuffer {
    style: Style,
    message: String,
    trace_id: String,
    /// All other fields, written in the line's style.
    fields: String,
    /// Names of span fields that stand in the line already.
    from_spans: Vec<&'static str>,
    line: String,
}

impl Default for LineBuffer {
    fn default() -> Self {
        Self {
            style: Style::Json,
            message: String::new(),
            trace_id: String::new(),
            fields: String::new(),
            from_spans: Vec::new(),
            line: String::new(),
        }
    }
}

impl LineBuffer {
    /// Forgets the last line.
    pub(super) fn begin(&mut self, style: Style) {
        self.style = style;
        for text in [&mut self.message, &mut self.trace_id, &mut self.fields, &mut self.line] {
            text.clear();
        }
        self.from_spans.clear();
    }

    pub(super) fn message(&mut self, message: &str) {
        self.message.push_str(message);
    }

    pub(super) fn number(&mut self, name: &'static str, value: impl fmt::Display) {
        self.bare(name, format_args!("{value}"));
    }

    pub(super) fn text(&mut self, name: &'static str, value: &str) {
        self.quoted(name, format_args!("{value}"));
    }

    /// Adds what a span around the event knows, unless the event or a span further in said it.
    pub(super) fn span(&mut self, event: &Metadata<'_>, fields: &SpanFields) {
        for (name, value) in &fields.0 {
            if event.fields().field(name).is_some() || self.from_spans.contains(name) {
                continue;
            }
            self.from_spans.push(name);
            match value {
                Value::Bare(value) => self.bare(name, format_args!("{value}")),
                Value::Text(value) if *name == "trace_id" => self.trace_id.push_str(value),
                Value::Text(value) => self.quoted(name, format_args!("{value}")),
            }
        }
    }

    /// The whole line, with its line feed.
    pub(super) fn end(&mut self, at: SystemTime, level: Level, target: &str) -> &[u8] {
        // Writing to a `String` cannot fail.
        let _infallible = match self.style {
            Style::Json => self.end_json(at, level, target),
            Style::Text | Style::ColouredText => self.end_text(at, level),
        };
        self.line.as_bytes()
    }

    fn end_json(&mut self, at: SystemTime, level: Level, target: &str) -> fmt::Result {
        write!(self.line, r#"{{"timestamp":"{}","level":"{level}","trace_id":""#, Timestamp(at))?;
        Escaped(&mut self.line).write_str(&self.trace_id)?;
        self.line.push_str(r#"","message":""#);
        Escaped(&mut self.line).write_str(&self.message)?;
        self.line.push_str(r#"","target":""#);
        Escaped(&mut self.line).write_str(target)?;
        self.line.push('"');
        self.line.push_str(&self.fields);
        self.line.push_str("}\n");
        Ok(())
    }

    fn end_text(&mut self, at: SystemTime, level: Level) -> fmt::Result {
        let (colour, level) = match level {
            Level::ERROR => ("\x1b[31m", "ERROR"),
            Level::WARN => ("\x1b[33m", " WARN"),
            Level::INFO => ("\x1b[32m", " INFO"),
            Level::DEBUG => ("\x1b[34m", "DEBUG"),
            Level::TRACE => ("\x1b[35m", "TRACE"),
        };
        if self.style == Style::ColouredText {
            write!(self.line, "\x1b[2m{}\x1b[0m {colour}{level}\x1b[0m ", Timestamp(at))?;
        } else {
            write!(self.line, "{} {level} ", Timestamp(at))?;
        }
        if !self.trace_id.is_empty() {
            Escaped(&mut self.line).write_str(&self.trace_id)?;
            self.line.push(' ');
        }
        let message = &self.message;
        write!(Controls(&mut self.line), "{message}")?;
        self.line.push_str(&self.fields);
        self.line.push('\n');
        Ok(())
    }

    /// The name of a field in JSON.
    fn key(&mut self, name: &str) {
        for part in [",\"", free(name), "\":"] {
            self.fields.push_str(part);
        }
    }

    /// A value that needs no quotes.
    fn bare(&mut self, name: &str, value: fmt::Arguments<'_>) {
        let _infallible = match self.style {
            Style::Json => {
                self.key(name);
                self.fields.write_fmt(value)
            }
            Style::Text => write!(self.fields, " {name}={value}"),
            Style::ColouredText => write!(self.fields, " \x1b[2m{name}=\x1b[0m{value}"),
        };
    }

    /// Any other value.
    fn quoted(&mut self, name: &str, value: fmt::Arguments<'_>) {
        if self.style == Style::Json {
            self.key(name);
            self.fields.push('"');
            let _infallible = Escaped(&mut self.fields).write_fmt(value);
            self.fields.push('"');
            return;
        }
        self.bare(name, format_args!(""));
        let start = self.fields.len();
        let _infallible = Escaped(&mut self.fields).write_fmt(value);
        let written = &self.fields[start..];
        // Quotes only where the end of the value would not be clear without.
        if written.is_empty() || written.contains([' ', '=', '\\']) {
            self.fields.insert(start, '"');
            self.fields.push('"');
        }
    }
}

impl Visit for LineBuffer {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _infallible = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "trace_id" => write!(self.trace_id, "{value:?}"),
            name => {
                self.quoted(name, format_args!("{value:?}"));
                Ok(())
            }
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            "trace_id" => self.trace_id.push_str(value),
            name => self.quoted(name, format_args!("{value}")),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field.name(), format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field.name(), format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field.name(), format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            // `Display` never writes an exponent, so this is JSON, too.
            self.bare(field.name(), format_args!("{value}"));
        } else {
            self.quoted(field.name(), format_args!("{value}"));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.quoted(field.name(), format_args!("{}", Chain(value)));
    }
}

/// A name that none of the line's own has: two keys of one name are not the same object to every JSON parser.
fn free(name: &str) -> &str {
    match name {
        "timestamp" => "field_timestamp",
        "level" => "field_level",
        "target" => "field_target",
        name => name,
    }
}

/// An error with what caused it: each level's `Display` prints only its own.
struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}

/// Escapes for a JSON string.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text, |byte| matches!(byte, b'"' | b'\\'))
    }
}

/// Escapes control characters only, for messages in text.
struct Controls<'a>(&'a mut String);

impl Write for Controls<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text, |_| false)
    }
}

/// Writes `text` with control characters escaped, and those (ASCII) that `also` names. What lies between is copied in one
/// piece: nearly every value is that piece alone.
fn escape(into: &mut String, text: &str, also: impl Fn(u8) -> bool) -> fmt::Result {
    let mut rest = text;
    // 0xC2 begins U+0080 to U+00BF: the control characters that are not ASCII, and some that are harmless.
    while let Some(index) = rest.bytes().position(|byte| byte < b' ' || byte == 0x7f || byte == 0xc2 || also(byte)) {
        let (before, after) = rest.split_at(index);
        into.push_str(before);
        let mut characters = after.chars();
        match characters.next() {
            Some('\n') => into.push_str("\\n"),
            Some('\r') => into.push_str("\\r"),
            Some('\t') => into.push_str("\\t"),
            Some(character) if character.is_control() => write!(into, "\\u{:04x}", character as u32)?,
            Some(character) if character.is_ascii() => into.extend(['\\', character]),
            Some(harmless) => into.push(harmless),
            None => {}
        }
        rest = characters.as_str();
    }
    into.push_str(rest);
    Ok(())
}
