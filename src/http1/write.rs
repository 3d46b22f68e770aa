//! Writes heads and chunked bodies.
//!
//! A head is written by copying: its own start line, the kept field lines in contiguous ranges of the bytes they were
//! read in, what was added, what the caller gives. The version is always HTTP/1.1, since that is what Plimsoll speaks,
//! whatever the other side does (RFC 9110 §6.2).

use super::head::Head;

impl Head {
    /// Appends this request with `target` in place of its own, and `extra`: whole field lines, each with its CRLF.
    pub fn write_request(&self, out: &mut Vec<u8>, target: &[u8], extra: &[u8]) {
        self.reserve(out, self.method_text().len() + target.len() + extra.len());
        out.extend_from_slice(self.method_text());
        out.push(b' ');
        out.extend_from_slice(target);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        self.write_fields(out, extra);
    }

    /// Appends this response, and `extra`: whole field lines, each with its CRLF.
    pub fn write_response(&self, out: &mut Vec<u8>, extra: &[u8]) {
        self.reserve(out, self.reason().len() + extra.len());
        let status = self.status();
        let digit = |number: u16| b'0' + (number % 10) as u8;
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(&[digit(status / 100), digit(status / 10), digit(status), b' ']);
        out.extend_from_slice(self.reason());
        out.extend_from_slice(CRLF);
        self.write_fields(out, extra);
    }

    #[inline]
    fn write_fields(&self, out: &mut Vec<u8>, extra: &[u8]) {
        self.kept(|lines| out.extend_from_slice(lines));
        out.extend_from_slice(self.added());
        out.extend_from_slice(extra);
        out.extend_from_slice(CRLF);
    }

    /// Grows `out` at most once.
    #[inline]
    fn reserve(&self, out: &mut Vec<u8>, further: usize) {
        const FIXED: usize = b"HTTP/1.1 200 \r\n\r\n".len();
        out.reserve(self.fields_bytes() + self.added().len() + further + FIXED);
    }
}

/// What ends a chunk's data, and every line.
pub const CRLF: &[u8] = b"\r\n";

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The line before a chunk's data: see [`chunk_head`].
#[derive(Debug, Clone, Copy)]
pub struct ChunkHead {
    bytes: [u8; Self::BYTES_MAX],
    start: u8,
}

impl ChunkHead {
    const BYTES_MAX: usize = 2 * size_of::<usize>() + CRLF.len();
}

impl std::ops::Deref for ChunkHead {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }
}

/// The line before a chunk of `length` bytes, which must not be zero: that would end the body. The data and [`CRLF`]
/// follow it.
#[inline]
#[must_use]
pub fn chunk_head(length: usize) -> ChunkHead {
    debug_assert!(length > 0, "a chunk of no bytes ends the body");
    let mut bytes = [0; ChunkHead::BYTES_MAX];
    let mut start = ChunkHead::BYTES_MAX - CRLF.len();
    bytes[start..].copy_from_slice(CRLF);
    let mut left = length;
    while left > 0 {
        start -= 1;
        bytes[start] = b"0123456789abcdef"[left % 16];
        left /= 16;
    }
    ChunkHead { bytes, start: start as u8 }
}

/// Appends the end of a chunked body with these trailers: whole lines as [`super::ChunkedDecoder::trailers`] has them.
pub fn last_chunk(out: &mut Vec<u8>, trailers: &[u8]) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(CRLF);
}
