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

    /// Appends the field lines alone, each with its CRLF.
    pub fn write_lines(&self, out: &mut Vec<u8>) {
        out.reserve(self.fields_bytes() + self.added().len());
        self.kept(|lines| out.extend_from_slice(lines));
        out.extend_from_slice(self.added());
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http1::{HeadLimits, HeadReader, HeadStorage, Name};

    #[test]
    fn chunk_heads_are_hexadecimal() {
        for length in [1, 9, 10, 15, 16, 255, 256, 0x00ab_cdef, usize::MAX] {
            assert_eq!(&*chunk_head(length), format!("{length:x}\r\n").as_bytes());
        }
    }

    #[test]
    fn the_last_chunk_holds_the_trailers() {
        let mut out = Vec::new();
        last_chunk(&mut out, b"");
        assert_eq!(out, LAST_CHUNK);
        out.clear();
        last_chunk(&mut out, b"A: b\r\n");
        assert_eq!(out, b"0\r\nA: b\r\n\r\n");
    }

    #[test]
    fn heads_are_written_as_http_1_1_with_extra_lines_last() {
        let bytes = b"\r\nPUT http://h/x HTTP/1.0\r\nHost: h\r\nVia:  a \r\n\r\n".to_vec();
        let end = bytes.len();
        let Ok(mut head) = Head::request(bytes, 2, end, 9) else { panic!("a sound head") };
        head.add("A", &[b"b"]);
        let mut out = b"before".to_vec();
        head.write_request(&mut out, b"/x", b"E: f\r\n");
        assert_eq!(out, b"beforePUT /x HTTP/1.1\r\nHost: h\r\nVia:  a \r\nA: b\r\nE: f\r\n\r\n");

        let bytes = b"HTTP/1.0 404\r\nServer: s\r\nDate: d\r\n\r\nrest".to_vec();
        let end = bytes.len() - 4;
        let Ok(mut head) = Head::response(bytes, 0, end, 9) else { panic!("a sound head") };
        head.remove(Name::Server);
        let mut out = Vec::new();
        head.write_response(&mut out, b"E: f\r\n");
        assert_eq!(out, b"HTTP/1.1 404 \r\nDate: d\r\nE: f\r\n\r\n");
    }

    type Lines = Vec<(String, String)>;

    fn lines() -> impl Strategy<Value = Lines> {
        let name = prop_oneof!["[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}", Just("Via".to_owned()), Just("cookie".to_owned())];
        prop::collection::vec((name, "([!-~]([ -~\t]{0,20}[!-~])?)?"), 0..40)
    }

    fn read(bytes: &[u8]) -> Head {
        let limits = HeadLimits { bytes_max: 1 << 20, target_bytes_max: 1 << 20, fields_max: 100 };
        let mut reader = match bytes {
            [b'H', ..] => HeadReader::response(),
            _ => HeadReader::request(),
        };
        match reader.read(&mut bytes.to_vec(), &limits, HeadStorage::default) {
            Ok(Some(head)) => head,
            other => panic!("{other:?}: {}", bytes.escape_ascii()),
        }
    }

    fn fields(head: &Head) -> Vec<(Vec<u8>, Vec<u8>)> {
        head.fields().map(|field| (field.text.to_vec(), field.value.to_vec())).collect()
    }

    fn text(lines: &Lines) -> String {
        lines.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_parses_back_to_what_was_meant(
            (target, reason) in ("/[!-~]{0,20}", "[!-~]{0,9}"),
            status in 100_u16..600,
            sent in lines(),
            added in lines(),
            removed in prop::collection::vec(0_usize..40, 0..20),
        ) {
            for start_line in [format!("XY {target} HTTP/1.0"), format!("HTTP/1.1 {status} {reason}")] {
                let mut head = read(format!("{start_line}\r\n{}\r\nrest", text(&sent)).as_bytes());
                let mut meant = fields(&head);
                prop_assert_eq!(meant.len(), sent.len());
                for index in removed.iter().filter(|index| **index < sent.len()) {
                    head.remove_at(*index);
                }
                let mut index = 0;
                meant.retain(|_| {
                    index += 1;
                    !removed.contains(&(index - 1))
                });
                prop_assert_eq!(&fields(&head), &meant);
                for (name, value) in &added {
                    head.add(name, &[value.as_bytes()]);
                    meant.push((name.clone().into_bytes(), value.clone().into_bytes()));
                }
                let mut out = Vec::new();
                if start_line.starts_with("HTTP") {
                    head.write_response(&mut out, b"");
                } else {
                    head.write_request(&mut out, target.as_bytes(), b"");
                }
                let back = read(&out);
                prop_assert_eq!(fields(&back), meant);
                prop_assert_eq!((back.method_text(), back.target()), (head.method_text(), head.target()));
                prop_assert_eq!((back.status(), back.reason()), (head.status(), head.reason()));
            }
        }
    }
}
