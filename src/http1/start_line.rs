//! Request lines and status lines (RFC 9112 §3 and §4), with methods and versions.
//!
//! Parsed here and not by httparse, which is more lenient (it takes any control-free bytes for a target) and refuses
//! versions that RFC 9110 §2.5 wants accepted. Exactly one space between the parts, a token as method, visible ASCII
//! as target, three digits from 100 to 599 as status.

use super::field::is_token;
use super::head::{HeadError, Span};

/// A request method (RFC 9110 §9, RFC 5789). Case matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the method of that name")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Trace,
    Connect,
    Patch,
    /// Any other token: passed on, never repeated.
    Other,
}

impl Method {
    /// The method that `text` spells.
    #[inline]
    #[must_use]
    pub fn recognise(text: &[u8]) -> Self {
        match text {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }

    /// Asks for nothing to change (RFC 9110 §9.2.1).
    #[must_use]
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// Sent twice means the same as sent once (RFC 9110 §9.2.2). Unknown methods are taken not to be.
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }
}

/// The version that a message speaks, as far as it matters: HTTP/1.2 to 1.9 count as 1.1 (RFC 9110 §2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Version {
    Http10,
    Http11,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum StartLine {
    Request { method: Method, method_text: Span, target: Span },
    Response { status: u16, reason: Span },
}

/// `method SP request-target SP HTTP-version` (RFC 9112 §3), with exactly those two spaces.
pub(super) fn request_line(bytes: &[u8], start: usize) -> Result<(StartLine, Version), HeadError> {
    let (line, version) = bytes.split_last_chunk::<VERSION_BYTES>().ok_or(HeadError::BadStartLine)?;
    let line = line.strip_suffix(b" ").ok_or(HeadError::BadStartLine)?;
    let length = line.get(start..).and_then(|line| memchr::memchr(b' ', line)).ok_or(HeadError::BadStartLine)?;
    let (method_text, target) = (&line[start..start + length], &line[start + length + 1..]);
    let method = Method::recognise(method_text);
    if method == Method::Other && !is_token(method_text) {
        return Err(HeadError::BadStartLine);
    }
    // Visible ASCII alone: everything else must be percent-encoded (RFC 3986 §2). What the target says is the
    // caller's to judge.
    if target.is_empty() || !target.iter().all(|byte| matches!(byte, 0x21..=0x7e)) {
        return Err(HeadError::BadStartLine);
    }
    let version = parse_version(*version)?;
    let method_end = (start + length) as u32;
    let method_text = Span { start: start as u32, end: method_end };
    let target = Span { start: method_end + 1, end: line.len() as u32 };
    Ok((StartLine::Request { method, method_text, target }, version))
}

/// `HTTP-version SP status-code SP [ reason-phrase ]` (RFC 9112 §4). The second space may be missing where there is no
/// reason: many servers leave it out, and nothing can be read in two ways by that.
pub(super) fn status_line(line: &[u8], _start: usize) -> Result<(StartLine, Version), HeadError> {
    let (version, after) = line.split_first_chunk::<VERSION_BYTES>().ok_or(HeadError::BadStartLine)?;
    let version = parse_version(*version)?;
    let Some((&[b' ', hundreds @ b'1'..=b'5', tens @ b'0'..=b'9', ones @ b'0'..=b'9'], after)) =
        after.split_first_chunk::<4>()
    else {
        return Err(HeadError::BadStartLine);
    };
    let status = [hundreds, tens, ones].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    let reason = match after {
        [] => Span { start: line.len() as u32, end: line.len() as u32 },
        [b' ', reason @ ..] if reason.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)) => {
            Span { start: (line.len() - reason.len()) as u32, end: line.len() as u32 }
        }
        _ => return Err(HeadError::BadStartLine),
    };
    Ok((StartLine::Response { status, reason }, version))
}

const VERSION_BYTES: usize = b"HTTP/1.1".len();

/// `HTTP/` and two digits (RFC 9112 §2.3). A higher minor version is spoken to as 1.1 (RFC 9110 §2.5 and §6.2).
fn parse_version(text: [u8; VERSION_BYTES]) -> Result<Version, HeadError> {
    match &text {
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Ok(Version::Http11),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(HeadError::UnsupportedVersion),
        _ => Err(HeadError::BadStartLine),
    }
}
