//! Takes the chunked coding off a body (RFC 9112 §7.1), in place and under any cut into reads.
//!
//! One state machine, byte by byte through the lines and in one step through the data. It accepts what the grammar
//! says and nothing else: two readers that disagree about where a chunk line ends disagree about where the next
//! request begins. So CR and LF stand only together and only where a line ends (not inside a quoted string either),
//! white space only where the grammar has it, and an extension has a name.
//!
//! Limits: a size in 60 bits, a chunk line of [`ChunkedLimits::line_bytes_max`], extensions in proportion to the data
//! that they come with, trailers of [`ChunkedLimits::trailer_bytes_max`]. Extensions are dropped, as a recipient may;
//! so are trailers that would be harmful if a recipient merged them into the head (RFC 9110 §6.5.1).

use super::field::is_token_byte;
use super::name::{Name, NameSet, tells_client_certificate};

/// How much may stand around the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkedLimits {
    /// One chunk line: size and extensions, without its CRLF.
    pub line_bytes_max: usize,
    /// All trailer lines together, also those that are dropped.
    pub trailer_bytes_max: usize,
}

impl ChunkedLimits {
    /// Extensions that are in use are signatures of about a hundred bytes.
    pub const LINE_BYTES_MAX: usize = 4 * 1024;
    /// As much as peers allow for a whole head of few fields.
    pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
}

impl Default for ChunkedLimits {
    fn default() -> Self {
        Self { line_bytes_max: Self::LINE_BYTES_MAX, trailer_bytes_max: Self::TRAILER_BYTES_MAX }
    }
}

/// Bytes in chunk lines beyond the bytes of data that came with them. Without this, chunks of one byte could carry
/// kilobytes of extensions each, for as long as the body lasts.
const LINE_BYTES_UNPAID_MAX: u64 = 16 * 1024;

/// Why a chunked body cannot be decoded. In a request all mean 400, if there still is an answer to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ChunkedError {
    /// Something else than a size in hexadecimal digits.
    #[error("malformed chunk size")]
    BadSize,
    /// A size that does not fit.
    #[error("chunk size too large")]
    SizeOverflow,
    /// Extensions not after RFC 9112 §7.1.1.
    #[error("malformed chunk extension")]
    BadExtension,
    /// A chunk line over its limit, or more extensions than data.
    #[error("chunk line too long")]
    LineTooLong,
    /// CR or LF alone, or missing.
    #[error("line end that is not CR LF")]
    BadLineEnd,
    /// Something else than CRLF after a chunk's data.
    #[error("chunk data longer than its size")]
    DataTooLong,
    /// A trailer that is not a field line; folded ones are not.
    #[error("malformed trailer")]
    BadTrailer,
    /// Trailers over their limit.
    #[error("trailers too large")]
    TrailersTooLarge,
}

/// What [`ChunkedDecoder::decode`] made of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// `bytes[..data]` is the body now.
    pub data: usize,
    /// `bytes[consumed..]` belong to what follows the body. All are consumed unless `done`.
    pub consumed: usize,
    /// The body has ended, and its trailers are known.
    pub done: bool,
}

/// A chunked body that is being decoded.
#[derive(Debug, Clone, Default)]
pub struct ChunkedDecoder {
    limits: ChunkedLimits,
    state: State,
    /// Of this chunk: what its digits say so far, then the data that has not come yet.
    size: u64,
    /// Of the line that is being read.
    line_bytes: usize,
    /// Chunk line bytes less data bytes, never below zero.
    unpaid: u64,
    /// All trailer bytes so far, also of those that were dropped.
    trailer_bytes: usize,
    /// Where the trailer that is being read begins in `trailers`.
    trailer_start: usize,
    trailers: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    SizeStart,
    Size,
    /// White space after the size or a value: an extension must follow.
    BeforeExtension,
    /// After `;`.
    NameStart,
    Name,
    /// White space after a name: `=` or an extension must follow.
    AfterName,
    /// After `=`.
    ValueStart,
    Value,
    Quoted,
    QuotedEscape,
    QuotedEnd,
    LineFeed,
    Data,
    DataCarriageReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

impl ChunkedDecoder {
    /// A decoder at the beginning of a body.
    #[must_use]
    pub fn new(limits: ChunkedLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Decodes `bytes`, which follow those of the last call, and moves the data in them to their beginning. Call it
    /// again with more until it says `done`; then it takes nothing more.
    ///
    /// # Errors
    /// The body is malformed or over a limit; what it held so far must not be taken for whole.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded, ChunkedError> {
        let (mut read, mut data) = (0, 0);
        while read < bytes.len() && self.state != State::Done {
            if self.state == State::Data {
                let available = bytes.len() - read;
                let length = usize::try_from(self.size).map_or(available, |left| left.min(available));
                if read != data {
                    bytes.copy_within(read..read + length, data);
                }
                self.size -= length as u64;
                read += length;
                data += length;
                if self.size == 0 {
                    self.state = State::DataCarriageReturn;
                }
            } else {
                self.state = self.step(bytes[read])?;
                read += 1;
            }
        }
        Ok(Decoded { data, consumed: read, done: self.state == State::Done })
    }

    /// Whether the last chunk and its trailers have been read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailers that may be passed on, once the body has ended: field lines, each with its CRLF.
    #[must_use]
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// One byte that is not data.
    #[inline]
    fn step(&mut self, byte: u8) -> Result<State, ChunkedError> {
        use State as S;
        let next = match self.state {
            S::SizeStart | S::Size => return self.size_byte(byte),
            S::BeforeExtension
            | S::NameStart
            | S::Name
            | S::AfterName
            | S::ValueStart
            | S::Value
            | S::Quoted
            | S::QuotedEscape
            | S::QuotedEnd => return self.extension_byte(byte),
            S::LineFeed if byte == b'\n' => return self.end_chunk_line(),
            S::DataCarriageReturn if byte == b'\r' => S::DataLineFeed,
            S::DataCarriageReturn => return Err(ChunkedError::DataTooLong),
            S::DataLineFeed if byte == b'\n' => S::SizeStart,
            S::LastLineFeed if byte == b'\n' => S::Done,
            S::TrailerStart | S::TrailerName | S::TrailerValue | S::TrailerLineFeed => return self.trailer_byte(byte),
            S::LineFeed | S::DataLineFeed | S::LastLineFeed => return Err(ChunkedError::BadLineEnd),
            S::Data | S::Done => self.state,
        };
        Ok(next)
    }

    #[inline]
    fn size_byte(&mut self, byte: u8) -> Result<State, ChunkedError> {
        let Some(digit) = char::from(byte).to_digit(16) else {
            return match (self.state, byte) {
                (State::SizeStart, _) => Err(ChunkedError::BadSize),
                (_, b'\r') => Ok(State::LineFeed),
                (_, b';') => self.line_byte(State::NameStart),
                (_, b' ' | b'\t') => self.line_byte(State::BeforeExtension),
                (_, b'\n') => Err(ChunkedError::BadLineEnd),
                _ => Err(ChunkedError::BadSize),
            };
        };
        if self.size >> 56 != 0 {
            return Err(ChunkedError::SizeOverflow);
        }
        self.size = self.size << 4 | u64::from(digit);
        self.line_byte(State::Size)
    }

    /// `chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )` (RFC 9112 §7.1.1).
    fn extension_byte(&mut self, byte: u8) -> Result<State, ChunkedError> {
        use State as S;
        let next = match (self.state, byte) {
            (S::Name | S::Value | S::QuotedEnd, b'\r') => return Ok(S::LineFeed),
            (_, b'\r' | b'\n') => return Err(ChunkedError::BadLineEnd),
            (S::BeforeExtension | S::Name | S::AfterName | S::Value | S::QuotedEnd, b';') => S::NameStart,
            (S::BeforeExtension | S::NameStart | S::AfterName | S::ValueStart, b' ' | b'\t') => self.state,
            (S::Name, b' ' | b'\t') => S::AfterName,
            (S::Value | S::QuotedEnd, b' ' | b'\t') => S::BeforeExtension,
            (S::Name | S::AfterName, b'=') => S::ValueStart,
            (S::NameStart | S::Name, byte) if is_token_byte(byte) => S::Name,
            (S::ValueStart | S::Value, byte) if is_token_byte(byte) => S::Value,
            (S::Quoted, b'"') => S::QuotedEnd,
            (S::Quoted, b'\\') => S::QuotedEscape,
            (S::ValueStart, b'"') | (S::Quoted | S::QuotedEscape, b'\t' | 0x20..=0x7e | 0x80..) => S::Quoted,
            _ => return Err(ChunkedError::BadExtension),
        };
        self.line_byte(next)
    }

    /// Counts one byte of a chunk line.
    #[inline]
    fn line_byte(&mut self, next: State) -> Result<State, ChunkedError> {
        self.line_bytes += 1;
        if self.line_bytes > self.limits.line_bytes_max { Err(ChunkedError::LineTooLong) } else { Ok(next) }
    }

    fn end_chunk_line(&mut self) -> Result<State, ChunkedError> {
        self.unpaid = (self.unpaid + self.line_bytes as u64).saturating_sub(self.size);
        self.line_bytes = 0;
        if self.unpaid > LINE_BYTES_UNPAID_MAX {
            return Err(ChunkedError::LineTooLong);
        }
        Ok(if self.size == 0 { State::TrailerStart } else { State::Data })
    }
}

// Trailers.

/// Trailers that are not passed on (RFC 9110 §6.5.1): framing, routing, authentication, what modifies a request or
/// controls a response, what says how content is to be read, what concerns one connection, and what Plimsoll itself
/// tells the instance.
const TRAILERS_DROPPED: NameSet = NameSet::of(&[
    Name::ContentLength,
    Name::TransferEncoding,
    Name::Trailer,
    Name::Host,
    Name::MaxForwards,
    Name::Connection,
    Name::KeepAlive,
    Name::ProxyConnection,
    Name::Upgrade,
    Name::Te,
    Name::Http2Settings,
    Name::Authorization,
    Name::WwwAuthenticate,
    Name::ProxyAuthenticate,
    Name::ProxyAuthorization,
    Name::Cookie,
    Name::SetCookie,
    Name::Expect,
    Name::Range,
    Name::IfMatch,
    Name::IfNoneMatch,
    Name::IfModifiedSince,
    Name::IfUnmodifiedSince,
    Name::IfRange,
    Name::CacheControl,
    Name::Pragma,
    Name::Expires,
    Name::Age,
    Name::Date,
    Name::Location,
    Name::RetryAfter,
    Name::Vary,
    Name::ContentType,
    Name::ContentEncoding,
    Name::ContentRange,
    Name::Via,
    Name::Forwarded,
    Name::XForwardedFor,
    Name::XForwardedProto,
    Name::XForwardedHost,
    Name::XForwardedPort,
    Name::XRealIp,
    Name::Traceparent,
    Name::Tracestate,
    Name::XRequestId,
    Name::ProxyStatus,
]);

impl ChunkedDecoder {
    fn trailer_byte(&mut self, byte: u8) -> Result<State, ChunkedError> {
        use State as S;
        let next = match (self.state, byte) {
            (S::TrailerStart, b'\r') => return Ok(S::LastLineFeed),
            (S::TrailerLineFeed, b'\n') => S::TrailerStart,
            (S::TrailerLineFeed, _) | (_, b'\n') => return Err(ChunkedError::BadLineEnd),
            (S::TrailerValue, b'\r') => S::TrailerLineFeed,
            (S::TrailerName, b':') | (S::TrailerValue, b'\t' | 0x20..=0x7e | 0x80..) => S::TrailerValue,
            (S::TrailerStart | S::TrailerName, byte) if is_token_byte(byte) => S::TrailerName,
            _ => return Err(ChunkedError::BadTrailer),
        };
        self.trailer_bytes += 1;
        if self.trailer_bytes > self.limits.trailer_bytes_max {
            return Err(ChunkedError::TrailersTooLarge);
        }
        self.trailers.push(byte);
        if next == S::TrailerStart {
            if trailer_is_dropped(&self.trailers[self.trailer_start..]) {
                self.trailers.truncate(self.trailer_start);
            }
            self.trailer_start = self.trailers.len();
        }
        Ok(next)
    }
}

/// Whether a recipient could take this line for one of the dropped ones. CGI and its heirs do not tell `_` from `-`.
fn trailer_is_dropped(line: &[u8]) -> bool {
    !passes_as_trailer(line.split(|byte| *byte == b':').next().unwrap_or_default())
}

/// Whether a trailer of this name is passed on (RFC 9110 §6.5.1).
#[must_use]
pub fn passes_as_trailer(name: &[u8]) -> bool {
    let name: Vec<u8> = name.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
    !TRAILERS_DROPPED.contains(Name::recognise(&name)) && !tells_client_certificate(&name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http1::write::{CRLF, chunk_head, last_chunk};

    /// Bytes, the data and the trailers in them, and where that is written (RFC 9112).
    type Decodable = (&'static [u8], &'static [u8], &'static [u8], &'static str);

    #[derive(Debug, PartialEq, Eq)]
    struct Body {
        data: Vec<u8>,
        trailers: Vec<u8>,
        /// What follows the body; none if it has not ended.
        rest: Option<Vec<u8>>,
    }

    /// Decodes bytes that come in these pieces.
    fn decode(limits: ChunkedLimits, bytes: &[u8], cuts: &[usize]) -> Result<Body, ChunkedError> {
        let mut decoder = ChunkedDecoder::new(limits);
        let mut data = Vec::new();
        let mut start = 0;
        for end in cuts.iter().copied().filter(|cut| *cut < bytes.len()).chain([bytes.len()]) {
            let mut piece = bytes[start..end].to_vec();
            let decoded = decoder.decode(&mut piece)?;
            assert!(decoded.data <= decoded.consumed && decoded.consumed <= piece.len());
            data.extend_from_slice(&piece[..decoded.data]);
            start += decoded.consumed;
            if decoded.done {
                let rest = Some(bytes[start..].to_vec());
                return Ok(Body { data, trailers: decoder.trailers().to_vec(), rest });
            }
            assert_eq!(start, end, "all is consumed until the body ends");
        }
        Ok(Body { data, trailers: decoder.trailers().to_vec(), rest: None })
    }

    /// Decoded with small limits, the same at once and byte by byte.
    fn body(bytes: &[u8]) -> Result<Body, ChunkedError> {
        let limits = ChunkedLimits { line_bytes_max: 40, trailer_bytes_max: 60 };
        let whole = decode(limits, bytes, &[]);
        let cuts: Vec<usize> = (1..bytes.len()).collect();
        assert_eq!(decode(limits, bytes, &cuts), whole, "{}", bytes.escape_ascii());
        whole
    }

    #[test]
    fn bodies_are_decoded_as_rfc_9112_section_7_1_says() {
        let cases: &[Decodable] = &[
            (b"0\r\n\r\n", b"", b"", "7.1: no data"),
            (b"000\r\n\r\n", b"", b"", "7.1: last-chunk = 1*(\"0\")"),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b"", "7.1: one chunk"),
            (b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello", b"", "7.1: two chunks"),
            (b"00005\r\nhello\r\n0\r\n\r\n", b"hello", b"", "7.1: leading zeros"),
            (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789", b"", "7.1: HEXDIG"),
            (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", b"", "7.1: data that looks like lines"),
            (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n", b"", "7.1: data that looks like the end"),
            (b"1;a\r\nx\r\n0;b=c\r\n\r\n", b"x", b"", "7.1.1: extensions are ignored"),
            (b"1;a;b=c;d=\"e\"\r\nx\r\n0\r\n\r\n", b"x", b"", "7.1.1: several"),
            (b"1 \t; a = b\t;c\r\nx\r\n0\r\n\r\n", b"x", b"", "7.1.1: BWS"),
            (b"1;a=\";\\\" =\"\r\nx\r\n0\r\n\r\n", b"x", b"", "7.1.1: quoted strings and pairs"),
            (b"1;a=\"\"\r\nx\r\n0\r\n\r\n", b"x", b"", "7.1.1: an empty quoted string"),
            (b"0\r\nA: b\r\nC:d\r\n\r\n", b"", b"A: b\r\nC:d\r\n", "7.1.2: trailers"),
            (b"0\r\ngrpc-status: 0\r\n\r\n", b"", b"grpc-status: 0\r\n", "7.1.2: trailers"),
            (b"0\r\nA:\r\nB: \t\r\n\r\n", b"", b"A:\r\nB: \t\r\n", "RFC 9110 5.5: empty values"),
        ];
        for (bytes, data, trailers, why) in cases {
            let followed = [*bytes, b"GET /"].concat();
            let expected = Body { data: data.to_vec(), trailers: trailers.to_vec(), rest: Some(b"GET /".to_vec()) };
            assert_eq!(body(&followed), Ok(expected), "{why}");
        }
    }

    #[test]
    fn malformed_bodies_are_refused_at_the_byte_that_makes_them_so() {
        use ChunkedError::{BadExtension, BadLineEnd, BadSize, BadTrailer, DataTooLong, SizeOverflow};
        let cases: &[(&[u8], ChunkedError, &str)] = &[
            (b"\r", BadSize, "7.1: 1*HEXDIG"),
            (b"\n", BadSize, "7.1: 1*HEXDIG"),
            (b";", BadSize, "7.1: 1*HEXDIG"),
            (b" ", BadSize, "7.1: nothing before the size"),
            (b"g", BadSize, "7.1: HEXDIG"),
            (b"-", BadSize, "7.1: no sign"),
            (b"+", BadSize, "7.1: no sign"),
            (b"0x", BadSize, "7.1: no prefix"),
            (b"5_", BadSize, "7.1: HEXDIG"),
            (b"5\0", BadSize, "7.1: HEXDIG"),
            (b"5\n", BadLineEnd, "2.2: bare LF"),
            (b"5\rh", BadLineEnd, "2.2: bare CR"),
            (b"5\r\r", BadLineEnd, "2.2: bare CR"),
            (b"5 \r", BadLineEnd, "7.1.1: BWS only before an extension"),
            (b"5 5", BadExtension, "7.1.1: an extension begins with a semicolon"),
            (b"5;\r", BadLineEnd, "7.1.1: an extension has a name"),
            (b"5;;", BadExtension, "7.1.1: an extension has a name"),
            (b"5;=", BadExtension, "7.1.1: an extension has a name"),
            (b"5;a=\r", BadLineEnd, "7.1.1: a value after ="),
            (b"5;a=;", BadExtension, "7.1.1: a value after ="),
            (b"5;a\n", BadLineEnd, "2.2: bare LF in an extension"),
            (b"5;a=b\n", BadLineEnd, "2.2: bare LF in an extension"),
            (b"5;a=\"b\n", BadLineEnd, "2.2: bare LF in a quoted string"),
            (b"5;a=\"b\r", BadLineEnd, "RFC 9110 5.6.4: no CR in a quoted string"),
            (b"5;a=\"b\\\r", BadLineEnd, "RFC 9110 5.6.4: no CR in a quoted pair"),
            (b"5;a=\"b\0", BadExtension, "RFC 9110 5.6.4: no control bytes"),
            (b"5;a=\"b\"c", BadExtension, "7.1.1: nothing after a quoted string"),
            (b"5;a=b\"", BadExtension, "7.1.1: a token or a quoted string"),
            (b"5;a b", BadExtension, "7.1.1: white space in a name"),
            (b"5;a \r", BadLineEnd, "7.1.1: no white space at the end"),
            (b"5\r\nhelloX", DataTooLong, "7.1: CRLF after the data"),
            (b"5\r\nhello\n", DataTooLong, "7.1: CRLF after the data"),
            (b"5\r\nhello0", DataTooLong, "7.1: CRLF after the data"),
            (b"5\r\nhello\r0", BadLineEnd, "7.1: CRLF after the data"),
            (b"5\r\nhello\r\n\r", BadSize, "7.1: a chunk follows"),
            (b"1000000000000000", SizeOverflow, "7.1: large sizes are expected and refused"),
            (b"ffffffffffffffff", SizeOverflow, "7.1: large sizes"),
            (b"0\r\n\n", BadLineEnd, "2.2: bare LF at the end"),
            (b"0\r\n\r0", BadLineEnd, "2.2: bare CR at the end"),
            (b"0\r\nA: b\n", BadLineEnd, "2.2: bare LF in trailers"),
            (b"0\r\nA: b\r\r", BadLineEnd, "2.2: bare CR in trailers"),
            (b"0\r\nA: b\0", BadTrailer, "RFC 9110 5.5: NUL"),
            (b"0\r\n ", BadTrailer, "5.2: obs-fold"),
            (b"0\r\nA: b\r\n\t", BadTrailer, "5.2: obs-fold"),
            (b"0\r\n:", BadTrailer, "RFC 9110 5.1: an empty name"),
            (b"0\r\nA ", BadTrailer, "5.1: white space before the colon"),
            (b"0\r\nA\r", BadTrailer, "5: no colon"),
        ];
        for (bytes, expected, why) in cases {
            assert_eq!(body(bytes), Err(*expected), "{why}: {}", bytes.escape_ascii());
            assert!(body(&bytes[..bytes.len() - 1]).is_ok(), "too early: {}", bytes.escape_ascii());
        }
    }

    #[test]
    fn sizes_up_to_sixty_bits_are_taken() {
        let mut decoder = ChunkedDecoder::default();
        let mut bytes = *b"fffffffffffffff\r\nx";
        assert_eq!(decoder.decode(&mut bytes), Ok(Decoded { data: 1, consumed: 18, done: false }));
        assert_eq!(decoder.size, (1 << 60) - 2);
    }

    #[test]
    fn chunk_lines_and_trailers_are_limited_even_if_they_never_end() {
        let line = |length: usize| [b"5;".as_slice(), &b"a".repeat(length - 2)].concat();
        assert!(body(&line(40)).is_ok());
        assert_eq!(body(&line(41)), Err(ChunkedError::LineTooLong));
        assert_eq!(body(&b"0".repeat(41)), Err(ChunkedError::LineTooLong), "digits are bytes, too");
        let trailers = |length: usize| [b"0\r\nA:".as_slice(), &b"b".repeat(length - 4), b"\r\n"].concat();
        assert!(body(&trailers(60)).is_ok());
        assert_eq!(body(&trailers(61)), Err(ChunkedError::TrailersTooLarge));
        let dropped = [b"0\r\n".as_slice(), &b"Host: a\r\n".repeat(7)].concat();
        assert_eq!(body(&dropped), Err(ChunkedError::TrailersTooLarge), "dropped ones count");
    }

    #[test]
    fn extensions_may_not_outgrow_the_data_for_long() {
        let limits = ChunkedLimits::default();
        let chunk = |data: usize| format!("{data:x};signature={}\r\n{}\r\n", "a".repeat(80), "b".repeat(data));
        let fair = chunk(100).repeat(1000);
        assert!(decode(limits, fair.as_bytes(), &[]).is_ok());
        let unfair = chunk(1).repeat(1000);
        assert_eq!(decode(limits, unfair.as_bytes(), &[]), Err(ChunkedError::LineTooLong));
        let small = "1\r\na\r\n".repeat(100_000);
        assert!(decode(limits, small.as_bytes(), &[]).is_ok(), "small chunks alone are no offence");
    }

    #[test]
    fn trailers_that_would_be_harmful_in_a_head_are_dropped() {
        let harmful = [
            "Content-Length: 5",
            "transfer-encoding: chunked",
            "Trailer: x",
            "HOST: evil",
            "Authorization: x",
            "Proxy-Authorization: x",
            "Cookie: a",
            "Set-Cookie: a",
            "Connection: close",
            "Keep-Alive: 1",
            "TE: trailers",
            "Upgrade: h2c",
            "Expect: 100-continue",
            "Range: bytes=0-1",
            "If-Match: *",
            "Cache-Control: no-store",
            "Content-Type: a/b",
            "Content-Encoding: gzip",
            "X-Forwarded-For: 1.2.3.4",
            "Forwarded: for=x",
            "X-Request-Id: 1",
            "Via: 1.1 x",
            "Location: /",
            "Max-Forwards: 1",
            "Content_Length: 5",
            "X_Forwarded_For: 1.2.3.4",
        ];
        for line in harmful {
            let bytes = format!("0\r\nA: b\r\n{line}\r\nC: d\r\n\r\n");
            let body = decode(ChunkedLimits::default(), bytes.as_bytes(), &[]).map(|body| body.trailers);
            assert_eq!(body, Ok(b"A: b\r\nC: d\r\n".to_vec()), "{line}");
        }
        for line in ["ETag: \"x\"", "Server-Timing: a", "grpc-message: x", "Digest: x", "Content-Length2: 5"] {
            let bytes = format!("0\r\n{line}\r\n\r\n");
            let body = decode(ChunkedLimits::default(), bytes.as_bytes(), &[]).map(|body| body.trailers);
            assert_eq!(body, Ok(format!("{line}\r\n").into_bytes()), "{line}");
        }
    }

    fn nearly_a_body() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            6 => prop::collection::vec(any::<u8>(), 1..40).prop_map(|data| [&chunk_head(data.len()), &*data, CRLF].concat()),
            3 => Just(b"3;a=\"b\"\r\nabc\r\n".to_vec()),
            2 => Just(b"0\r\n".to_vec()),
            2 => Just(b"A: b\r\n".to_vec()),
            2 => Just(CRLF.to_vec()),
            1 => prop::sample::select(b"\r\n\0 \t;=\"\\0a:".to_vec()).prop_map(|byte| vec![byte]),
        ];
        prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_cut_into_reads_gives_the_same_body_or_the_same_error(
            bytes in nearly_a_body(),
            mut cuts in prop::collection::vec(0_usize..300, 0..6),
        ) {
            cuts.sort_unstable();
            let limits = ChunkedLimits { line_bytes_max: 40, trailer_bytes_max: 60 };
            let cut = decode(limits, &bytes, &cuts);
            prop_assert_eq!(cut, body(&bytes));
        }

        #[test]
        fn what_is_written_is_read_back(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
            trailers in prop::collection::vec("x-[a-z]{1,9}: [!-~]{0,9}\r\n", 0..4),
            mut cuts in prop::collection::vec(0_usize..2000, 0..8),
        ) {
            cuts.sort_unstable();
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend_from_slice(&chunk_head(chunk.len()));
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(CRLF);
            }
            last_chunk(&mut bytes, trailers.concat().as_bytes());
            let read = decode(ChunkedLimits::default(), &bytes, &cuts);
            let expected = Body { data: chunks.concat(), trailers: trailers.concat().into_bytes(), rest: Some(Vec::new()) };
            prop_assert_eq!(read, Ok(expected));
        }
    }
}
