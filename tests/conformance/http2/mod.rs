//! HTTP/2 from clients (RFC 9113), frame by frame.
//!
//! What is malformed ends its stream or the connection; an RFC's stream error may be taken for a connection error
//! (section 5.4), and a malformed request may be answered with 400 (section 8.1.1).

mod frames;
mod heads;
mod public_list;
mod smuggling;

use std::io;

use crate::support::http2::frames::{Frame, Frames, block, bytes_of};
use crate::support::instance::Received;
use crate::support::{Config, Instance, Proxy};

/// Types of frames (RFC 9113 section 6).
mod kind {
    pub(super) use crate::support::http2::frames::{DATA, GOAWAY, HEADERS, RST_STREAM, SETTINGS};
    pub(super) const PRIORITY: u8 = 2;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const PING: u8 = 6;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
}

/// Flags of frames.
mod flag {
    pub(super) use crate::support::http2::frames::{ACK, END_HEADERS, END_STREAM};
    pub(super) const PADDED: u8 = 8;
    pub(super) const PRIORITY: u8 = 0x20;
}

/// Error codes (RFC 9113 section 7).
mod code {
    pub(super) use crate::support::http2::frames::PROTOCOL_ERROR;
    pub(super) const FLOW_CONTROL_ERROR: u32 = 3;
    pub(super) const STREAM_CLOSED: u32 = 5;
    pub(super) const FRAME_SIZE_ERROR: u32 = 6;
    pub(super) const REFUSED_STREAM: u32 = 7;
    pub(super) const COMPRESSION_ERROR: u32 = 9;
    pub(super) const ENHANCE_YOUR_CALM: u32 = 11;
}

use code::*;

/// What comes of what was sent.
#[derive(Debug, Clone, Copy)]
enum Is {
    /// The connection ends, with one of these codes if it says one.
    Connection(&'static [u32]),
    /// Stream 1 ends, or the connection, with one of these codes.
    Stream(&'static [u32]),
    /// Stream 1 ends, or the connection, or the answer is a 4xx; no instance gets a whole request.
    Malformed,
    /// Stream 1 has an answer with this status.
    Status(u16),
    /// Nothing is wrong: what is asked next is answered.
    Fine,
    /// Nothing is wrong, or stream 1 or the connection ends.
    Anything,
}

use Is::{Anything, Connection, Fine, Malformed, Status, Stream};

/// Section of RFC 9113 or another one, name, bytes behind the preface, and what comes of them.
type Case = (&'static str, &'static str, Vec<u8>, Is);

const PING: &[u8; 8] = b"are you?";

fn proxy(api: &Instance) -> Proxy {
    Config::of(&[api]).listener("h2c", true).evidence("failures", 0).retry("retries", 0).start()
}

#[track_caller]
fn check(cases: Vec<Case>) {
    // What may still be under way behind a case would be taken for the next one's.
    let (api, other) = (Instance::named("a"), Instance::named("b"));
    let (calm, restless) = (proxy(&api), proxy(&other));
    crate::assert_all(cases.into_iter().map(|(section, name, bytes, is)| {
        api.forget();
        let mut frames = connect(if matches!(is, Malformed | Status(_)) { &calm } else { &restless });
        send(&mut frames, &bytes);
        let whole = || api.received().iter().any(|request: &Received| request.body.is_some());
        judge(&mut frames, is, whole).map_err(|got| {
            let sent = crate::shown(&bytes);
            format!("RFC {section}: {name}\n    sent:     {sent}\n    expected: {is:?}\n    got:      {got}")
        })
    }));
}

/// What came instead of what was expected.
fn judge(frames: &mut Frames, is: Is, whole: impl Fn() -> bool) -> Result<(), String> {
    send(frames, &frame(kind::PING, 0, 0, PING));
    let telling = |frame: &Frame| {
        let pong = frame.kind == kind::PING && frame.flags & flag::ACK != 0 && frame.payload == PING;
        let stream = frame.stream == 1 && matches!(frame.kind, kind::RST_STREAM | kind::HEADERS);
        pong || stream || frame.kind == kind::GOAWAY
    };
    let mut seen = Vec::new();
    loop {
        let next = match find(frames, telling) {
            // A reset takes with it what had been said before.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
            Err(error) => return Err(format!("{error} after {seen:?}")),
            Ok(next) => next,
        };
        // `PROTOCOL_ERROR` stands for all that a more specific code could be said of (section 7).
        let ended = |codes: &[u32], code: u32| codes.contains(&code) || code == PROTOCOL_ERROR;
        let done = match (is, next.as_ref().map(|frame| (frame.kind, frame))) {
            (Anything, _) | (Fine, Some((kind::PING, _))) | (Connection(_) | Stream(_), None) => true,
            (Connection(codes) | Stream(codes), Some((kind::GOAWAY, frame)))
            | (Stream(codes), Some((kind::RST_STREAM, frame))) => ended(codes, frame.error()),
            (Malformed, None | Some((kind::GOAWAY | kind::RST_STREAM, _))) => !whole(),
            (Malformed, Some((kind::HEADERS, frame))) => (400..500).contains(&frame.status()) && !whole(),
            (Status(status), Some((kind::HEADERS, frame))) => match frame.status() {
                100..=199 => continue,
                other => other == status,
            },
            // The answer to a ping overtakes those to requests.
            (Connection(_) | Stream(_) | Malformed | Status(_), Some((kind::PING, _))) => continue,
            (Fine, Some((kind::HEADERS, frame))) => frame.status() == 200,
            _ => false,
        };
        if done {
            return Ok(());
        }
        seen.push(next.clone());
        match (is, next) {
            // An answer that was on its way already, or the end of a stream before that of the connection.
            (Connection(_) | Stream(_), Some(frame)) if frame.kind != kind::GOAWAY && seen.len() < 8 => {}
            (_, next) => {
                let status = next.as_ref().filter(|frame| frame.kind == kind::HEADERS).map(Frame::status);
                let code = next.as_ref().filter(|frame| frame.kind != kind::HEADERS).map(Frame::error);
                return Err(format!("status {status:?}, code {code:?}, whole at the instance: {}", whole()));
            }
        }
    }
}

/// A connection after the prefaces of both sides. The tables of compression are off: no head depends on another.
fn connect(proxy: &Proxy) -> Frames {
    let mut frames = Frames::connect_with(proxy.front, &[(1, 0)]);
    frames.wait("settings", |frame| frame.kind == kind::SETTINGS);
    send(&mut frames, &frame(kind::SETTINGS, flag::ACK, 0, []));
    frames
}

/// Sends bytes; the other side may have closed by now.
fn send(frames: &mut Frames, bytes: &[u8]) {
    drop(frames.try_write(bytes));
}

/// The next frame for which `wanted` is true; none if the connection ends before.
fn find(frames: &mut Frames, wanted: impl Fn(&Frame) -> bool) -> io::Result<Option<Frame>> {
    loop {
        match frames.read()? {
            Some(frame) if !wanted(&frame) => {}
            other => return Ok(other),
        }
    }
}

// What is sent.

fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    bytes_of(kind, flags, stream, payload.as_ref())
}

/// Parameters of a `SETTINGS`.
fn parameters(parameters: &[(u16, u32)]) -> Vec<u8> {
    parameters.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect()
}

/// A request that is whole and sound.
const FIELDS: &[(&str, &str)] = &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.test")];

const END: u8 = flag::END_STREAM | flag::END_HEADERS;

/// `HEADERS` with all that a request needs, and more.
fn headers(stream: u32, flags: u8, more: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, flags, stream, block(&[FIELDS, more].concat()))
}

/// The same with another value of one field; without it where the value is empty.
fn with(name: &str, value: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let fields = FIELDS.iter().filter_map(|(n, v)| match *n == name {
        true if value.is_empty() => None,
        true => Some((*n, value)),
        false => Some((*n, *v)),
    });
    frame(kind::HEADERS, END, 1, block(&[fields.collect(), more.to_vec()].concat()))
}

/// A request without a body on stream 1.
fn get(more: &[(&str, &str)]) -> Vec<u8> {
    headers(1, END, more)
}

/// The head of a POST on stream 1, whose body follows.
fn post(more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [&[(":method", "POST")], &FIELDS[1..], more].concat();
    frame(kind::HEADERS, flag::END_HEADERS, 1, block(&fields))
}

/// A body's part on stream 1.
fn data(flags: u8, bytes: &str) -> Vec<u8> {
    frame(kind::DATA, flags, 1, bytes)
}

fn all(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}
