//! What the tests of the layers share: heads from text, and a listener with small limits.

use std::time::Duration;

use crate::config::model::{Http2, Listener, ListenerName};
use crate::http1::Head;

/// The head of a request.
pub(super) fn request(text: &str) -> Head {
    Head::request(text.as_bytes().to_vec(), 0, text.len(), 100).map_err(|(error, _)| error).expect("a request head")
}

/// The head of a response.
pub(super) fn response(text: &str) -> Head {
    Head::response(text.as_bytes().to_vec(), 0, text.len(), 100).map_err(|(error, _)| error).expect("a response head")
}

/// All fields as they are sent, kept ones first, then added ones; names as written.
pub(super) fn fields(head: &Head) -> Vec<(String, String)> {
    let mut out = Vec::new();
    head.write_request(&mut out, b"/", b"");
    let text = String::from_utf8(out).expect("text");
    let lines = text.split("\r\n").skip(1).filter(|line| !line.is_empty());
    lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// HTTP/2 with a limit for each kind of frame.
pub(crate) fn http2(max: u32) -> Http2 {
    Http2 {
        streams_max: 100,
        stream_window: 65_536,
        connection_window: 65_536,
        resets_max: max,
        settings_max: max,
        pings_max: max,
        priorities_max: max,
        window_updates_max: max,
        empty_frames_max: max,
        continuations_max: max,
        errors_max: max,
    }
}

/// A listener with a limit for bodies.
pub(super) fn listener() -> Listener {
    let second = Duration::from_secs(1);
    Listener {
        name: ListenerName::from("test"),
        bind: Vec::new(),
        connections_max: 1,
        connections_per_client_max: None,
        backlog: 1,
        request_head_timeout: second,
        request_body_timeout: second,
        request_body_rate_min: None,
        response_rate_min: None,
        rate_grace: second,
        response_write_timeout: second,
        keep_alive_timeout: second,
        keep_alive_requests_max: None,
        connection_age_max: None,
        lingering_timeout: second,
        request_head_bytes_max: 32 * 1024,
        request_fields_max: 100,
        request_target_bytes_max: 8 * 1024,
        request_body_bytes_max: Some(1000),
        trusted_proxies: Vec::new(),
        allow_trace: false,
        abort_on_close: false,
        h2c: false,
        http2: http2(100),
        health_path: None,
        redirect: None,
        hsts: None,
        tls: None,
    }
}
