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
use super::name::{Name, NameSet};

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
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    let name: Vec<u8> = name.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
    TRAILERS_DROPPED.contains(Name::recognise(&name))
}
