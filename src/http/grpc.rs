//! gRPC as far as a proxy must know it: who speaks it, how long a caller waits, and what our own answers say there.
//!
//! A gRPC client reads the outcome of a call from `grpc-status`, not from the status of HTTP, so an answer of our own is a
//! response with status 200 that has nothing but fields ("trailers-only"). Which status stands for which cause is decided
//! here, as `rescue` decides it for HTTP. Source: "gRPC over HTTP2" (PROTOCOL-HTTP2.md) and the list of status codes of the
//! gRPC project; the choice follows Envoy's where that has one. Pure.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use super::rescue::Rescue;
use crate::cause::Cause;
use crate::http1::Persistence;
use crate::http1::head::{Head, Method, Version};
use crate::http1::name::Name;

/// The outcome of a call, as gRPC numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The caller gave up.
    Cancelled = 1,
    /// The deadline was over before the call was.
    DeadlineExceeded = 4,
    /// The caller may not do that.
    PermissionDenied = 7,
    /// A limit was reached.
    ResourceExhausted = 8,
    /// Nobody serves this method here.
    Unimplemented = 12,
    /// Something that should not happen has happened.
    Internal = 13,
    /// Nobody can serve it at this moment: the caller may try again.
    Unavailable = 14,
}

/// The status of a cause.
#[must_use]
pub const fn status(cause: Cause) -> Status {
    match cause {
        Cause::NoRoute | Cause::NotImplemented | Cause::MethodNotAllowed => Status::Unimplemented,
        Cause::NoEligibleInstance
        | Cause::Draining
        | Cause::QueueTimeout
        | Cause::ConnectRefused
        | Cause::ConnectTimeout
        | Cause::ConnectReset
        | Cause::UpstreamReset
        | Cause::TlsHandshake
        | Cause::UpstreamClosedEarly
        | Cause::Ejected
        | Cause::StreamRefused
        | Cause::UpgradeCut
        // The last attempt's where that is known, as in `rescue`.
        | Cause::RetryBudgetExhausted => Status::Unavailable,
        Cause::QueueFull | Cause::Overload | Cause::RequestTooLarge => Status::ResourceExhausted,
        Cause::DeadlineExceeded
        | Cause::ResponseHeaderTimeout
        | Cause::ResponseBodyTimeout
        | Cause::RequestWriteTimeout
        | Cause::UpgradeIdleTimeout
        | Cause::UpgradeLifetime
        | Cause::RequestHeaderTimeout
        | Cause::RequestBodyTimeout
        | Cause::RequestBodyTooSlow => Status::DeadlineExceeded,
        Cause::ClientCertificateRequired => Status::PermissionDenied,
        Cause::ClientClosed | Cause::ClientTooSlow => Status::Cancelled,
        // A caller cannot make a malformed request, its library can: so gRPC maps 400 to this one, too.
        Cause::ClientBadRequest | Cause::UpstreamBadResponse | Cause::LoopDetected | Cause::Internal => {
            Status::Internal
        }
    }
}

/// Whether a request is a gRPC call. `application/grpc-web` is not: it has its own framing, made for HTTP/1.
#[must_use]
pub fn is_call(head: &Head) -> bool {
    head.method() == Method::Post && head.first(Name::ContentType).is_some_and(is_media_type)
}

/// Whether a `Content-Type` is that of gRPC, with whatever coding (`+proto`) and parameters.
#[must_use]
pub fn is_media_type(content_type: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    content_type.len() >= TYPE.len()
        && content_type[..TYPE.len()].eq_ignore_ascii_case(TYPE)
        && matches!(content_type.get(TYPE.len()), None | Some(b'+' | b';' | b' ' | b'\t'))
}

/// How long the caller waits, by `grpc-timeout`. What is malformed counts as not said: the instance will judge it.
#[must_use]
pub fn timeout(head: &Head) -> Option<Duration> {
    head.fields().find(|field| is_timeout(field.text)).and_then(|field| parse_timeout(field.value))
}

/// Whether this is the name of the field that tells the deadline.
#[must_use]
pub fn is_timeout(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"grpc-timeout")
}

/// At most eight digits and a unit.
fn parse_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > TIMEOUT_DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

const TIMEOUT_DIGITS_MAX: usize = 8;

/// A duration as `grpc-timeout` has it, in the finest unit that fits.
#[must_use]
pub fn timeout_text(timeout: Duration) -> String {
    const LIMIT: u128 = 10_u128.pow(TIMEOUT_DIGITS_MAX as u32);
    let units = [(timeout.as_nanos(), 'n'), (timeout.as_micros(), 'u'), (timeout.as_millis(), 'm')];
    let (number, unit) = units
        .into_iter()
        .find(|(number, _)| *number < LIMIT)
        .unwrap_or((u128::from(timeout.as_secs()).min(LIMIT - 1), 'S'));
    format!("{number}{unit}")
}

/// The outcome that the head of a response tells, where it has nothing but fields.
#[must_use]
pub fn told_by_head(head: &Head) -> Option<u32> {
    told(head.fields().map(|field| (field.text, field.value)))
}

/// The outcome that the trailers of a response tell: lines, each with its CRLF.
#[must_use]
pub fn told_by_trailers(lines: &[u8]) -> Option<u32> {
    told(lines.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    }))
}

fn told<'a>(mut fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<u32> {
    let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case(b"grpc-status"))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Writes an answer that has nothing but fields, as for HTTP/1.1; without a length for a client of HTTP/2, where the end of
/// the stream stands for it. The status of HTTP is 200, as always in gRPC.
pub fn write(out: &mut Vec<u8>, rescue: &Rescue<'_>, version: Version) -> Status {
    let status = status(rescue.last_attempt.unwrap_or(rescue.cause));
    let mut text = |parts: &[&str]| parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    text(&["HTTP/1.1 200 OK\r\nDate: ", std::str::from_utf8(rescue.date.text()).unwrap_or_default()]);
    text(&["\r\nContent-Type: application/grpc\r\n"]);
    if version != Version::Http2 {
        let close = rescue.persistence == Persistence::Close;
        text(&["Content-Length: 0\r\nConnection: ", if close { "close" } else { "keep-alive" }, "\r\n"]);
    }
    text(&["Proxy-Status: plimsoll; error=", rescue.error_type(), "; details=\"", rescue.cause.code(), "\"\r\n"]);
    text(&["grpc-status: ", &(status as u8).to_string(), "\r\n"]);
    let told = format!("{} (cause {}, trace id {})", rescue.detail, rescue.cause.code(), rescue.trace_id);
    text(&["grpc-message: ", &message(&told), "\r\n\r\n"]);
    status
}

/// The trailers that end a response whose call has taken longer than its client waits.
pub const LATE: &[u8] = b"grpc-status: 4\r\ngrpc-message: the deadline of the request is over\r\n";

/// A text as `grpc-message` has it: percent-encoded but for printable ASCII.
#[must_use]
pub fn message(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'%';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            // A `String` takes all that is written to it.
            let _written = write!(encoded, "%{byte:02X}").is_ok();
        }
    }
    Cow::Owned(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing;

    #[test]
    fn every_cause_has_its_grpc_status() {
        let table = [
            ("no_route", 12),
            ("no_eligible_instance", 14),
            ("draining", 14),
            ("queue_timeout", 14),
            ("queue_full", 8),
            ("overload", 8),
            ("retry_budget_exhausted", 14),
            ("connect_refused", 14),
            ("connect_timeout", 14),
            ("connect_reset", 14),
            ("upstream_reset", 14),
            ("tls_handshake", 14),
            ("upstream_closed_early", 14),
            ("upstream_bad_response", 13),
            ("response_header_timeout", 4),
            ("response_body_timeout", 4),
            ("ejected", 14),
            ("stream_refused", 14),
            ("deadline_exceeded", 4),
            ("client_bad_request", 13),
            ("not_implemented", 12),
            ("method_not_allowed", 12),
            ("request_header_timeout", 4),
            ("request_body_timeout", 4),
            ("request_body_too_slow", 4),
            ("request_too_large", 8),
            ("loop_detected", 13),
            ("client_certificate_required", 7),
            ("client_closed", 1),
            ("client_too_slow", 1),
            ("internal", 13),
        ];
        for (code, number) in table {
            let cause = Cause::ALL.into_iter().find(|cause| cause.code() == code).expect(code);
            assert_eq!(status(cause) as u8, number, "{code}");
        }
    }

    #[test]
    fn calls_are_told_from_other_requests_by_their_media_type() {
        for (text, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcx", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_media_type(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn timeouts_are_at_most_eight_digits_and_a_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("10S", Some(Duration::from_secs(10))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("0n", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("100000000n", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("1.5S", None),
            (" 1S", None),
            ("", None),
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_left_of_a_timeout_is_written_in_the_finest_unit_that_fits() {
        for (timeout, text) in [
            (Duration::ZERO, "0n"),
            (Duration::from_millis(99), "99000000n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(99_999_999), "99999999S"),
            (Duration::from_secs(u64::MAX), "99999999S"),
        ] {
            assert_eq!(timeout_text(timeout), text);
            assert!(parse_timeout(text.as_bytes()).is_some_and(|parsed| parsed <= timeout), "{text}");
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(message("no instance (down)"), "no instance (down)");
        assert_eq!(message("100 %\r\nü"), "100 %25%0D%0A%C3%BC");
    }

    #[test]
    fn the_outcome_is_read_from_the_fields() {
        let fields = |value: &'static [u8]| [(&b"x"[..], &b"1"[..]), (b"Grpc-Status", value)].into_iter();
        assert_eq!(told(fields(b"14")), Some(14));
        assert_eq!(told(fields(b"x")), None);
        assert_eq!(told([].into_iter()), None);
        assert_eq!(told_by_trailers(b"x: 1\r\ngrpc-status: 0\r\n"), Some(0));
        assert_eq!(told_by_trailers(LATE), Some(4));
        assert_eq!(told_by_trailers(b""), None);
    }

    #[test]
    fn the_deadline_is_found_in_the_head() {
        let head =
            testing::request("POST /a.B/C HTTP/1.1\r\nContent-Type: application/grpc\r\nGrpc-Timeout: 5S\r\n\r\n");
        assert!(is_call(&head));
        assert_eq!(timeout(&head), Some(Duration::from_secs(5)));
    }
}
