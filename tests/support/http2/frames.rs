//! A client of HTTP/2 that sends frames as a test writes them, sound or not (RFC 9113).
//!
//! Fields are encoded as literals without Huffman codes and without the dynamic table, so that a test can read what it
//! sends. Of what comes back only frames and the status are understood.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::super::message::Wire;
use super::super::wait::BOUND;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Error codes.
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The next one on a connection below TLS.
    #[track_caller]
    pub(crate) fn read_from(wire: &mut Wire) -> Self {
        let head = wire.read_exactly(9).expect("the head of a frame");
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let payload = wire.read_exactly(length).expect("the payload of a frame");
        Self { kind: head[3], flags: head[4], stream, payload }
    }

    /// The error code of `RST_STREAM` and `GOAWAY`.
    pub(crate) fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status in the first field of `HEADERS`.
    pub(crate) fn status(&self) -> u16 {
        // After updates of the table's size.
        let block = self.payload.iter().position(|byte| byte & 0xe0 != 0x20).map_or(&[][..], |at| &self.payload[at..]);
        match block {
            // Entries of the static table.
            [index @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)],
            // Entry 8 of it as name, then a literal; with Huffman codes digits have five or six bits.
            [_, length, rest @ ..] if length & 0x80 == 0 => {
                String::from_utf8_lossy(&rest[..usize::from(*length)]).parse().expect("a status")
            }
            [_, length, rest @ ..] => digits(&rest[..usize::from(length & 0x7f)]),
            _ => panic!("no status in {self:?}"),
        }
    }
}

/// Three digits in the Huffman code of RFC 7541, appendix B.
fn digits(code: &[u8]) -> u16 {
    let bits: Vec<u8> = code.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let mut at = 0;
    (0..3).fold(0, |number, _| {
        let take = |count: usize| bits[at..at + count].iter().fold(0_u16, |value, bit| value << 1 | u16::from(*bit));
        let digit = match take(5) {
            short @ 0..=2 => (short, 5),
            _ => (take(6) - 0x19 + 3, 6),
        };
        at += digit.1;
        number * 10 + digit.0
    })
}

/// A connection.
pub(crate) struct Frames {
    stream: TcpStream,
}

impl Frames {
    /// Connects and sends nothing.
    #[track_caller]
    pub(crate) fn raw(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, BOUND).expect("connect");
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Connects and sends preface and settings.
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        // SETTINGS_HEADER_TABLE_SIZE: answers repeat nothing, so that each can be read by itself.
        Self::connect_with(address, &[(1, 0)])
    }

    /// As [`Frames::connect`], with settings.
    #[track_caller]
    pub(crate) fn connect_with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut frames = Self::raw(address);
        frames.write(PREFACE);
        let payload: Vec<u8> =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        frames.send(SETTINGS, 0, 0, &payload);
        frames
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> &mut Self {
        self.try_write(bytes).expect("send to the proxy");
        self
    }

    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a frame.
    #[track_caller]
    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> &mut Self {
        self.write(&bytes_of(kind, flags, stream, payload))
    }

    /// Sends the head of a request.
    #[track_caller]
    pub(crate) fn request(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) -> &mut Self {
        self.send(HEADERS, END_HEADERS | flags, stream, &block(fields))
    }

    /// Sends a GET for `path` without a body.
    #[track_caller]
    pub(crate) fn get(&mut self, stream: u32, path: &str) -> &mut Self {
        self.request(stream, END_STREAM, &head("GET", path))
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn read(&mut self) -> io::Result<Option<Frame>> {
        let mut head = [0; 9];
        let mut filled = 0;
        while filled < head.len() {
            match self.stream.read(&mut head[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Ok(Some(Frame { kind: head[3], flags: head[4], stream, payload }))
    }

    /// The next frame that is `wanted`; others are skipped, settings acknowledged.
    #[track_caller]
    pub(crate) fn wait(&mut self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            match self.read() {
                Ok(Some(frame)) if wanted(&frame) => return frame,
                Ok(Some(frame)) if frame.kind == SETTINGS && frame.flags & ACK == 0 => {
                    // It may have closed its sending side.
                    drop(self.try_write(&bytes_of(SETTINGS, ACK, 0, &[])));
                }
                Ok(Some(frame)) => {
                    assert!(frame.kind != GOAWAY || frame.error() == NO_ERROR, "{what}: instead {frame:?}");
                }
                Ok(None) => panic!("{what}: the connection ended"),
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }

    /// What becomes of a stream: the status of its answer, or why it was reset.
    #[track_caller]
    pub(crate) fn outcome(&mut self, stream: u32) -> Outcome {
        let frame = self
            .wait("an answer or a reset", |frame| frame.stream == stream && matches!(frame.kind, HEADERS | RST_STREAM));
        if frame.kind == HEADERS { Outcome::Answered(frame.status()) } else { Outcome::Reset(frame.error()) }
    }

    /// How a request that is malformed is refused.
    #[track_caller]
    pub(crate) fn refusal(&mut self, stream: u32) -> Refusal {
        loop {
            match self.read() {
                Ok(Some(frame)) if frame.kind == GOAWAY => return Refusal::Ended(frame.error()),
                Ok(Some(frame)) if frame.stream == stream && frame.kind == RST_STREAM => {
                    return Refusal::Reset(frame.error());
                }
                Ok(Some(frame)) if frame.stream == stream && frame.kind == HEADERS => {
                    return Refusal::Answered(frame.status());
                }
                Ok(Some(_)) => {}
                Ok(None) => panic!("the connection ended without a word"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The error code with which the other side ends the connection; `None`: without a word.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Option<u32> {
        let mut error = None;
        loop {
            match self.read() {
                Ok(Some(frame)) if frame.kind == GOAWAY => error = Some(frame.error()),
                Ok(Some(_)) => {}
                Err(broken) if broken.kind() == io::ErrorKind::WouldBlock => panic!("the connection did not end"),
                Ok(None) | Err(_) => return error,
            }
        }
    }

    pub(crate) fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends the connection as one that broke.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// How a malformed request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Answered(u16),
    Reset(u32),
    /// The whole connection was.
    Ended(u32),
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered(u16),
    Reset(u32),
}

/// The pseudo-header fields of a request.
pub(crate) fn head<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [(":method", method), (":scheme", "http"), (":authority", "test"), (":path", path)]
}

/// The bytes of a frame.
pub(crate) fn bytes_of(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field block: literals that are not indexed.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            integer(&mut out, text.len());
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// A length in seven bits and more (RFC 7541 section 5.1).
fn integer(out: &mut Vec<u8>, value: usize) {
    if value < 127 {
        out.push(value as u8);
        return;
    }
    out.push(127);
    let mut left = value - 127;
    while left >= 128 {
        out.push((left % 128) as u8 | 128);
        left /= 128;
    }
    out.push(left as u8);
}
