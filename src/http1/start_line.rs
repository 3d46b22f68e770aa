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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Version {
    Http10,
    #[default]
    Http11,
    Http2,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum StartLine {
    Request { method: Method, method_text: Span, target: Span },
    Response { status: u16, reason: Span },
}

impl Default for StartLine {
    fn default() -> Self {
        Self::Response { status: 0, reason: Span::default() }
    }
}

/// `method SP request-target SP HTTP-version` (RFC 9112 §3), with exactly those two spaces.
pub(super) fn request_line(bytes: &[u8], start: usize) -> Result<(StartLine, Version), HeadError> {
    let (line, version) = bytes.split_last_chunk::<VERSION_BYTES>().ok_or(HeadError::BadStartLine)?;
    let line = line.strip_suffix(b" ").ok_or(HeadError::BadStartLine)?;
    // Methods are short: a loop is through before a vectorised search has begun.
    let mut bytes = line.get(start..).unwrap_or_default().iter();
    let length = bytes.position(|byte| *byte == b' ').ok_or(HeadError::BadStartLine)?;
    let (method_text, target) = (&line[start..start + length], &line[start + length + 1..]);
    let method = Method::recognise(method_text);
    if method == Method::Other && !is_token(method_text) {
        return Err(HeadError::BadStartLine);
    }
    // Visible ASCII alone: everything else must be percent-encoded (RFC 3986 §2). What the target says is the
    // caller's to judge.
    if target.is_empty() || !is_visible_ascii(target) {
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

/// Whether all bytes are visible ASCII. Without an early end, so that it is done sixteen bytes at a time.
pub(super) fn is_visible_ascii(text: &[u8]) -> bool {
    text.iter().fold(true, |visible, byte| visible & matches!(byte, 0x21..=0x7e))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Head;

    /// A line, what it says, and where that is written.
    type RequestLine = (&'static [u8], Method, &'static [u8], Version, &'static str);
    type StatusLine = (&'static [u8], u16, &'static [u8], Version, &'static str);

    fn request(line: &[u8]) -> Result<Head, HeadError> {
        let bytes = [line, b"\r\nHost: a\r\n\r\n"].concat();
        let end = bytes.len();
        Head::request(bytes, 0, end, 100).map_err(|(error, _)| error)
    }

    fn response(line: &[u8]) -> Result<Head, HeadError> {
        let bytes = [line, b"\r\n\r\n"].concat();
        let end = bytes.len();
        Head::response(bytes, 0, end, 100).map_err(|(error, _)| error)
    }

    #[test]
    fn request_lines_are_read_as_rfc_9112_section_3_says() {
        let accepted: &[RequestLine] = &[
            (b"GET / HTTP/1.1", Method::Get, b"/", Version::Http11, "RFC 9112 3: three parts"),
            (b"POST /a?b=c HTTP/1.0", Method::Post, b"/a?b=c", Version::Http10, "RFC 9112 3.2.1: origin-form"),
            (b"PUT http://h/p HTTP/1.1", Method::Put, b"http://h/p", Version::Http11, "RFC 9112 3.2.2: absolute-form"),
            (b"CONNECT h:443 HTTP/1.1", Method::Connect, b"h:443", Version::Http11, "RFC 9112 3.2.3: authority-form"),
            (b"OPTIONS * HTTP/1.1", Method::Options, b"*", Version::Http11, "RFC 9112 3.2.4: asterisk-form"),
            (b"PROPFIND / HTTP/1.1", Method::Other, b"/", Version::Http11, "RFC 9110 9.1: any token"),
            (b"!#$%&'*+-.^_`|~09az / HTTP/1.1", Method::Other, b"/", Version::Http11, "RFC 9110 5.6.2: all of tchar"),
            (b"get / HTTP/1.1", Method::Other, b"/", Version::Http11, "RFC 9110 9.1: case matters"),
            (b"HEAD / HTTP/1.9", Method::Head, b"/", Version::Http11, "RFC 9110 2.5: a higher minor version"),
            (b"DELETE /{a}|b HTTP/1.1", Method::Delete, b"/{a}|b", Version::Http11, "browsers leave these unencoded"),
        ];
        for (line, method, target, version, why) in accepted {
            let head = request(line).unwrap_or_else(|error| panic!("{why}: {error}"));
            assert_eq!((head.method(), head.target(), head.version()), (*method, *target, *version), "{why}");
            assert!(line.starts_with(head.method_text()), "{why}");
        }
        let bad = HeadError::BadStartLine;
        let refused: &[(&[u8], HeadError, &str)] = &[
            (b"GET  / HTTP/1.1", bad, "RFC 9112 3: one SP"),
            (b"GET /  HTTP/1.1", bad, "RFC 9112 3: one SP"),
            (b"GET\t/ HTTP/1.1", bad, "RFC 9112 3: SP and not HTAB"),
            (b"GET /\tHTTP/1.1", bad, "RFC 9112 3: SP and not HTAB"),
            (b"GET / HTTP/1.1 ", bad, "RFC 9112 3: nothing after the version"),
            (b" GET / HTTP/1.1", bad, "RFC 9112 3: nothing before the method"),
            (b"GET /a b HTTP/1.1", bad, "RFC 9112 3.2: no white space in a target"),
            (b"GET HTTP/1.1", bad, "RFC 9112 3: a target"),
            (b"GET  HTTP/1.1", bad, "RFC 9112 3: a target"),
            (b"GET /", bad, "RFC 9112 3: a version"),
            (b"GET", bad, "RFC 9112 3: three parts"),
            (b"/ HTTP/1.1", bad, "RFC 9112 3: a method"),
            (b"G@T / HTTP/1.1", bad, "RFC 9110 5.6.2: a method is a token"),
            (b"GET: / HTTP/1.1", bad, "RFC 9110 5.6.2: a method is a token"),
            (b"G\xc3\x89T / HTTP/1.1", bad, "RFC 9110 5.6.2: a method is a token"),
            (b"GET /\x7f HTTP/1.1", bad, "RFC 3986 2: no control byte"),
            (b"GET /\xc3\xa9 HTTP/1.1", bad, "RFC 3986 2: percent-encoded outside ASCII"),
            (b"GET / http/1.1", bad, "RFC 9112 2.3: case matters"),
            (b"GET / HTTP/11", bad, "RFC 9112 2.3: a dot"),
            (b"GET / HTTP/1.", bad, "RFC 9112 2.3: two digits"),
            (b"GET / HTTP/1.10", bad, "RFC 9112 2.3: one digit each"),
            (b"GET / HTTP/01.1", bad, "RFC 9112 2.3: one digit each"),
            (b"GET / HTTP/1,1", bad, "RFC 9112 2.3: a dot"),
            (b"GET / HTTP /1.1", bad, "RFC 9112 2.3: no white space"),
            (b"GET / ICY/1.1", bad, "RFC 9112 2.3: the name"),
            (b"GET / HTTP/2.0", HeadError::UnsupportedVersion, "RFC 9110 15.6.6: 505"),
            (b"GET / HTTP/0.9", HeadError::UnsupportedVersion, "RFC 9110 15.6.6: 505"),
            (b"GET / HTTP/3.1", HeadError::UnsupportedVersion, "RFC 9110 15.6.6: 505"),
            (b"GET /\n HTTP/1.1", HeadError::BareLineFeed, "RFC 9112 2.2"),
            (b"GET /\r HTTP/1.1", HeadError::BareCarriageReturn, "RFC 9112 2.2"),
            (b"GET / HTTP/1.1\rXA: b", HeadError::BareCarriageReturn, "RFC 9112 2.2: as its line end"),
            (b"GET /\0 HTTP/1.1", HeadError::Nul, "RFC 9110 5.5"),
        ];
        for (line, expected, why) in refused {
            assert_eq!(request(line).err(), Some(*expected), "{why}: {}", line.escape_ascii());
        }
    }

    #[test]
    fn status_lines_are_read_as_rfc_9112_section_4_says() {
        let accepted: &[StatusLine] = &[
            (b"HTTP/1.1 200 OK", 200, b"OK", Version::Http11, "RFC 9112 4"),
            (b"HTTP/1.0 404 Not  Found ", 404, b"Not  Found ", Version::Http10, "RFC 9112 4: any text as reason"),
            (b"HTTP/1.1 599 \xe9t\xe9\t", 599, b"\xe9t\xe9\t", Version::Http11, "RFC 9112 4: HTAB and obs-text"),
            (b"HTTP/1.1 100 ", 100, b"", Version::Http11, "RFC 9112 4: an empty reason"),
            (b"HTTP/1.1 204", 204, b"", Version::Http11, "leniency: no SP before an absent reason"),
            (b"HTTP/1.2 200 OK", 200, b"OK", Version::Http11, "RFC 9110 2.5"),
        ];
        for (line, status, reason, version, why) in accepted {
            let head = response(line).unwrap_or_else(|error| panic!("{why}: {error}"));
            assert_eq!((head.status(), head.reason(), head.version()), (*status, *reason, *version), "{why}");
        }
        let bad = HeadError::BadStartLine;
        let refused: &[(&[u8], HeadError, &str)] = &[
            (b"HTTP/1.1 099 x", bad, "RFC 9110 15: 100 to 599"),
            (b"HTTP/1.1 600 x", bad, "RFC 9110 15: 100 to 599"),
            (b"HTTP/1.1 999 x", bad, "RFC 9110 15: 100 to 599"),
            (b"HTTP/1.1 20 OK", bad, "RFC 9110 15: three digits"),
            (b"HTTP/1.1 2000 OK", bad, "RFC 9110 15: three digits"),
            (b"HTTP/1.1 200OK", bad, "RFC 9112 4: SP"),
            (b"HTTP/1.1  200 OK", bad, "RFC 9112 4: one SP"),
            (b"HTTP/1.1 +20 OK", bad, "RFC 9110 15: three digits"),
            (b"HTTP/1.1 200\tOK", bad, "RFC 9112 4: SP and not HTAB"),
            (b" HTTP/1.1 200 OK", bad, "RFC 9112 4: nothing before"),
            (b"HTTP/1.1", bad, "RFC 9112 4: a status"),
            (b"HTTP/1.1 200 O\x07K", bad, "RFC 9112 4: no control bytes"),
            (b"ICY 200 OK", bad, "RFC 9112 4"),
            (b"http/1.1 200 OK", bad, "RFC 9112 2.3"),
            (b"HTTP/2.0 200 OK", HeadError::UnsupportedVersion, "RFC 9112 2.3"),
            (b"HTTP/1.1 200 O\0K", HeadError::Nul, "RFC 9110 5.5"),
            (b"HTTP/1.1 200 O\nK", HeadError::BareLineFeed, "RFC 9112 2.2"),
        ];
        for (line, expected, why) in refused {
            assert_eq!(response(line).err(), Some(*expected), "{why}: {}", line.escape_ascii());
        }
    }

    #[test]
    fn nothing_may_stand_before_a_response() {
        let bytes = b"\r\nHTTP/1.1 200 OK\r\n\r\n".to_vec();
        let end = bytes.len();
        assert_eq!(Head::response(bytes, 2, end, 100).map_err(|(error, _)| error).err(), Some(HeadError::BadStartLine));
    }

    #[test]
    fn methods_are_safe_and_idempotent_as_rfc_9110_section_9_2_says() {
        use Method::{Connect, Delete, Get, Options, Other, Patch, Post, Put, Trace};
        for method in [Get, Method::Head, Options, Trace] {
            assert!(method.is_safe() && method.is_idempotent(), "{method:?}");
        }
        for method in [Put, Delete] {
            assert!(!method.is_safe() && method.is_idempotent(), "{method:?}");
        }
        for method in [Post, Connect, Patch, Other] {
            assert!(!method.is_safe() && !method.is_idempotent(), "{method:?}");
        }
    }
}
