//! Which version a client speaks that was told nothing beforehand (RFC 9113 section 3.3): HTTP/2 begins with a preface that is
//! no request of HTTP/1.1.

use std::pin::Pin;

use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use crate::connection::Client;
use crate::worker::alarm::Alarm;

/// The first bytes of a client that speaks HTTP/2 (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// The preface.
    Http2,
    /// Something else, perhaps a request of HTTP/1.1.
    Http1,
    /// Not enough (the client left, or took too long), or neither of the two: then the connection ends without a word, which
    /// a client of HTTP/2 could not read (RFC 9113 section 3.4).
    Nothing,
}

/// Reads until it is clear what the client speaks. What was read stays in `ahead`.
pub async fn look(client: &mut Client, alarm: &Alarm) -> Spoken {
    let deadline = Instant::now() + client.origin.listener.settings.request_head_timeout;
    loop {
        let length = client.ahead.len().min(PREFACE.len());
        if client.ahead[..length] != PREFACE[..length] {
            return if is_neither(&client.ahead) { Spoken::Nothing } else { Spoken::Http1 };
        }
        if length == PREFACE.len() {
            return Spoken::Http2;
        }
        let Client { stream, ahead, .. } = client;
        let read = std::future::poll_fn(|context| poll_read_buf(Pin::new(&mut *stream), context, ahead));
        if !matches!(alarm.run(deadline, read).await, Ok(Ok(1..))) {
            return Spoken::Nothing;
        }
    }
}

/// Whether the first line is there, and is that of no HTTP at all.
fn is_neither(bytes: &[u8]) -> bool {
    let line = memchr::memchr(b'\n', bytes).map_or(&[][..], |end| &bytes[..end]);
    !line.trim_ascii().is_empty() && memchr::memmem::find(line, b" HTTP/").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_that_name_no_http_are_neither() {
        for neither in ["INVALID CONNECTION PREFACE\r\n\r\n", "SSH-2.0-x\r\n", "x\n"] {
            assert!(is_neither(neither.as_bytes()), "{neither}");
        }
        for other in [
            "",
            "INVALID",
            "\r\n",
            "\r\nGET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\n",
            "GE(T / HTTP/9.9\r\n",
            "PRI * HTTP/2.0\r\n",
        ] {
            assert!(!is_neither(other.as_bytes()), "{other}");
        }
    }
}
