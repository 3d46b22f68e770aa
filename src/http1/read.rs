//! Reads a head from bytes that come in pieces, without looking at them again and again however they drip in.
//!
//! A head that is there with the first read, as nearly all are, is parsed at once. But httparse starts anew on each call;
//! a client that sends one byte at a time would make it work quadratically. So for heads in pieces a scanner remembers
//! where it stood, and the head is parsed once more, when it is whole. On its way it refuses what no head may hold (bare
//! LF, bare CR, NUL, folded lines) and what is over a limit as soon as the byte that makes it so is there: nobody waits
//! for the end of a head that cannot be accepted. The outcome does not depend on how the bytes are cut into reads.

use std::ops::Range;

use super::head::{Head, HeadError, HeadStorage, Kind};

/// Reads one head, from bytes that come in pieces.
#[derive(Debug)]
pub struct HeadReader {
    scanner: HeadScanner,
    /// What the first look has left.
    storage: Option<HeadStorage>,
}

impl HeadReader {
    /// For a request head.
    #[must_use]
    pub fn request() -> Self {
        Self { scanner: HeadScanner::of(Kind::Request), storage: None }
    }

    /// For a response head.
    #[must_use]
    pub fn response() -> Self {
        Self { scanner: HeadScanner::of(Kind::Response), storage: None }
    }

    /// Takes the head out of `bytes`, with what follows it, if it is whole: everything that came so far, beginning with the
    /// same byte each time. `None`: more must come. `storage` gets what another head gave back.
    ///
    /// # Errors
    /// There is no head that can be accepted, whatever may follow.
    pub fn read(
        &mut self,
        bytes: &mut Vec<u8>,
        limits: &HeadLimits,
        storage: impl FnOnce() -> HeadStorage,
    ) -> Result<Option<Head>, HeadError> {
        let kind = self.scanner.kind;
        // Nearly all heads come whole with the first read, so the first look is to parse, which tells the end by the way: a
        // search for it alone costs 250 instructions, a walk through the lines 1,100. What it does not take is looked at
        // properly below, so that the outcome does not depend on how the bytes came.
        if self.scanner.at == 0 && !matches!(bytes.first(), None | Some(b'\r' | b'\n')) {
            match Head::parse_at_once(storage(), kind, std::mem::take(bytes), limits) {
                Ok(head) => return Ok(Some(head)),
                Err((storage, back)) => (self.storage, *bytes) = (Some(storage), back),
            }
        }
        let Some(Range { start, end }) = self.scanner.scan(bytes, limits)? else { return Ok(None) };
        let storage = self.storage.take().unwrap_or_default();
        let head = Head::parse(storage, kind, std::mem::take(bytes), start, end, limits.fields_max);
        head.map(Some).map_err(|(error, _bytes)| error)
    }

    /// Whether a first byte of the head is there: empty lines before a request (RFC 9112 §2.2) do not count.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.scanner.begun
    }
}

/// How large a head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Start line and fields together, in bytes.
    pub bytes_max: usize,
    /// The request target, in bytes. Not looked at in responses.
    pub target_bytes_max: usize,
    /// Field lines.
    pub fields_max: usize,
}

/// Where a scan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct HeadScanner {
    kind: Kind,
    begun: bool,
    /// The first byte of the start line, once begun.
    start: usize,
    /// The first byte of the line that is being scanned.
    line: usize,
    /// Everything before this has been looked at.
    at: usize,
    /// Where the request target begins; 0 until the space before it is there.
    target: usize,
    /// Lines that are whole.
    lines: usize,
    #[cfg(test)]
    looked_at: usize,
}

/// Bytes of empty lines before a request that are skipped: RFC 9112 §2.2 asks for at least one line, for the sake of
/// clients that send one after a body.
const EMPTY_LINES_BYTES_MAX: usize = 8;

/// What stands between a request target and the end of its line: ` HTTP/1.1`.
const AFTER_TARGET_BYTES: usize = b" HTTP/1.1".len();

impl HeadScanner {
    /// Before a response there are no empty lines, and its first bytes are those of a status line.
    pub(super) fn of(kind: Kind) -> Self {
        Self { kind, ..Self::default() }
    }

    /// Goes on in `bytes` from line end to line end: everything buffered so far, beginning with the same byte each time.
    /// Where the head begins (after empty lines before a request, RFC 9112 §2.2) and ends, if it is whole.
    ///
    /// # Errors
    /// The head cannot be accepted, whatever may follow.
    fn scan(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<Range<usize>>, HeadError> {
        #[cfg(test)]
        {
            self.looked_at += bytes.len() - self.at;
        }
        if !self.begun && !self.begin(bytes)? {
            return Ok(None);
        }
        if self.lines == 0 {
            self.look_at_first_line(bytes)?;
        }
        loop {
            if self.lines > 0 && self.at == self.line && matches!(bytes.get(self.line), Some(b' ' | b'\t')) {
                return Err(HeadError::ObsFold);
            }
            let found = memchr::memchr3(b'\r', b'\n', 0, &bytes[self.at..]);
            self.at = found.map_or(bytes.len(), |index| self.at + index);
            self.check_limits(limits)?;
            if found.is_none() {
                return Ok(None);
            }
            match (bytes[self.at], bytes.get(self.at + 1)) {
                (b'\r', Some(b'\n')) => {}
                (b'\r', None) => return Ok(None),
                (b'\r', Some(_)) => return Err(HeadError::BareCarriageReturn),
                (b'\n', _) => return Err(HeadError::BareLineFeed),
                _ => return Err(HeadError::Nul),
            }
            if let Some(end) = self.end_line(bytes, limits)? {
                return Ok(Some(self.start..end));
            }
        }
    }

    /// What a scan of a head refuses first: the error that counts, however the bytes came.
    pub(super) fn first_error(
        mut self,
        bytes: &[u8],
        start: usize,
        end: usize,
        fields_max: usize,
    ) -> Option<HeadError> {
        let limits = HeadLimits { bytes_max: usize::MAX, target_bytes_max: usize::MAX, fields_max };
        self.scan(bytes.get(start..end)?, &limits).err()
    }

    /// Skips empty lines before a request. Whether a first byte of the head is there.
    fn begin(&mut self, bytes: &[u8]) -> Result<bool, HeadError> {
        while self.kind == Kind::Request {
            match (bytes.get(self.at), bytes.get(self.at + 1)) {
                (None, _) | (Some(b'\r'), None) => return Ok(false),
                (Some(b'\r'), Some(b'\n')) if self.at < EMPTY_LINES_BYTES_MAX => self.at += 2,
                (Some(b'\r'), Some(b'\n')) => return Err(HeadError::BadStartLine),
                (Some(b'\r'), Some(_)) => return Err(HeadError::BareCarriageReturn),
                (Some(_), _) => break,
            }
        }
        self.begun = bytes.len() > self.at;
        self.start = self.at;
        self.line = self.at;
        Ok(self.begun)
    }

    /// What can be told from a start line before it ends: that this is not HTTP at all, and where the target begins.
    fn look_at_first_line(&mut self, bytes: &[u8]) -> Result<(), HeadError> {
        let line = &bytes[self.start..];
        match self.kind {
            Kind::Response => {
                let prefix = b"HTTP/";
                let length = line.len().min(prefix.len());
                if line[..length] != prefix[..length] {
                    return Err(HeadError::BadStartLine);
                }
            }
            Kind::Request if self.target == 0 => {
                let space = memchr::memchr(b' ', &bytes[self.at..]);
                self.target = space.map_or(0, |index| self.at + index + 1);
            }
            Kind::Request => {}
        }
        Ok(())
    }

    /// Refuses when the bytes before `self.at`, of which none is a line end of the current line, are over a limit.
    /// Of two limits the one that is passed first counts, as it would if the bytes came one by one.
    #[inline]
    fn check_limits(&self, limits: &HeadLimits) -> Result<(), HeadError> {
        let head_end = self.start.saturating_add(limits.bytes_max);
        if self.lines == 0 && self.target != 0 {
            let target_end = self.target.saturating_add(limits.target_bytes_max).saturating_add(AFTER_TARGET_BYTES);
            if self.at > target_end && target_end <= head_end {
                return Err(HeadError::TargetTooLong);
            }
        }
        if self.at > head_end { Err(HeadError::TooLarge) } else { Ok(()) }
    }

    /// Notes that the line ends with the CRLF at `self.at`. Where the head ends, if it does.
    #[inline]
    fn end_line(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
        let line_end = self.at;
        self.at += 2;
        if self.at > self.start.saturating_add(limits.bytes_max) {
            return Err(HeadError::TooLarge);
        }
        if line_end == self.line {
            return if self.lines == 0 { Err(HeadError::BadStartLine) } else { Ok(Some(self.at)) };
        }
        if self.lines == 0 && self.kind == Kind::Request {
            // A request of HTTP/0.9 has no version and no end that could be waited for.
            let line = &bytes[self.line..line_end];
            let version = line.len().checked_sub(AFTER_TARGET_BYTES).map(|index| &line[index..]);
            if !version.is_some_and(|version| version.starts_with(b" HTTP/")) {
                return Err(HeadError::BadStartLine);
            }
        } else if self.lines > limits.fields_max {
            return Err(HeadError::TooManyFields);
        }
        self.lines += 1;
        self.line = self.at;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes_max: 120, target_bytes_max: 40, fields_max: 4 };

    /// Bytes, the head in them, and why.
    type Found = (&'static [u8], Option<(usize, usize)>, &'static str);

    /// What became of bytes that came in these pieces: the head's end, an error, or nothing yet.
    fn read(
        scanner: HeadScanner,
        bytes: &[u8],
        cuts: impl IntoIterator<Item = usize>,
    ) -> Result<Option<(usize, usize)>, HeadError> {
        let mut reader = HeadReader { scanner, storage: None };
        let ends = cuts.into_iter().filter(|cut| *cut < bytes.len()).chain([bytes.len()]);
        for end in ends {
            let mut read = bytes[..end].to_vec();
            if let Some(head) = reader.read(&mut read, &LIMITS, HeadStorage::default)? {
                let start = bytes.len() - bytes.trim_ascii_start().len();
                assert_eq!((read.as_slice(), head.target().is_empty()), (&b""[..], scanner.kind == Kind::Response));
                return Ok(Some((start, head.into_parts().1)));
            }
            assert_eq!(read, bytes[..end]);
        }
        Ok(None)
    }

    /// The outcome, the same for the whole at once and byte by byte.
    fn outcome(scanner: HeadScanner, bytes: &[u8]) -> Result<Option<(usize, usize)>, HeadError> {
        let whole = read(scanner, bytes, []);
        assert_eq!(read(scanner, bytes, 1..bytes.len()), whole, "{}", bytes.escape_ascii());
        whole
    }

    #[test]
    fn the_end_of_a_request_head_is_found() {
        let cases: &[Found] = &[
            (b"GET / HTTP/1.1\r\n\r\n", Some((0, 18)), "no fields"),
            (b"GET / HTTP/1.1\r\nA: b\r\n\r\nbody\r\n\r\n", Some((0, 24)), "the first end counts"),
            (b"\r\nGET / HTTP/1.1\r\n\r\n", Some((2, 20)), "RFC 9112 2.2: an empty line before"),
            (b"\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", Some((8, 26)), "RFC 9112 2.2: several"),
            (b"", None, "nothing"),
            (b"\r\n", None, "an empty line alone"),
            (b"GET / HTTP/1.1\r\n", None, "not whole"),
            (b"GET / HTTP/1.1\r\nA: b\r\n\r", None, "not whole"),
        ];
        for (bytes, expected, why) in cases {
            assert_eq!(outcome(HeadScanner::of(Kind::Request), bytes), Ok(*expected), "{why}");
        }
    }

    #[test]
    fn what_no_head_may_hold_is_refused_as_soon_as_it_is_there() {
        let request = HeadScanner::of(Kind::Request);
        let response = HeadScanner::of(Kind::Response);
        let cases: &[(HeadScanner, &[u8], HeadError, &str)] = &[
            (request, b"\n", HeadError::BareLineFeed, "RFC 9112 2.2"),
            (request, b"GET / HTTP/1.1\n", HeadError::BareLineFeed, "RFC 9112 2.2"),
            (request, b"GET / HTTP/1.1\r\nA: b\n", HeadError::BareLineFeed, "RFC 9112 2.2"),
            (request, b"GET / HTTP/1.1\r\n\n", HeadError::BareLineFeed, "RFC 9112 2.2"),
            (request, b"\rG", HeadError::BareCarriageReturn, "RFC 9112 2.2"),
            (request, b"GET /\r ", HeadError::BareCarriageReturn, "RFC 9112 2.2"),
            (request, b"GET / HTTP/1.1\r\nA: b\r\r", HeadError::BareCarriageReturn, "RFC 9112 2.2"),
            (request, b"GET / HTTP/1.1\r\n\r\r", HeadError::BareCarriageReturn, "RFC 9112 2.2"),
            (request, b"\0", HeadError::Nul, "RFC 9110 5.5"),
            (request, b"\x16\x03\x01\0", HeadError::Nul, "a TLS handshake on a plain port"),
            (request, b"GET / HTTP/1.1\r\nA: \0", HeadError::Nul, "RFC 9110 5.5"),
            (request, b"GET / HTTP/1.1\r\n ", HeadError::ObsFold, "RFC 9112 2.2"),
            (request, b"GET / HTTP/1.1\r\nA: b\r\n\t", HeadError::ObsFold, "RFC 9112 5.2"),
            (request, b"GET /\r\n", HeadError::BadStartLine, "RFC 9112 appendix C.1: HTTP/0.9"),
            (request, b"\r\n\r\n\r\n\r\n\r\n", HeadError::BadStartLine, "empty lines without end"),
            (response, b"\r", HeadError::BadStartLine, "RFC 9112 2.2: only before requests"),
            (response, b"SSH", HeadError::BadStartLine, "RFC 9112 4"),
            (response, b"HTTq", HeadError::BadStartLine, "RFC 9112 4"),
            (response, b"HTTP/1.1 200 OK\r\nA: b\n", HeadError::BareLineFeed, "RFC 9112 2.2"),
            (response, b"HTTP/1.1 200 OK\r\nA: b\r\n ", HeadError::ObsFold, "RFC 9112 5.2"),
        ];
        for (scanner, bytes, expected, why) in cases {
            assert_eq!(outcome(*scanner, bytes), Err(*expected), "{why}: {}", bytes.escape_ascii());
            let without_last = &bytes[..bytes.len() - 1];
            if !without_last.starts_with(b"S") {
                assert_eq!(outcome(*scanner, without_last), Ok(None), "too early: {}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn limits_hold_to_the_byte_and_are_told_as_soon_as_they_are_passed() {
        let request = |target: usize, fields: &str| format!("GET /{} HTTP/1.1\r\n{fields}\r\n", "a".repeat(target - 1));
        let field = |bytes: usize| format!("A: {}\r\n", "b".repeat(bytes - 5));
        let scan = |bytes: &str| outcome(HeadScanner::of(Kind::Request), bytes.as_bytes());

        let fits = request(40, "");
        assert_eq!(scan(&fits), Ok(Some((0, fits.len()))));
        assert_eq!(scan(&request(41, "")), Err(HeadError::TargetTooLong));
        assert_eq!(scan(&"GET /".repeat(20)), Err(HeadError::TargetTooLong), "before its line has ended");

        let fits = request(1, &field(120 - 18));
        assert_eq!((fits.len(), scan(&fits)), (120, Ok(Some((0, 120)))));
        assert_eq!(scan(&request(1, &field(121 - 18))), Err(HeadError::TooLarge));
        assert_eq!(scan(&format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(120))), Err(HeadError::TooLarge));
        assert_eq!(scan(&"A".repeat(121)), Err(HeadError::TooLarge), "a method without end");

        let response = |bytes: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", field(bytes - 19));
        let scan_response = |bytes: usize| outcome(HeadScanner::of(Kind::Response), response(bytes).as_bytes());
        assert_eq!(scan_response(120), Ok(Some((0, 120))), "a response has no target");
        assert_eq!(scan_response(121), Err(HeadError::TooLarge));

        assert!(scan(&request(1, &"A:\r\n".repeat(4))).is_ok());
        assert_eq!(scan(&request(1, &"A:\r\n".repeat(5))), Err(HeadError::TooManyFields));
        assert_eq!(scan(&format!("GET / HTTP/1.1\r\n{}", "A:\r\n".repeat(5))), Err(HeadError::TooManyFields));
    }

    #[test]
    fn a_head_that_drips_in_costs_no_more_than_one_that_comes_at_once() {
        let limits = HeadLimits { bytes_max: usize::MAX, target_bytes_max: usize::MAX, fields_max: usize::MAX };
        let bytes = [b"GET / HTTP/1.1\r\n".as_slice(), &b"Name: value\r\n".repeat(2000), b"\r\n"].concat();
        for piece in [1, 2, 3, 1000] {
            let mut scanner = HeadScanner::of(Kind::Request);
            let complete = (piece..).step_by(piece).find_map(|end| {
                let bytes = &bytes[..end.min(bytes.len())];
                matches!(scanner.scan(bytes, &limits), Ok(Some(_))).then_some(bytes.len())
            });
            assert_eq!(complete, Some(bytes.len()));
            // A CR at the end of a read is looked at again with the LF that follows it.
            assert!(scanner.looked_at <= bytes.len() + 2 * 2001 + 2, "{piece}: {}", scanner.looked_at);
        }
    }

    /// Bytes that look like heads, with faults in all the places where faults can be.
    fn nearly_a_head() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            8 => Just(b"\r\n".to_vec()),
            4 => Just(b"GET / HTTP/1.1\r\n".to_vec()),
            2 => Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
            8 => Just(b"Name: value\r\n".to_vec()),
            1 => prop::sample::select(b"\r\n\0 \t:aG/".to_vec()).prop_map(|byte| vec![byte]),
            1 => "[a-z]{1,60}".prop_map(String::into_bytes),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_cut_into_reads_gives_the_same_head_or_the_same_error(
            bytes in nearly_a_head(),
            mut cuts in prop::collection::vec(0_usize..300, 0..6),
        ) {
            cuts.sort_unstable();
            for scanner in [HeadScanner::of(Kind::Request), HeadScanner::of(Kind::Response)] {
                prop_assert_eq!(read(scanner, &bytes, cuts.iter().copied()), outcome(scanner, &bytes));
            }
        }
    }
}
