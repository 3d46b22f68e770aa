//! Field lines (RFC 9112 §5): tokenised by httparse, noted as offsets, their names recognised.
//!
//! httparse refuses white space before the colon, names that are not tokens and control bytes in values. What it would
//! let pass is refused here: lines that end in LF alone.

use httparse::{EMPTY_HEADER, Header, Status};

use super::head::{HeadError, Span};
use super::name::{Name, NameSet};

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
const FIELDS_USUAL: usize = 32;

pub(super) fn parse_fields(
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
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyFields),
        Ok(_) | Err(_) => return Err(HeadError::BadField),
    };
    let base = head.as_ptr() as usize;
    let offset = |part: &[u8]| part.as_ptr() as usize - base;
    let mut seen = NameSet::EMPTY;
    let mut lines_end_well = true;
    fields.extend(parsed.iter().map(|header| {
        let (start, value) = (offset(header.name.as_bytes()), offset(header.value));
        let name = Name::recognise(header.name.as_bytes());
        seen.insert(name);
        lines_end_well &= head.get(start.wrapping_sub(2)) == Some(&b'\r');
        Field {
            start: start as u32,
            name_end: (start + header.name.len()) as u32,
            value: Span { start: value as u32, end: (value + header.value.len()) as u32 },
            name,
            removed: false,
        }
    }));
    if !lines_end_well {
        return Err(HeadError::BareLineFeed);
    }
    let mut connection = ConnectionOptions::default();
    if seen.contains(Name::Connection) {
        for field in fields.iter().filter(|field| field.name == Name::Connection) {
            connection.read(&head[field.value.start as usize..field.value.end as usize]);
        }
    }
    Ok((seen, connection))
}

impl ConnectionOptions {
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
