//! Where an answer leaves for a client of HTTP/2: as a head of its own, then a body.

use std::future::poll_fn;
use std::io;

use crate::http::body::{Pipe, PipeError};
use crate::http1::head::Head;
use crate::http2::head::{Follows, WebSocketKey, to_response};
use crate::http2::stream::Stream;
use crate::http2::websocket;
use crate::wire::Wire;

/// Whether an instance has agreed to the `WebSocket` with this key, if one was asked for: over HTTP/2 any 2xx would say so to
/// the client (RFC 8441 section 5), over HTTP/1.1 only a 101 that answers to the key does (RFC 6455 section 4.1).
pub(super) fn agreed(key: Option<&WebSocketKey>, head: &Head) -> Result<(), PipeError> {
    let sound = key.is_none_or(|key| match head.status() {
        101 => {
            let mut answers = head.fields().filter(|field| field.text.eq_ignore_ascii_case(b"sec-websocket-accept"));
            answers.next().is_some_and(|answer| answer.value == websocket::accept(key).as_bytes())
                && answers.next().is_none()
        }
        status => !(200..300).contains(&status),
    });
    if sound { Ok(()) } else { Err(PipeError::Disagreed) }
}

/// Sends the head of an answer before its body, where the two are not one stream of bytes.
pub(super) fn respond_first(wire: &mut Wire, head: &Head, whole: &[u8], body: &Pipe) -> io::Result<()> {
    let Wire::H2(stream) = wire else { return Ok(()) };
    respond(stream, head, if whole.is_empty() && body.is_empty() { Follows::Nothing } else { Follows::Body })
}

fn respond(stream: &mut Stream, head: &Head, follows: Follows) -> io::Result<()> {
    stream.respond(to_response(head).map_err(io::Error::other)?, follows)
}

/// Sends an answer of our own, which was written for HTTP/1.1. They are rare, so that one way of making them is enough.
pub(super) async fn respond_own(stream: &mut Stream, answer: &[u8]) -> io::Result<()> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n").map_or(answer.len(), |end| end + 4);
    let head = Head::response(answer[..end].to_vec(), 0, end, FIELDS_MAX);
    let head = head.map_err(|(error, _bytes)| io::Error::other(error))?;
    let mut body = &answer[end..];
    respond(stream, &head, if body.is_empty() { Follows::Nothing } else { Follows::Body })?;
    while !body.is_empty() {
        let count = poll_fn(|context| stream.poll_send(context, body, Follows::Nothing)).await?;
        body = &body[count..];
    }
    Ok(())
}

/// Our own answers have a dozen.
const FIELDS_MAX: usize = 64;
