//! Field lines (RFC 9112 §5): tokenised by httparse, noted as offsets, their names recognised.
//!
//! httparse refuses white space before the colon, names that are not tokens and control bytes in values. What it would
//! let pass is refused here: lines that end in LF alone.

use httparse::{EMPTY_HEADER, Header, Status};

use super::head::{HeadError, Span};
use super::name::{Name, NameSet, Names};

/// One field line of a head.
#[derive(Debug, Clone, Copy)]
pub struct FieldRef<'a> {
    /// The name as sent: a token, its case kept.
    pub text: &'a [u8],
    /// The name as recognised.
    pub name: Name,
    /// The value without the white space around it.
    pub value: &'a [u8],
    /// For `Head::remove_at`.
    pub index: usize,
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

/// A field line: it begins with its name and ends where the next begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) start: u32,
    pub(super) name_end: u32,
    pub(super) value: Span,
    pub(super) name: Name,
    pub(super) removed: bool,
}

/// Fields that are parsed with slots on the stack; heads with more are parsed again with as many as are allowed.
const FIELDS_USUAL: usize = 24;

/// Reads the field lines that begin at `fields_start`, up to the empty line. Returns where that ends, which names are there
/// and what `Connection` says.
pub(super) fn parse_fields(
    bytes: &[u8],
    fields_start: usize,
    fields_max: usize,
    fields: &mut Vec<Field>,
) -> Result<(usize, Names, ConnectionOptions), HeadError> {
    let lines = &bytes[fields_start..];
    let mut usual = [EMPTY_HEADER; FIELDS_USUAL];
    let allowed = fields_max.min(FIELDS_USUAL);
    let (length, names) = match httparse::parse_headers(lines, &mut usual[..allowed]) {
        Err(httparse::Error::TooManyHeaders) if fields_max > FIELDS_USUAL => {
            // A field takes four bytes at least.
            let mut slots = vec![EMPTY_HEADER; fields_max.min(lines.len() / 4)];
            note_fields(bytes, httparse::parse_headers(lines, &mut slots), fields)?
        }
        parsed => note_fields(bytes, parsed, fields)?,
    };
    let connection = ConnectionOptions::of(bytes, fields, names.seen);
    Ok((fields_start + length, names, connection))
}

/// Notes what httparse found. Returns the length of all lines, and which names are there.
#[inline]
fn note_fields(
    bytes: &[u8],
    parsed: httparse::Result<(usize, &[Header<'_>])>,
    fields: &mut Vec<Field>,
) -> Result<(usize, Names), HeadError> {
    let (length, parsed) = match parsed {
        Ok(Status::Complete(parsed)) => parsed,
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyFields),
        Ok(Status::Partial) | Err(_) => return Err(HeadError::BadField),
    };
    let base = bytes.as_ptr() as usize;
    let offset = |part: &[u8]| part.as_ptr() as usize - base;
    let mut names = Names::default();
    let mut lines_end_well = true;
    fields.extend(parsed.iter().map(|header| {
        let (start, value) = (offset(header.name.as_bytes()), offset(header.value));
        let name = Name::recognise(header.name.as_bytes());
        names.note(name);
        lines_end_well &= bytes.get(start.wrapping_sub(2)) == Some(&b'\r');
        Field {
            start: start as u32,
            name_end: (start + header.name.len()) as u32,
            value: Span { start: value as u32, end: (value + header.value.len()) as u32 },
            name,
            removed: false,
        }
    }));
    if lines_end_well { Ok((length, names)) } else { Err(HeadError::BareLineFeed) }
}

/// The same response without the white space between names and colons, and where its head ends then: RFC 9112 §5.1 asks
/// that of a proxy (in requests it is an error). `None` where there is none.
#[cold]
pub(super) fn close_up_names(bytes: &[u8], end: usize) -> Option<(Vec<u8>, usize)> {
    let mut closed = Vec::with_capacity(bytes.len());
    for line in bytes.get(..end)?.split_inclusive(|byte| *byte == b'\n') {
        let colon = if closed.is_empty() { None } else { memchr::memchr(b':', line) };
        let name_end = colon.map(|colon| line[..colon].trim_ascii_end().len()).filter(|length| *length > 0);
        match (name_end, colon) {
            (Some(name_end), Some(colon)) => closed.extend_from_slice(&[&line[..name_end], &line[colon..]].concat()),
            _ => closed.extend_from_slice(line),
        }
    }
    let closed_end = closed.len();
    closed.extend_from_slice(&bytes[end..]);
    (closed_end < end).then_some((closed, closed_end))
}

impl ConnectionOptions {
    /// What the fields of a head say, of which `seen` are there.
    #[inline]
    pub(super) fn of(head: &[u8], fields: &[Field], seen: NameSet) -> Self {
        let mut connection = Self::default();
        if seen.contains(Name::Connection) {
            for field in fields.iter().filter(|field| field.name == Name::Connection) {
                connection.read(&head[field.value.start as usize..field.value.end as usize]);
            }
        }
        connection
    }

    fn read(&mut self, value: &[u8]) {
        if memchr::memchr(b',', value).is_none() {
            self.read_option(value);
        } else {
            list(value).for_each(|option| self.read_option(option));
        }
    }

    fn read_option(&mut self, option: &[u8]) {
        match Name::recognise(option) {
            Name::Other if option.eq_ignore_ascii_case(b"close") => self.close = true,
            Name::Other => self.others |= !option.is_empty(),
            name => {
                self.keep_alive |= name == Name::KeepAlive;
                self.names.insert(name);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Head;

    const START_LINES: [&[u8]; 2] = [b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n"];

    /// A name and a value.
    type Line = (Vec<u8>, Vec<u8>);

    /// A line, the name and the value in it, and where that is written.
    type Accepted = (&'static [u8], &'static [u8], &'static [u8], &'static str);

    /// The fields, read in a request and in a response, which must agree. (But for white space before a colon, which a
    /// proxy takes off in responses: `head` has that.)
    fn parse(lines: &[u8], fields_max: usize) -> Result<Vec<Line>, HeadError> {
        let [request, response] = START_LINES.map(|start_line| {
            let bytes = [start_line, lines, b"\r\n"].concat();
            let end = bytes.len();
            let head = if start_line.starts_with(b"GET") {
                Head::request(bytes, 0, end, fields_max)
            } else {
                Head::response(bytes, 0, end, fields_max)
            };
            let head = head.map_err(|(error, _)| error)?;
            Ok(head.fields().map(|field| (field.text.to_vec(), field.value.to_vec())).collect::<Vec<_>>())
        });
        assert_eq!(request, response, "{}", lines.escape_ascii());
        request
    }

    #[test]
    fn field_lines_are_read_as_rfc_9112_section_5_says() {
        let accepted: &[Accepted] = &[
            (b"A: b\r\n", b"A", b"b", "RFC 9112 5"),
            (b"A:b\r\n", b"A", b"b", "RFC 9112 5: white space is optional"),
            (b"A: \t b \t\r\n", b"A", b"b", "RFC 9112 5.1: not part of the value"),
            (b"A:\r\n", b"A", b"", "RFC 9110 5.5: an empty value"),
            (b"A: \t \r\n", b"A", b"", "RFC 9110 5.5: an empty value"),
            (b"A: b c\td\r\n", b"A", b"b c\td", "RFC 9110 5.5: SP and HTAB inside"),
            (b"A: b:c\r\n", b"A", b"b:c", "RFC 9112 5: the first colon"),
            (b"A: \xe9\xff\r\n", b"A", b"\xe9\xff", "RFC 9110 5.5: obs-text"),
            (b"!#$%&'*+-.^_`|~: b\r\n", b"!#$%&'*+-.^_`|~", b"b", "RFC 9110 5.6.2: tchar"),
        ];
        for (line, name, value, why) in accepted {
            assert_eq!(parse(line, 100), Ok(vec![(name.to_vec(), value.to_vec())]), "{why}");
        }
        let refused: &[(&[u8], HeadError, &str)] = &[
            (b": b\r\n", HeadError::BadField, "RFC 9110 5.1: an empty name"),
            (b"A b: c\r\n", HeadError::BadField, "RFC 9110 5.1: white space in a name"),
            (b"A\r\n", HeadError::BadField, "RFC 9112 5: no colon"),
            (b"A(b): c\r\n", HeadError::BadField, "RFC 9110 5.6.2: a delimiter in a name"),
            (b"\xc3\xa9: c\r\n", HeadError::BadField, "RFC 9110 5.6.2: not ASCII in a name"),
            (b"A: b\x01c\r\n", HeadError::BadField, "RFC 9110 5.5: a control byte"),
            (b"A: b\x0bc\r\n", HeadError::BadField, "RFC 9110 5.5: a control byte"),
            (b"A: b\x7fc\r\n", HeadError::BadField, "RFC 9110 5.5: a control byte"),
            (b"A: b\0c\r\n", HeadError::Nul, "RFC 9110 5.5: NUL"),
            (b"A\0: b\r\n", HeadError::Nul, "RFC 9110 5.5: NUL"),
            (b"A: b\r\n c\r\n", HeadError::ObsFold, "RFC 9112 5.2: obs-fold"),
            (b"A: b\r\n\tc\r\n", HeadError::ObsFold, "RFC 9112 5.2: obs-fold"),
            (b"A: b\r\n \r\n", HeadError::ObsFold, "RFC 9112 5.2: obs-fold of nothing"),
            (b" A: b\r\n", HeadError::ObsFold, "RFC 9112 2.2: white space before the first field"),
            (b"A: b\nC: d\r\n", HeadError::BareLineFeed, "RFC 9112 2.2"),
            (b"A: b\n\r\n", HeadError::BareLineFeed, "RFC 9112 2.2"),
            (b"A:\nC: d\r\n", HeadError::BareLineFeed, "RFC 9112 2.2"),
            (b"\nA: b\r\n", HeadError::BareLineFeed, "RFC 9112 2.2"),
            (b"A: b\rC: d\r\n", HeadError::BareCarriageReturn, "RFC 9112 2.2"),
            (b"A: b\r\r\n", HeadError::BareCarriageReturn, "RFC 9112 2.2"),
            (b"\rA: b\r\n", HeadError::BareCarriageReturn, "RFC 9112 2.2"),
        ];
        for (line, expected, why) in refused {
            assert_eq!(parse(line, 100), Err(*expected), "{why}: {}", line.escape_ascii());
            let later = [b"X: y\r\n", *line, b"Z: z\r\n"].concat();
            assert_eq!(parse(&later, 100), Err(*expected), "{why}: {}", later.escape_ascii());
        }
    }

    #[test]
    fn as_many_fields_as_allowed_are_read_and_one_more_is_refused() {
        for fields_max in [1, 31, 32, 33, 100, 1000] {
            let lines = b"A: b\r\n".repeat(fields_max);
            assert_eq!(parse(&lines, fields_max).map(|fields| fields.len()), Ok(fields_max));
            let lines = b"A: b\r\n".repeat(fields_max + 1);
            assert_eq!(parse(&lines, fields_max), Err(HeadError::TooManyFields));
        }
    }

    #[test]
    fn connection_options_are_read_from_all_fields_of_that_name() {
        let none = ConnectionOptions::default();
        let named = |names: &[Name]| ConnectionOptions { names: NameSet::of(names), ..none };
        let cases: &[(&[u8], ConnectionOptions)] = &[
            (b"A: close\r\n", none),
            (b"Connection: close\r\n", ConnectionOptions { close: true, ..none }),
            (b"Connection: CLOSE\r\n", ConnectionOptions { close: true, ..none }),
            (b"Connection: Keep-Alive\r\n", ConnectionOptions { keep_alive: true, ..named(&[Name::KeepAlive]) }),
            (b"Connection: \r\n", none),
            (b"Connection: ,\t,\r\n", none),
            (b"Connection: Upgrade, te ,\r\n", named(&[Name::Upgrade, Name::Te])),
            (b"Connection: te\r\nA: b\r\nCONNECTION: host\r\n", named(&[Name::Te, Name::Host])),
            (b"Connection: x-a, close\r\n", ConnectionOptions { close: true, others: true, ..none }),
            (b"Connection: closed\r\n", ConnectionOptions { others: true, ..none }),
        ];
        for (lines, expected) in cases {
            let bytes = [START_LINES[0], lines, b"\r\n"].concat();
            let end = bytes.len();
            let Ok(head) = Head::request(bytes, 0, end, 100) else { panic!("{}", lines.escape_ascii()) };
            assert_eq!(head.connection(), *expected, "{}", lines.escape_ascii());
        }
    }

    #[test]
    fn lists_leave_out_empty_members_and_white_space() {
        let members: Vec<&[u8]> = list(b" ,a\t, b c,, ,d ").collect();
        assert_eq!(members, [b"a".as_slice(), b"b c", b"d"]);
    }
}
