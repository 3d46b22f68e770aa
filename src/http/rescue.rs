//! The only file that turns a cause into an answer: status, `Proxy-Status`, body.
//!
//! Called wherever Plimsoll answers instead of an instance. The body is problem details (RFC 9457), HTML or text,
//! whichever the client prefers; `Proxy-Status` (RFC 9209) has the registered error type and the stable code of the cause,
//! the same that stands in log and metrics. Nothing that a client sent is echoed: details are texts of our own.

use std::time::Duration;

use super::accept::{self, MediaType};
use super::date::HttpDate;
use super::trace_id::TraceId;
use crate::cause::Cause;
use crate::http1::{Method, Persistence};

/// The status of a cause; several causes take a closer one from [`Refusal`](super::Refusal) (413, 414 and 431 are all
/// `request_too_large`). Where a body is cut off, or the client has left, it is what the log shows.
#[must_use]
pub const fn status(cause: Cause) -> u16 {
    match cause {
        Cause::ClientBadRequest => 400,
        Cause::ClientCertificateRequired => 403,
        Cause::NoRoute => 404,
        Cause::MethodNotAllowed => 405,
        Cause::RequestHeaderTimeout | Cause::RequestBodyTimeout | Cause::RequestBodyTooSlow => 408,
        Cause::RequestTooLarge => 413,
        // nginx's number for a client that left; nobody is there to read it.
        Cause::ClientClosed | Cause::ClientTooSlow => 499,
        Cause::Internal => 500,
        Cause::NotImplemented => 501,
        Cause::ConnectRefused
        | Cause::ConnectReset
        | Cause::UpstreamReset
        | Cause::TlsHandshake
        | Cause::UpstreamClosedEarly
        | Cause::UpstreamBadResponse
        | Cause::Ejected
        // The last attempt's where that is known: see `Rescue::last_attempt`.
        | Cause::RetryBudgetExhausted => 502,
        Cause::NoEligibleInstance
        | Cause::StreamRefused
        | Cause::Draining
        | Cause::QueueTimeout
        | Cause::QueueFull
        | Cause::Overload => 503,
        Cause::ConnectTimeout
        | Cause::DeadlineExceeded
        | Cause::ResponseHeaderTimeout
        | Cause::ResponseBodyTimeout
        | Cause::RequestWriteTimeout
        | Cause::UpgradeIdleTimeout
        | Cause::UpgradeLifetime
        | Cause::UpgradeCut => 504,
        Cause::LoopDetected => 508,
    }
}

/// The error type of a cause, as registered by RFC 9209 section 2.3.
#[must_use]
pub const fn proxy_error(cause: Cause) -> &'static str {
    match cause {
        Cause::NoRoute => "destination_not_found",
        Cause::NoEligibleInstance | Cause::Draining | Cause::Ejected | Cause::StreamRefused => {
            "destination_unavailable"
        }
        Cause::QueueTimeout | Cause::QueueFull | Cause::Overload => "connection_limit_reached",
        Cause::ConnectRefused => "connection_refused",
        Cause::ConnectTimeout => "connection_timeout",
        Cause::ConnectReset
        | Cause::UpstreamReset
        | Cause::RetryBudgetExhausted
        | Cause::UpgradeLifetime
        | Cause::UpgradeCut => "connection_terminated",
        Cause::TlsHandshake => "tls_protocol_error",
        Cause::UpstreamClosedEarly => "http_response_incomplete",
        Cause::UpstreamBadResponse => "http_protocol_error",
        Cause::DeadlineExceeded | Cause::ResponseHeaderTimeout | Cause::ResponseBodyTimeout => "http_response_timeout",
        Cause::RequestWriteTimeout => "connection_write_timeout",
        Cause::UpgradeIdleTimeout => "connection_read_timeout",
        Cause::ClientBadRequest
        | Cause::NotImplemented
        | Cause::RequestHeaderTimeout
        | Cause::RequestBodyTimeout
        | Cause::RequestBodyTooSlow
        | Cause::ClientClosed
        | Cause::ClientTooSlow => "http_request_error",
        Cause::MethodNotAllowed | Cause::RequestTooLarge | Cause::ClientCertificateRequired => "http_request_denied",
        Cause::LoopDetected => "proxy_loop_detected",
        Cause::Internal => "proxy_internal_error",
    }
}

/// How long a client is asked to stay away with a 503 if the caller knows no better.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The methods that a 405 and an answer to `OPTIONS` offer (RFC 9110 section 10.2.1); others are passed on all the same.
pub(super) const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// What is known about an answer of our own.
#[derive(Debug, Clone, Copy)]
pub struct Rescue<'a> {
    /// Why.
    pub cause: Cause,
    /// For `retry_budget_exhausted`: why the last attempt failed, which gives status and error type.
    pub last_attempt: Option<Cause>,
    /// A closer error type than the one of the cause.
    pub proxy_error: Option<&'static str>,
    /// A closer status than [`status`] of the cause: the one of a [`Refusal`](super::Refusal).
    pub status_override: Option<u16>,
    /// What and why, for people; a text of our own, never a client's.
    pub detail: &'a str,
    /// The request's `Accept`.
    pub accept: Option<&'a [u8]>,
    /// The request's method; `HEAD` gets no body.
    pub method: Method,
    /// Whether the connection goes on afterwards.
    pub persistence: Persistence,
    /// For 503; `None`: [`RETRY_AFTER`].
    pub retry_after: Option<Duration>,
    /// Further fields, as lines.
    pub lines: &'a [u8],
    /// So that a client's report leads to the log line.
    pub trace_id: &'a TraceId,
    /// The worker's clock.
    pub date: &'a HttpDate,
}

impl Rescue<'_> {
    /// The status of this answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status_override.unwrap_or_else(|| status(self.last_attempt.unwrap_or(self.cause)))
    }

    /// The error type of RFC 9209.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        self.proxy_error.unwrap_or(proxy_error(self.last_attempt.unwrap_or(self.cause)))
    }
}

/// Writes the whole answer.
pub fn write(out: &mut Vec<u8>, rescue: &Rescue<'_>) {
    let status = rescue.status();
    let media_type = accept::preferred(rescue.accept);
    let body = body(rescue, status, media_type);
    let mut text = |parts: &[&str]| parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));

    text(&["HTTP/1.1 ", &status.to_string(), " ", reason(status), "\r\nDate: "]);
    text(&[std::str::from_utf8(rescue.date.text()).unwrap_or_default()]);
    text(&["\r\nContent-Type: ", content_type(media_type), "\r\nContent-Length: ", &body.len().to_string()]);
    // An answer about this moment must not outlive it in a cache: 404, 405, 414 and 501 could (RFC 9110 section 15.1).
    text(&["\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nProxy-Status: plimsoll; error="]);
    text(&[rescue.error_type(), "; details=\"", rescue.cause.code(), "\"\r\n"]);
    if status == 503 {
        let wait = rescue.retry_after.unwrap_or(RETRY_AFTER);
        // Rounded up: one that comes back too early finds the same again.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        text(&["Retry-After: ", &seconds.max(1).to_string(), "\r\n"]);
    }
    if status == 405 {
        text(&["Allow: ", ALLOWED, "\r\n"]);
    }
    // Said in both cases, because clients of HTTP/1.0 need it to stay (RFC 9112 section 9.3).
    text(&["Connection: ", if rescue.persistence == Persistence::Close { "close" } else { "keep-alive" }, "\r\n"]);
    out.extend_from_slice(rescue.lines);
    out.extend_from_slice(b"\r\n");
    if rescue.method != Method::Head {
        out.extend_from_slice(body.as_bytes());
    }
}

fn content_type(media_type: MediaType) -> &'static str {
    match media_type {
        MediaType::ProblemJson => "application/problem+json",
        MediaType::Html => "text/html; charset=utf-8",
        MediaType::Text => "text/plain; charset=utf-8",
    }
}

fn body(rescue: &Rescue<'_>, status: u16, media_type: MediaType) -> String {
    let (title, code, trace_id) = (reason(status), rescue.cause.code(), rescue.trace_id);
    match media_type {
        MediaType::ProblemJson => {
            let detail = escaped(rescue.detail, |character| match character {
                '"' => Some("\\\""),
                '\\' => Some("\\\\"),
                control if control.is_control() => Some(" "),
                _ => None,
            });
            format!(
                r#"{{"type":"about:blank","title":"{title}","status":{status},"detail":"{detail}","cause":"{code}","trace_id":"{trace_id}"}}"#
            ) + "\n"
        }
        MediaType::Html => {
            let detail = escaped(rescue.detail, |character| match character {
                '<' => Some("&lt;"),
                '>' => Some("&gt;"),
                '&' => Some("&amp;"),
                _ => None,
            });
            format!(
                "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{status} {title}</title>\n\
                 <h1>{status} {title}</h1>\n<p>{detail}</p>\n\
                 <p>cause: <code>{code}</code><br>trace id: <code>{trace_id}</code></p>\n</html>\n"
            )
        }
        MediaType::Text => format!("{status} {title}\n{}\ncause: {code}\ntrace_id: {trace_id}\n", rescue.detail),
    }
}

/// `text` with some characters replaced.
fn escaped(text: &str, replacement: impl Fn(char) -> Option<&'static str>) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match replacement(character) {
            Some(replacement) => out.push_str(replacement),
            None => out.push(character),
        }
    }
    out
}

/// The reason phrases of the statuses that Plimsoll itself uses (RFC 9110 section 15, RFC 6585, RFC 5842).
const fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn answer(change: impl FnOnce(&mut Rescue<'_>)) -> (String, String) {
        let trace_id = TraceId::from_text(b"0af7651916cd43dd8448eb211c80319c").expect("a trace id");
        let date = HttpDate::at(UNIX_EPOCH);
        let mut rescue = Rescue {
            cause: Cause::ConnectRefused,
            last_attempt: None,
            proxy_error: None,
            status_override: None,
            detail: "every instance refused the connection",
            accept: None,
            method: Method::Get,
            persistence: Persistence::KeepAlive,
            retry_after: None,
            lines: b"",
            trace_id: &trace_id,
            date: &date,
        };
        change(&mut rescue);
        let mut out = Vec::new();
        write(&mut out, &rescue);
        let text = String::from_utf8(out).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        (format!("{head}\r\n"), body.to_owned())
    }

    /// The table of causes: cause, status, error type of RFC 9209 section 2.3.
    #[test]
    fn every_cause_has_its_status_and_registered_error_type() {
        let table = [
            ("no_route", 404, "destination_not_found"),
            ("no_eligible_instance", 503, "destination_unavailable"),
            ("draining", 503, "destination_unavailable"),
            ("queue_timeout", 503, "connection_limit_reached"),
            ("queue_full", 503, "connection_limit_reached"),
            ("overload", 503, "connection_limit_reached"),
            ("retry_budget_exhausted", 502, "connection_terminated"),
            ("connect_refused", 502, "connection_refused"),
            ("connect_timeout", 504, "connection_timeout"),
            ("connect_reset", 502, "connection_terminated"),
            ("upstream_reset", 502, "connection_terminated"),
            ("tls_handshake", 502, "tls_protocol_error"),
            ("upstream_closed_early", 502, "http_response_incomplete"),
            ("upstream_bad_response", 502, "http_protocol_error"),
            ("response_header_timeout", 504, "http_response_timeout"),
            ("response_body_timeout", 504, "http_response_timeout"),
            ("request_write_timeout", 504, "connection_write_timeout"),
            ("upgrade_idle_timeout", 504, "connection_read_timeout"),
            ("upgrade_lifetime", 504, "connection_terminated"),
            ("upgrade_cut", 504, "connection_terminated"),
            ("ejected", 502, "destination_unavailable"),
            ("stream_refused", 503, "destination_unavailable"),
            ("deadline_exceeded", 504, "http_response_timeout"),
            ("client_bad_request", 400, "http_request_error"),
            ("not_implemented", 501, "http_request_error"),
            ("method_not_allowed", 405, "http_request_denied"),
            ("client_certificate_required", 403, "http_request_denied"),
            ("request_header_timeout", 408, "http_request_error"),
            ("request_body_timeout", 408, "http_request_error"),
            ("request_body_too_slow", 408, "http_request_error"),
            ("request_too_large", 413, "http_request_denied"),
            ("loop_detected", 508, "proxy_loop_detected"),
            ("client_closed", 499, "http_request_error"),
            ("client_too_slow", 499, "http_request_error"),
            ("internal", 500, "proxy_internal_error"),
        ];
        let found = Cause::ALL.map(|cause| (cause.code(), status(cause), proxy_error(cause)));
        assert_eq!(found, table);
        for (cause, (code, status, error)) in Cause::ALL.into_iter().zip(table) {
            let (head, body) = answer(|rescue| rescue.cause = cause);
            assert!(head.starts_with(&format!("HTTP/1.1 {status} {}\r\n", reason(status))), "{head}");
            assert!(
                head.contains(&format!("\r\nProxy-Status: plimsoll; error={error}; details=\"{code}\"\r\n")),
                "{head}"
            );
            assert!(body.contains(code), "{body}");
            assert_ne!(reason(status), "Error", "{status}");
        }
    }

    #[test]
    fn problem_details_are_json_with_cause_and_trace_id() {
        let (head, body) = answer(|rescue| rescue.detail = "a \"quoted\" back\\slash\r\n");
        assert!(head.contains("\r\nContent-Type: application/problem+json\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
        assert!(head.contains("\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"), "{head}");
        assert!(head.contains("\r\nCache-Control: no-store\r\n"), "{head}");
        let problem: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let expected = serde_json::json!({
            "type": "about:blank",
            "title": "Bad Gateway",
            "status": 502,
            "detail": "a \"quoted\" back\\slash  ",
            "cause": "connect_refused",
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
        });
        assert_eq!(problem, expected);
    }

    #[test]
    fn browsers_get_html_and_terminals_text() {
        let (head, body) = answer(|rescue| {
            rescue.accept = Some(b"text/html,*/*;q=0.8");
            rescue.detail = "<a> & b";
        });
        assert!(head.contains("\r\nContent-Type: text/html; charset=utf-8\r\n"), "{head}");
        assert!(body.starts_with("<!doctype html>") && body.contains("<h1>502 Bad Gateway</h1>"), "{body}");
        assert!(body.contains("&lt;a&gt; &amp; b"), "{body}");
        let (head, body) = answer(|rescue| rescue.accept = Some(b"text/plain"));
        assert!(head.contains("\r\nContent-Type: text/plain; charset=utf-8\r\n"), "{head}");
        assert!(body.starts_with("502 Bad Gateway\nevery instance refused"), "{body}");
    }

    #[test]
    fn head_gets_the_length_but_no_body() {
        let (_, body_of_get) = answer(|_| ());
        let (head, body) = answer(|rescue| rescue.method = Method::Head);
        assert_eq!(body, "", "RFC 9110 9.3.2");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body_of_get.len())), "{head}");
    }

    #[test]
    fn only_503_asks_to_retry_after_whole_seconds() {
        let retry_after = |wait| {
            let (head, _) = answer(|rescue| {
                rescue.cause = Cause::NoEligibleInstance;
                rescue.retry_after = wait;
            });
            head.split("Retry-After: ").nth(1).and_then(|rest| rest.split("\r\n").next()).map(str::to_owned)
        };
        for (wait, expected) in [
            (None, "1"),
            (Some(Duration::ZERO), "1"),
            (Some(Duration::from_millis(1001)), "2"),
            (Some(Duration::from_secs(30)), "30"),
        ] {
            assert_eq!(retry_after(wait).as_deref(), Some(expected), "RFC 9110 10.2.3: delay-seconds of {wait:?}");
        }
        let (head, _) = answer(|rescue| rescue.retry_after = Some(Duration::from_secs(5)));
        assert!(!head.contains("Retry-After"), "{head}");
    }

    #[test]
    fn the_connection_closes_or_stays_as_told() {
        let (head, _) = answer(|rescue| rescue.persistence = Persistence::Close);
        assert!(head.ends_with("\r\nConnection: close\r\n"), "{head}");
        let (head, _) = answer(|_| ());
        assert!(head.ends_with("\r\nConnection: keep-alive\r\n"), "{head}");
    }

    #[test]
    fn a_405_says_which_methods_are_allowed() {
        let (head, _) = answer(|rescue| rescue.cause = Cause::MethodNotAllowed);
        assert!(head.contains("\r\nAllow: GET, HEAD, POST,"), "RFC 9110 15.5.6: {head}");
    }

    #[test]
    fn an_exhausted_budget_shows_the_status_of_the_last_attempt_and_its_own_code() {
        let (head, _) = answer(|rescue| {
            rescue.cause = Cause::RetryBudgetExhausted;
            rescue.last_attempt = Some(Cause::ResponseHeaderTimeout);
        });
        assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
        assert!(head.contains("error=http_response_timeout; details=\"retry_budget_exhausted\""), "{head}");
    }

    #[test]
    fn a_refusal_brings_its_own_status() {
        for status in [413, 414, 417, 431, 505] {
            let (head, _) = answer(|rescue| {
                rescue.cause = Cause::RequestTooLarge;
                rescue.status_override = Some(status);
            });
            assert!(head.starts_with(&format!("HTTP/1.1 {status} {}\r\n", reason(status))), "{head}");
        }
    }
}
