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
    /// Not enough: the client left, or took too long.
    Nothing,
}

/// Reads until it is clear what the client speaks. What was read stays in `ahead`.
pub async fn look(client: &mut Client, alarm: &Alarm) -> Spoken {
    let deadline = Instant::now() + client.origin.listener.settings.request_head_timeout;
    loop {
        let length = client.ahead.len().min(PREFACE.len());
        if client.ahead[..length] != PREFACE[..length] {
            return Spoken::Http1;
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
