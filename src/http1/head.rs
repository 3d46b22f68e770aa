//! A message head that stays in the buffer it was read into, with offsets to its parts.
//!
//! Nothing is copied while a head is parsed: a [`Head`] is the bytes that the socket gave, the place of each field in
//! them, and a bit per known name. Removing a field marks its line, adding one appends to a side buffer, and `write`
//! copies what is kept by contiguous ranges.
//!
//! Always true: every [`Span`] lies in the head, names are tokens, values have no white space around them and hold no
//! control byte but tabs.

pub use super::field::{ConnectionOptions, FieldRef, list};
use super::field::{Field, close_up_names, parse_fields};
use super::name::Names;
pub use super::name::{Name, NameSet};
use super::read::{HeadLimits, HeadScanner};
pub use super::start_line::{Method, Version};
use super::start_line::{StartLine, request_line, status_line};

/// A part of a head: offsets into its bytes. Ask [`Head::text`] for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// How many bytes.
    #[must_use]
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// Why bytes are not a head that we accept. What a client or an operator is told about it is not decided here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HeadError {
    /// The request line or status line is not what RFC 9112 §3 or §4 says.
    #[error("malformed start line")]
    BadStartLine,
    /// A major version other than 1: 505 for a request.
    #[error("unsupported HTTP version")]
    UnsupportedVersion,
    /// A field line without colon, with an empty name, with white space in or after its name, or with control bytes.
    #[error("malformed field line")]
    BadField,
    /// LF without CR before it.
    #[error("line feed without carriage return")]
    BareLineFeed,
    /// CR without LF after it.
    #[error("carriage return without line feed")]
    BareCarriageReturn,
    /// A zero byte.
    #[error("zero byte in head")]
    Nul,
    /// A line that begins with white space: obsolete folding (RFC 9112 §5.2), or one before the first field (§2.2).
    #[error("folded field line")]
    ObsFold,
    /// More field lines than allowed: 431 for a request.
    #[error("too many fields")]
    TooManyFields,
    /// More bytes than allowed: 431 for a request.
    #[error("head too large")]
    TooLarge,
    /// A request target of more bytes than allowed: 414.
    #[error("request target too long")]
    TargetTooLong,
}

/// The head of a request or of a response, and what was read after it. As small as a pointer: it is handed on from step to
/// step, and every step that waits would keep a copy of what it was given.
#[derive(Debug)]
pub struct Head {
    parts: Box<Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    bytes: Vec<u8>,
    end: u32,
    line: StartLine,
    version: Version,
    fields_start: u32,
    /// Names of fields that are there; of those that are removed, not in `seen` any more.
    names: Names,
    connection: ConnectionOptions,
    any_removed: bool,
    fields: Vec<Field>,
    /// Whole lines, each with its CRLF.
    added: Vec<u8>,
}

/// What a [`Head`] needs on the heap besides its bytes. Worth recycling: three allocations per message.
#[derive(Debug, Default)]
pub struct HeadStorage(Box<Parts>);

impl HeadStorage {
    /// For how many fields there is room: what is out of the ordinary need not be kept.
    #[must_use]
    pub fn fields_capacity(&self) -> usize {
        self.0.fields.capacity()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn push(&mut self, field: Field) {
        self.0.fields.push(field);
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Field> {
        self.0.fields.last_mut()
    }

    pub(super) fn fields(&self) -> &[Field] {
        &self.0.fields
    }
}

/// Of which kind a head is: how its first line reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    #[default]
    Request,
    Response,
}

impl Kind {
    #[inline]
    fn start_line(self, line: &[u8], start: usize) -> Result<(StartLine, Version), HeadError> {
        match self {
            Self::Request => request_line(line, start),
            Self::Response => status_line(line, start),
        }
    }
}

// Making and taking apart.

impl Head {
    /// Parses the request head in `bytes[start..end]`, where [`super::HeadReader`] would find it. What follows it in `bytes`
    /// is kept: see [`Head::rest`].
    ///
    /// # Errors
    /// The start line or a field is malformed, or there are more than `fields_max`. The bytes come back.
    #[inline]
    pub fn request(bytes: Vec<u8>, start: usize, end: usize, fields_max: usize) -> Result<Self, (HeadError, Vec<u8>)> {
        Self::parse(HeadStorage::default(), Kind::Request, bytes, start, end, fields_max)
    }

    /// Parses a response head: as [`Head::request`]. Nothing may stand before it, so `start` other than 0 is an error.
    ///
    /// # Errors
    /// As for [`Head::request`].
    #[inline]
    pub fn response(bytes: Vec<u8>, start: usize, end: usize, fields_max: usize) -> Result<Self, (HeadError, Vec<u8>)> {
        Self::parse(HeadStorage::default(), Kind::Response, bytes, start, end, fields_max)
    }

    /// [`Head::request`] and [`Head::response`] in storage that another head gave back.
    pub(super) fn parse(
        HeadStorage(mut parts): HeadStorage,
        kind: Kind,
        bytes: Vec<u8>,
        start: usize,
        end: usize,
        fields_max: usize,
    ) -> Result<Self, (HeadError, Vec<u8>)> {
        if start != 0 && kind == Kind::Response {
            return Err((HeadError::BadStartLine, bytes));
        }
        let parsed = whole_head(&bytes, start, end)
            .and_then(|line_end| parts.read(kind, &bytes[..end], start, line_end, fields_max))
            .and_then(|found| if found == end { Ok(()) } else { Err(HeadError::BadField) });
        match parsed {
            Ok(()) => {
                parts.bytes = bytes;
                Ok(Self { parts })
            }
            Err(error) => {
                let error = HeadScanner::of(kind).first_error(&bytes, start, end, fields_max).unwrap_or(error);
                if let (HeadError::BadField, Kind::Response, Some((bytes, end))) =
                    (error, kind, close_up_names(&bytes, end))
                {
                    return Self::parse(HeadStorage(parts), kind, bytes, start, end, fields_max);
                }
                Err((error, bytes))
            }
        }
    }

    /// Parses the head that begins with the first of `bytes` without having been told where it ends: parsing finds that
    /// out, too. If it is whole, sound and within the limits, that is: if not, everything comes back, and a scan tells why.
    #[inline]
    pub(super) fn parse_at_once(
        HeadStorage(mut parts): HeadStorage,
        kind: Kind,
        bytes: Vec<u8>,
        limits: &HeadLimits,
    ) -> Result<Self, (HeadStorage, Vec<u8>)> {
        let fits = |end: usize| {
            let target_fits = kind == Kind::Response || end <= limits.target_bytes_max;
            target_fits && end <= limits.bytes_max && u32::try_from(end).is_ok() && bytes[..end].ends_with(b"\r\n\r\n")
        };
        let line_end = memchr::memchr(b'\r', &bytes).filter(|at| bytes.get(at + 1) == Some(&b'\n'));
        match line_end.map(|line_end| parts.read(kind, &bytes, 0, line_end, limits.fields_max)) {
            Some(Ok(end)) if fits(end) => {
                parts.bytes = bytes;
                Ok(Self { parts })
            }
            _ => Err((HeadStorage(parts), bytes)),
        }
    }

    /// A head whose lines a [`super::HeadBuilder`] has written: they are all of `bytes`.
    pub(super) fn assemble(
        bytes: Vec<u8>,
        HeadStorage(mut parts): HeadStorage,
        line: StartLine,
        version: Version,
        fields_start: u32,
        names: Names,
        connection: ConnectionOptions,
    ) -> Self {
        parts.end = bytes.len() as u32;
        (parts.bytes, parts.line, parts.version) = (bytes, line, version);
        (parts.fields_start, parts.names, parts.connection) = (fields_start, names, connection);
        Self { parts }
    }

    /// Gives back the buffer and where the head ends in it.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, usize) {
        (self.parts.bytes, self.parts.end as usize)
    }

    /// [`Head::into_parts`] with the storage for the next head.
    #[must_use]
    pub fn recycle(mut self) -> (Vec<u8>, usize, HeadStorage) {
        (std::mem::take(&mut self.parts.bytes), self.parts.end as usize, HeadStorage(self.parts))
    }

    /// What was read after the head: the beginning of the body, or the next message.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.parts.bytes[self.parts.end as usize..]
    }
}

impl Parts {
    fn clear(&mut self) {
        self.fields.clear();
        self.added.clear();
        self.any_removed = false;
    }

    /// Reads what the head in `bytes` says, whose first line is `bytes[start..line_end]`. Returns where it ends.
    #[inline]
    fn read(
        &mut self,
        kind: Kind,
        bytes: &[u8],
        start: usize,
        line_end: usize,
        fields_max: usize,
    ) -> Result<usize, HeadError> {
        self.clear();
        (self.line, self.version) = kind.start_line(&bytes[..line_end], start)?;
        let fields_start = line_end + CRLF.len();
        let end;
        (end, self.names, self.connection) = parse_fields(bytes, fields_start, fields_max, &mut self.fields)?;
        (self.fields_start, self.end) = (fields_start as u32, end as u32);
        Ok(end)
    }
}

// The start line.

impl Head {
    /// The method of a request; [`Method::Other`] for a response.
    #[inline]
    #[must_use]
    pub fn method(&self) -> Method {
        match self.parts.line {
            StartLine::Request { method, .. } => method,
            StartLine::Response { .. } => Method::Other,
        }
    }

    /// The method as sent; empty for a response.
    #[must_use]
    pub fn method_text(&self) -> &[u8] {
        match self.parts.line {
            StartLine::Request { method_text, .. } => self.text(method_text),
            StartLine::Response { .. } => b"",
        }
    }

    /// The request target as sent; empty for a response.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        self.text(self.target_span())
    }

    /// Where the request target stands.
    #[inline]
    #[must_use]
    pub fn target_span(&self) -> Span {
        match self.parts.line {
            StartLine::Request { target, .. } => target,
            StartLine::Response { .. } => Span::default(),
        }
    }

    /// The version as sent.
    #[inline]
    #[must_use]
    pub fn version(&self) -> Version {
        self.parts.version
    }

    /// The status of a response, 100 to 599; 0 for a request.
    #[inline]
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.parts.line {
            StartLine::Response { status, .. } => status,
            StartLine::Request { .. } => 0,
        }
    }

    /// The reason phrase of a response, often empty.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        match self.parts.line {
            StartLine::Response { reason, .. } => self.text(reason),
            StartLine::Request { .. } => b"",
        }
    }

    /// The bytes of a part of this head.
    #[inline]
    #[must_use]
    pub fn text(&self, span: Span) -> &[u8] {
        &self.parts.bytes[span.start as usize..span.end as usize]
    }
}

// Fields. Removed ones are not seen by any of these, added lines neither.

impl Head {
    /// Whether a field of this name is there. Costs one bit test, so ask before looking.
    #[inline]
    #[must_use]
    pub fn has(&self, name: Name) -> bool {
        self.parts.names.seen.contains(name)
    }

    /// Whether a field of one of these names is there.
    #[inline]
    #[must_use]
    pub fn has_any(&self, names: NameSet) -> bool {
        self.parts.names.seen.intersects(names)
    }

    /// Whether just one field of this name came, and is still there.
    #[inline]
    #[must_use]
    pub fn has_once(&self, name: Name) -> bool {
        self.has(name) && !self.parts.names.repeated.contains(name)
    }

    /// The value of the first field of this name.
    #[inline]
    #[must_use]
    pub fn first(&self, name: Name) -> Option<&[u8]> {
        self.first_span(name).map(|span| self.text(span))
    }

    /// Where the value of the first field of this name stands.
    #[inline]
    #[must_use]
    pub fn first_span(&self, name: Name) -> Option<Span> {
        if !self.has(name) {
            return None;
        }
        self.parts.fields.iter().find(|field| field.name == name && !field.removed).map(|field| field.value)
    }

    /// The values of all fields of this name, in order.
    pub fn all(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        let fields: &[Field] = if self.has(name) { &self.parts.fields } else { &[] };
        fields.iter().filter(move |field| field.name == name && !field.removed).map(|field| self.text(field.value))
    }

    /// All fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = FieldRef<'_>> {
        self.parts.fields.iter().enumerate().filter(|(_, field)| !field.removed).map(|(index, field)| FieldRef {
            text: &self.parts.bytes[field.start as usize..field.name_end as usize],
            name: field.name,
            value: self.text(field.value),
            index,
        })
    }

    /// What the `Connection` fields said when the head was parsed.
    #[inline]
    #[must_use]
    pub fn connection(&self) -> ConnectionOptions {
        self.parts.connection
    }

    /// Removes all fields of this name. Nothing to do costs one bit test.
    #[inline]
    pub fn remove(&mut self, name: Name) {
        if self.has(name) {
            self.remove_all(NameSet::of(&[name]));
        }
    }

    /// Removes all fields of these names, in one pass.
    pub fn remove_all(&mut self, names: NameSet) {
        if !self.has_any(names) {
            return;
        }
        for field in self.parts.fields.iter_mut().filter(|field| names.contains(field.name)) {
            field.removed = true;
        }
        self.parts.names.seen.subtract(names);
        self.parts.any_removed = true;
    }

    /// Removes the field that [`FieldRef::index`] told.
    pub fn remove_at(&mut self, index: usize) {
        let Some(field) = self.parts.fields.get_mut(index) else { return };
        field.removed = true;
        let name = field.name;
        self.parts.any_removed = true;
        if !self.parts.fields.iter().any(|field| field.name == name && !field.removed) {
            self.parts.names.seen.remove(name);
        }
    }

    /// Removes all fields of this name, whatever its case, also ones that no [`Name`] stands for.
    pub fn remove_text(&mut self, name: &[u8]) {
        match Name::recognise(name) {
            Name::Other => {
                for index in 0..self.parts.fields.len() {
                    let Field { start, name_end, name: known, removed, .. } = self.parts.fields[index];
                    let text = &self.parts.bytes[start as usize..name_end as usize];
                    if known == Name::Other && !removed && text.eq_ignore_ascii_case(name) {
                        self.remove_at(index);
                    }
                }
            }
            known => self.remove(known),
        }
    }

    /// Appends a field line whose value is these parts one after another. Both must be ours or checked: they are
    /// written as they are.
    pub fn add(&mut self, name: &str, value: &[&[u8]]) {
        let added = &mut self.parts.added;
        added.extend_from_slice(name.as_bytes());
        added.extend_from_slice(b": ");
        for part in value {
            added.extend_from_slice(part);
        }
        added.extend_from_slice(b"\r\n");
        debug_assert!(!value.iter().any(|part| part.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))));
    }

    /// Appends whole field lines, each with its CRLF, that were made beforehand: one copy instead of four per field.
    #[inline]
    pub fn add_lines(&mut self, lines: &[u8]) {
        debug_assert!(lines.is_empty() || lines.ends_with(b"\r\n"));
        self.parts.added.extend_from_slice(lines);
    }

    /// The lines that were added, each with its CRLF.
    pub(super) fn added(&self) -> &[u8] {
        &self.parts.added
    }

    /// How many bytes all field lines have that were read.
    pub(super) fn fields_bytes(&self) -> usize {
        (self.parts.end - self.parts.fields_start) as usize
    }

    /// The field lines that are kept, as contiguous ranges, each line with its CRLF.
    #[inline]
    pub(super) fn kept(&self, mut copy: impl FnMut(&[u8])) {
        let mut from = self.parts.fields_start as usize;
        let end = self.parts.end as usize - CRLF.len();
        if self.parts.any_removed {
            let mut fields = self.parts.fields.iter().peekable();
            while let Some(field) = fields.next() {
                let next = fields.peek().map_or(end, |next| next.start as usize);
                if field.removed {
                    if from < field.start as usize {
                        copy(&self.parts.bytes[from..field.start as usize]);
                    }
                    from = next;
                }
            }
        }
        if from < end {
            copy(&self.parts.bytes[from..end]);
        }
    }
}

// Parsing.

const CRLF: &[u8] = b"\r\n";

/// Where the start line ends in what the scanner says is a whole head.
fn whole_head(bytes: &[u8], start: usize, end: usize) -> Result<usize, HeadError> {
    if u32::try_from(end).is_err() {
        return Err(HeadError::TooLarge);
    }
    let line = bytes.get(start..end).ok_or(HeadError::BadStartLine)?;
    if !line.ends_with(b"\r\n\r\n") {
        return Err(HeadError::BadStartLine);
    }
    let length = memchr::memchr(b'\r', line).ok_or(HeadError::BadStartLine)?;
    if line.get(length + 1) != Some(&b'\n') {
        return Err(HeadError::BareCarriageReturn);
    }
    Ok(start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] =
        b"GET /a HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nCookie: a\r\nx-one: 2\r\nCookie: b\r\nX-Last: l\r\n\r\nbody";

    fn head() -> Head {
        Head::request(REQUEST.to_vec(), 0, REQUEST.len() - 4, 100).map_err(|(error, _)| error).expect("a sound head")
    }

    fn written(head: &Head) -> String {
        let mut out = Vec::new();
        head.write_request(&mut out, head.target(), b"");
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn a_head_says_what_stands_in_it() {
        let head = head();
        assert!(head.has(Name::Cookie) && !head.has(Name::Via));
        assert_eq!(head.first(Name::Cookie), Some(b"a".as_slice()));
        assert_eq!(head.all(Name::Cookie).collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(head.first(Name::Via), None);
        assert_eq!(head.rest(), b"body");
        let names: Vec<&[u8]> = head.fields().map(|field| field.text).collect();
        assert_eq!(names, [b"Host".as_slice(), b"X-One", b"Cookie", b"x-one", b"Cookie", b"X-Last"]);
        let (bytes, end) = head.into_parts();
        assert_eq!(&bytes[end..], b"body");
    }

    #[test]
    fn removed_fields_are_not_seen_and_not_written() {
        let mut by_name = head();
        by_name.remove(Name::Cookie);
        assert!(!by_name.has(Name::Cookie) && by_name.first(Name::Cookie).is_none());
        assert_eq!(by_name.all(Name::Cookie).count(), 0);
        assert_eq!(written(&by_name), "GET /a HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nx-one: 2\r\nX-Last: l\r\n\r\n");

        let mut by_index = head();
        by_index.remove_at(2);
        assert_eq!(by_index.first(Name::Cookie), Some(b"b".as_slice()));
        by_index.remove_at(4);
        assert!(!by_index.has(Name::Cookie));
        by_index.remove_at(99);

        let mut by_text = head();
        by_text.remove_text(b"X-ONE");
        by_text.remove_text(b"cookie");
        by_text.remove_text(b"not-there");
        assert_eq!(written(&by_text), "GET /a HTTP/1.1\r\nHost: h\r\nX-Last: l\r\n\r\n");

        let mut all = head();
        for index in 0..6 {
            all.remove_at(index);
        }
        assert!(!all.has(Name::Host) && !all.has(Name::Other));
        assert_eq!(written(&all), "GET /a HTTP/1.1\r\n\r\n");
    }

    #[test]
    fn added_lines_follow_the_kept_ones_and_are_not_seen() {
        let mut head = head();
        head.remove_all(NameSet::of(&[Name::Cookie, Name::Host, Name::Other]));
        head.add("Via", &[b"1.1", b" plimsoll"]);
        assert!(!head.has(Name::Via));
        assert_eq!(written(&head), "GET /a HTTP/1.1\r\nVia: 1.1 plimsoll\r\n\r\n");
    }

    #[test]
    fn white_space_before_colons_goes_in_responses_alone() {
        let parse = |text: &[u8]| {
            let end = text.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(text.len(), |at| at + 4);
            Head::response(text.to_vec(), 0, end, 100).map_err(|(error, _)| error)
        };
        let head =
            parse(b"HTTP/1.1 200 a : b\r\nX \t: 1 : 2\r\nContent-Length : 2\r\n\r\nhi : x").expect("RFC 9112 5.1");
        let fields: Vec<_> = head.fields().map(|field| (field.text, field.value)).collect();
        assert_eq!(fields, [(b"X".as_slice(), b"1 : 2".as_slice()), (b"Content-Length", b"2")]);
        assert_eq!((head.reason(), head.rest()), (b"a : b".as_slice(), b"hi : x".as_slice()));
        for text in [&b"HTTP/1.1 200 OK\r\n : 1\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\nX y : 1\r\n\r\n"] {
            assert!(parse(text).is_err(), "{}", text.escape_ascii());
        }
        for request in [b"GET / HTTP/1.1\r\nX : 1\r\n\r\n".to_vec(), b"GET / HTTP/1.1\r\nX\t: 1\r\n\r\n".to_vec()] {
            let end = request.len();
            let refused = Head::request(request, 0, end, 100).map_err(|(error, _)| error).err();
            assert_eq!(refused, Some(HeadError::BadField), "RFC 9112 5.1");
        }
    }

    #[test]
    fn recycled_storage_holds_nothing_of_the_last_head() {
        let mut first = head();
        first.add("Via", &[b"1.1 plimsoll"]);
        let (_, _, storage) = first.recycle();
        let bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
        let end = bytes.len();
        let Ok(second) = Head::parse(storage, Kind::Request, bytes, 0, end, 100) else { panic!("a sound head") };
        assert_eq!(written(&second), "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }

    #[test]
    fn bytes_that_are_no_whole_head_are_refused_and_come_back() {
        for (bytes, start, end) in [
            (b"".as_slice(), 0, 0),
            (b"GET / HTTP/1.1\r\n", 0, 16),
            (b"GET / HTTP/1.1\r\n\r\n", 0, 17),
            (b"GET / HTTP/1.1\r\n\r\n", 0, 19),
            (b"GET / HTTP/1.1\r\n\r\n", 18, 18),
            (b"GET / HTTP/1.1\r\n\r\nA: b\r\n\r\n", 0, 26),
            (b"\r\n\r\n", 0, 4),
        ] {
            let back = Head::request(bytes.to_vec(), start, end, 100).map_err(|(_, bytes)| bytes).err();
            assert_eq!(back.as_deref(), Some(bytes), "{} {start}..{end}", bytes.escape_ascii());
        }
    }
}
