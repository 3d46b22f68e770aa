//! A message head that stays in the buffer it was read into, with offsets to its parts.
//!
//! Nothing is copied while a head is parsed: a [`Head`] is the bytes that the socket gave, the place of each field in
//! them, and a bit per known name. Removing a field marks its line, adding one appends to a side buffer, and
//! `write` copies what is kept by contiguous ranges. The fields are tokenised by httparse (RFC 9112 §5: no white space
//! before the colon, no empty name, no control bytes); the start line is parsed here, because httparse is more lenient
//! there than RFC 9112 §3 and §4 and refuses versions that RFC 9110 §2.5 wants accepted.
//!
//! Always true: every [`Span`] lies in the head, names are tokens, values have no white space around them and hold no
//! CR, LF or NUL.

use httparse::{EMPTY_HEADER, Header, Status};

use super::name::{Name, NameSet};

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

/// What the `Connection` fields of a message say, read once while it is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionOptions {
    /// The known field names that are listed as options.
    pub names: NameSet,
    /// `close` is listed.
    pub close: bool,
    /// `keep-alive` is listed.
    pub keep_alive: bool,
    /// An option is listed that is none of the above: look for fields of that name.
    pub others: bool,
}

/// One field line of a head.
#[derive(Debug, Clone, Copy)]
pub struct FieldRef<'a> {
    /// The name as sent: a token, its case kept.
    pub text: &'a [u8],
    /// The name as recognised.
    pub name: Name,
    /// The value without the white space around it.
    pub value: &'a [u8],
    /// For [`Head::remove_at`].
    pub index: usize,
}

/// The head of a request or of a response, and what was read after it.
#[derive(Debug)]
pub struct Head {
    bytes: Vec<u8>,
    end: u32,
    line: StartLine,
    version: Version,
    fields_start: u32,
    /// Names of fields that are there and not removed.
    seen: NameSet,
    connection: ConnectionOptions,
    any_removed: bool,
    storage: HeadStorage,
}

/// What a [`Head`] needs on the heap besides its bytes. Worth recycling: two allocations per message.
#[derive(Debug, Default)]
pub struct HeadStorage {
    fields: Vec<Field>,
    /// Whole lines, each with its CRLF.
    added: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum StartLine {
    Request { method: Method, method_text: Span, target: Span },
    Response { status: u16, reason: Span },
}

/// A field line: it begins with its name and ends where the next begins.
#[derive(Debug, Clone, Copy)]
struct Field {
    start: u32,
    name_end: u32,
    value: Span,
    name: Name,
    removed: bool,
}

// Making and taking apart.

impl Head {
    /// Parses the request head in `bytes[start..end]`, as [`super::HeadScanner`] found it (which has refused bare CR
    /// and LF, NUL and folding). What follows it in `bytes` is kept: see [`Head::rest`].
    ///
    /// # Errors
    /// The start line or a field is malformed, or there are more than `fields_max`. The bytes come back.
    #[inline]
    pub fn request(bytes: Vec<u8>, start: usize, end: usize, fields_max: usize) -> Result<Self, (HeadError, Vec<u8>)> {
        Self::request_in(HeadStorage::default(), bytes, start, end, fields_max)
    }

    /// [`Head::request`] in storage that another head gave back.
    ///
    /// # Errors
    /// As for [`Head::request`].
    pub fn request_in(
        storage: HeadStorage,
        bytes: Vec<u8>,
        start: usize,
        end: usize,
        fields_max: usize,
    ) -> Result<Self, (HeadError, Vec<u8>)> {
        Self::parse(storage, bytes, start, end, fields_max, request_line)
    }

    /// Parses a response head: as [`Head::request`]. Nothing may stand before it, so `start` other than 0 is an error.
    ///
    /// # Errors
    /// As for [`Head::request`].
    #[inline]
    pub fn response(bytes: Vec<u8>, start: usize, end: usize, fields_max: usize) -> Result<Self, (HeadError, Vec<u8>)> {
        Self::response_in(HeadStorage::default(), bytes, start, end, fields_max)
    }

    /// [`Head::response`] in storage that another head gave back.
    ///
    /// # Errors
    /// As for [`Head::request`].
    pub fn response_in(
        storage: HeadStorage,
        bytes: Vec<u8>,
        start: usize,
        end: usize,
        fields_max: usize,
    ) -> Result<Self, (HeadError, Vec<u8>)> {
        if start != 0 {
            return Err((HeadError::BadStartLine, bytes));
        }
        Self::parse(storage, bytes, start, end, fields_max, status_line)
    }

    #[inline]
    fn parse(
        mut storage: HeadStorage,
        bytes: Vec<u8>,
        start: usize,
        end: usize,
        fields_max: usize,
        start_line: impl FnOnce(&[u8], usize) -> Result<(StartLine, Version), HeadError>,
    ) -> Result<Self, (HeadError, Vec<u8>)> {
        storage.fields.clear();
        storage.added.clear();
        let parsed = whole_head(&bytes, start, end).and_then(|(line_end, fields_start)| {
            let line = start_line(&bytes[..line_end], start)?;
            let known = parse_fields(&bytes[..end], fields_start, fields_max, &mut storage.fields)?;
            Ok((line, known, fields_start))
        });
        match parsed {
            Ok(((line, version), (seen, connection), fields_start)) => Ok(Self {
                bytes,
                end: end as u32,
                line,
                version,
                fields_start: fields_start as u32,
                seen,
                connection,
                any_removed: false,
                storage,
            }),
            Err(error) => Err((error, bytes)),
        }
    }

    /// Gives back the buffer and where the head ends in it.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, usize) {
        (self.bytes, self.end as usize)
    }

    /// [`Head::into_parts`] with the storage for the next head.
    #[must_use]
    pub fn recycle(self) -> (Vec<u8>, usize, HeadStorage) {
        (self.bytes, self.end as usize, self.storage)
    }

    /// What was read after the head: the beginning of the body, or the next message.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.end as usize..]
    }
}

// The start line.

impl Head {
    /// The method of a request; [`Method::Other`] for a response.
    #[inline]
    #[must_use]
    pub fn method(&self) -> Method {
        match self.line {
            StartLine::Request { method, .. } => method,
            StartLine::Response { .. } => Method::Other,
        }
    }

    /// The method as sent; empty for a response.
    #[must_use]
    pub fn method_text(&self) -> &[u8] {
        match self.line {
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
        match self.line {
            StartLine::Request { target, .. } => target,
            StartLine::Response { .. } => Span::default(),
        }
    }

    /// The version as sent.
    #[inline]
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The status of a response, 100 to 599; 0 for a request.
    #[inline]
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.line {
            StartLine::Response { status, .. } => status,
            StartLine::Request { .. } => 0,
        }
    }

    /// The reason phrase of a response, often empty.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        match self.line {
            StartLine::Response { reason, .. } => self.text(reason),
            StartLine::Request { .. } => b"",
        }
    }

    /// The bytes of a part of this head.
    #[inline]
    #[must_use]
    pub fn text(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }
}

// Fields. Removed ones are not seen by any of these, added lines neither.

impl Head {
    /// Whether a field of this name is there. Costs one bit test, so ask before looking.
    #[inline]
    #[must_use]
    pub fn has(&self, name: Name) -> bool {
        self.seen.contains(name)
    }

    /// Whether a field of one of these names is there.
    #[inline]
    #[must_use]
    pub fn has_any(&self, names: NameSet) -> bool {
        self.seen.intersects(names)
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
        self.storage.fields.iter().find(|field| field.name == name && !field.removed).map(|field| field.value)
    }

    /// The values of all fields of this name, in order.
    pub fn all(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        let fields: &[Field] = if self.has(name) { &self.storage.fields } else { &[] };
        fields.iter().filter(move |field| field.name == name && !field.removed).map(|field| self.text(field.value))
    }

    /// All fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = FieldRef<'_>> {
        self.storage.fields.iter().enumerate().filter(|(_, field)| !field.removed).map(|(index, field)| FieldRef {
            text: &self.bytes[field.start as usize..field.name_end as usize],
            name: field.name,
            value: self.text(field.value),
            index,
        })
    }

    /// What the `Connection` fields said when the head was parsed.
    #[inline]
    #[must_use]
    pub fn connection(&self) -> ConnectionOptions {
        self.connection
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
        for field in self.storage.fields.iter_mut().filter(|field| names.contains(field.name)) {
            field.removed = true;
        }
        self.seen.subtract(names);
        self.any_removed = true;
    }

    /// Removes the field that [`FieldRef::index`] told.
    pub fn remove_at(&mut self, index: usize) {
        let Some(field) = self.storage.fields.get_mut(index) else { return };
        field.removed = true;
        let name = field.name;
        self.any_removed = true;
        if !self.storage.fields.iter().any(|field| field.name == name && !field.removed) {
            self.seen.remove(name);
        }
    }

    /// Removes all fields of this name, whatever its case, also ones that no [`Name`] stands for.
    pub fn remove_text(&mut self, name: &[u8]) {
        match Name::recognise(name) {
            Name::Other => {
                for index in 0..self.storage.fields.len() {
                    let Field { start, name_end, name: known, removed, .. } = self.storage.fields[index];
                    let text = &self.bytes[start as usize..name_end as usize];
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
        let added = &mut self.storage.added;
        added.extend_from_slice(name.as_bytes());
        added.extend_from_slice(b": ");
        for part in value {
            added.extend_from_slice(part);
        }
        added.extend_from_slice(b"\r\n");
        debug_assert!(!value.iter().any(|part| part.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))));
    }

    /// The lines that were added, each with its CRLF.
    pub(super) fn added(&self) -> &[u8] {
        &self.storage.added
    }

    /// How many bytes all field lines have that were read.
    pub(super) fn fields_bytes(&self) -> usize {
        (self.end - self.fields_start) as usize
    }

    /// The field lines that are kept, as contiguous ranges, each line with its CRLF.
    #[inline]
    pub(super) fn kept(&self, mut copy: impl FnMut(&[u8])) {
        let mut from = self.fields_start as usize;
        let end = self.end as usize - CRLF.len();
        if self.any_removed {
            let mut fields = self.storage.fields.iter().peekable();
            while let Some(field) = fields.next() {
                let next = fields.peek().map_or(end, |next| next.start as usize);
                if field.removed {
                    if from < field.start as usize {
                        copy(&self.bytes[from..field.start as usize]);
                    }
                    from = next;
                }
            }
        }
        if from < end {
            copy(&self.bytes[from..end]);
        }
    }
}

// Parsing.

const CRLF: &[u8] = b"\r\n";

/// Where the start line ends, and where the fields begin, in what the scanner says is a whole head.
fn whole_head(bytes: &[u8], start: usize, end: usize) -> Result<(usize, usize), HeadError> {
    if u32::try_from(end).is_err() {
        return Err(HeadError::TooLarge);
    }
    let line = bytes.get(start..end).ok_or(HeadError::BadStartLine)?;
    if !line.ends_with(b"\r\n\r\n") {
        return Err(HeadError::BadStartLine);
    }
    let length = memchr::memchr(b'\r', line).ok_or(HeadError::BadStartLine)?;
    Ok((start + length, start + length + CRLF.len()))
}

/// `method SP request-target SP HTTP-version` (RFC 9112 §3), with exactly those two spaces.
fn request_line(bytes: &[u8], start: usize) -> Result<(StartLine, Version), HeadError> {
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
    let version = parse_version(version)?;
    let method_end = (start + length) as u32;
    let method_text = Span { start: start as u32, end: method_end };
    let target = Span { start: method_end + 1, end: line.len() as u32 };
    Ok((StartLine::Request { method, method_text, target }, version))
}

/// `HTTP-version SP status-code SP [ reason-phrase ]` (RFC 9112 §4). The second space may be missing where there is no
/// reason: many servers leave it out, and nothing can be read in two ways by that.
fn status_line(line: &[u8], _start: usize) -> Result<(StartLine, Version), HeadError> {
    let (version, after) = line.split_first_chunk::<VERSION_BYTES>().ok_or(HeadError::BadStartLine)?;
    let version = parse_version(version)?;
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
fn parse_version(text: &[u8; VERSION_BYTES]) -> Result<Version, HeadError> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => Ok(Version::Http11),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(HeadError::UnsupportedVersion),
        _ => Err(HeadError::BadStartLine),
    }
}

/// Fields that are parsed with slots on the stack; heads with more are parsed again with as many as are allowed.
const FIELDS_USUAL: usize = 32;

fn parse_fields(
    head: &[u8],
    fields_start: usize,
    fields_max: usize,
    fields: &mut Vec<Field>,
) -> Result<(NameSet, ConnectionOptions), HeadError> {
    let lines = &head[fields_start..];
    let mut usual = [EMPTY_HEADER; FIELDS_USUAL];
    let allowed = fields_max.min(FIELDS_USUAL);
    match httparse::parse_headers(lines, &mut usual[..allowed]) {
        Err(httparse::Error::TooManyHeaders) if fields_max > FIELDS_USUAL => {
            // A field takes four bytes at least.
            let mut slots = vec![EMPTY_HEADER; fields_max.min(lines.len() / 4)];
            let parsed = httparse::parse_headers(lines, &mut slots);
            note_fields(head, fields_start, parsed, fields)
        }
        parsed => note_fields(head, fields_start, parsed, fields),
    }
}

#[inline]
fn note_fields(
    head: &[u8],
    fields_start: usize,
    parsed: httparse::Result<(usize, &[Header<'_>])>,
    fields: &mut Vec<Field>,
) -> Result<(NameSet, ConnectionOptions), HeadError> {
    let parsed = match parsed {
        Ok(Status::Complete((length, parsed))) if fields_start + length == head.len() => parsed,
        Ok(_) => return Err(HeadError::BadField),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyFields),
        Err(_) => return Err(HeadError::BadField),
    };
    let base = head.as_ptr() as usize;
    let mut seen = NameSet::EMPTY;
    let mut connection = ConnectionOptions::default();
    fields.reserve(parsed.len());
    for header in parsed {
        let name = Name::recognise(header.name.as_bytes());
        seen.insert(name);
        if name == Name::Connection {
            connection.read(header.value);
        }
        let start = (header.name.as_ptr() as usize - base) as u32;
        let value = (header.value.as_ptr() as usize - base) as u32;
        fields.push(Field {
            start,
            name_end: start + header.name.len() as u32,
            value: Span { start: value, end: value + header.value.len() as u32 },
            name,
            removed: false,
        });
    }
    Ok((seen, connection))
}

impl ConnectionOptions {
    fn read(&mut self, value: &[u8]) {
        for option in list(value) {
            match Name::recognise(option) {
                Name::KeepAlive => {
                    self.names.insert(Name::KeepAlive);
                    self.keep_alive = true;
                }
                Name::Other if option.eq_ignore_ascii_case(b"close") => self.close = true,
                Name::Other => self.others = true,
                name => self.names.insert(name),
            }
        }
    }
}

/// The members of a comma-separated list without the white space around them; empty ones are left out (RFC 9110
/// §5.6.1). For lists without quoted strings.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty())
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Whether `text` is a token (RFC 9110 §5.6.2).
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

/// Whether `byte` may stand in a token (RFC 9110 §5.6.2).
#[inline]
pub(super) const fn is_token_byte(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
    ) || byte.is_ascii_alphanumeric()
}
